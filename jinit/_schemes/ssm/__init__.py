"""Initializers of state-space layers: HiPPO, the ring of the LRU, Mamba."""

from . import hippo, lru, mamba

ENTRIES = (*hippo.ENTRIES, *lru.ENTRIES, *mamba.ENTRIES)
