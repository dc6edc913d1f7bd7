"""State-space layers: HiPPO and its diagonal forms, the ring of the LRU, Mamba."""

from . import _hippo, _mamba, _ring
from ._hippo import hippo_legs, s4d_inv, s4d_legs, s4d_lin, s4d_real
from ._mamba import mamba_a_log, mamba_dt_bias
from ._ring import lru_ring

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
__dir__ = __all__.copy  # for `dir`, which would show the imports too


ENTRIES = (*_hippo.ENTRIES, *_ring.ENTRIES, *_mamba.ENTRIES)
