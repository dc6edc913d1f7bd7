"""This package draws orthogonal matrices, and makes kernels of them.

`kernels.py` and `looks_linear.py` have the public makers, `matrices.py` reads a shape
as a stack of matrices, and `haar.py` and `polar.py` are two ways to draw a matrix.
"""
