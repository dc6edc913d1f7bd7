"""A model becomes equations, and the equations show its layers.

This is the only package that knows Flax, and the only one that knows the inside of JAX.
"""
