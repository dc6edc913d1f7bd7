"""Initializers of state-space layers: HiPPO, the ring of the LRU, Mamba."""
