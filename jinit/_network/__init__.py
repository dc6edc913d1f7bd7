"""A model is traced to JAX's equations, and the equations show the model's layers.

This is the only package that knows Flax, and equations.py is the only file that knows
JAX's internals. Begin with network.py, which turns a model into a function whose layers
have names. Then read taps.py, which records the named values, and interpret.py, the
loop that evaluates equations.
"""
