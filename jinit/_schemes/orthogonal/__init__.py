"""Orthogonal matrices, and the kernels that are made of them."""
