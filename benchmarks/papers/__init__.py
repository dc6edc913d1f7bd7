"""Reproduce by command what published papers claim about initialization."""
