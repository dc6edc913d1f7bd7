"""These schemes start state-space layers and linear recurrences.

They are HiPPO and its diagonal forms, LRU, RG-LRU, Mamba and Mamba-2, and RWKV-7.
"""

from ._core.names import publish
from ._schemes.ssm.decay import a_log, rg_lru_lambda
from ._schemes.ssm.hippo import hippo_legs, s4d_inv, s4d_legs, s4d_lin, s4d_real
from ._schemes.ssm.lru import lru_ring
from ._schemes.ssm.mamba import mamba_a_log, mamba_dt_bias
from ._schemes.ssm.rwkv7 import rwkv7_decay, rwkv7_mix, rwkv7_vector

__all__ = [
    "a_log",
    "hippo_legs",
    "lru_ring",
    "mamba_a_log",
    "mamba_dt_bias",
    "rg_lru_lambda",
    "rwkv7_decay",
    "rwkv7_mix",
    "rwkv7_vector",
    "s4d_inv",
    "s4d_legs",
    "s4d_lin",
    "s4d_real",
]
# Without this `dir` would show the imports as well.
__dir__ = __all__.copy
publish(__name__, *map(globals().get, __all__))
