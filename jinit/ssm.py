"""These schemes start state-space layers: HiPPO, its diagonal forms, LRU and Mamba."""

from ._core.names import publish
from ._schemes.ssm.hippo import hippo_legs, s4d_inv, s4d_legs, s4d_lin, s4d_real
from ._schemes.ssm.lru import lru_ring
from ._schemes.ssm.mamba import mamba_a_log, mamba_dt_bias

__all__ = [
    "hippo_legs",
    "lru_ring",
    "mamba_a_log",
    "mamba_dt_bias",
    "s4d_inv",
    "s4d_legs",
    "s4d_lin",
    "s4d_real",
]
# Without this `dir` would show the imports as well.
__dir__ = __all__.copy
publish(__name__, *map(globals().get, __all__))
