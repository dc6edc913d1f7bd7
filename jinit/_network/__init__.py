"""A model becomes equations, and the equations show its layers.

This is the only package that knows Flax, and equations.py is the only file that knows
JAX's internals. Begin with network.py, which turns a model into a function whose layers
have names; then taps.py, which reads the named values; then interpret.py, the loop that
runs equations.
"""
