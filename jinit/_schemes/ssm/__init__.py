"""State-space layers have three families of schemes: HiPPO, the LRU's ring, Mamba."""
