"""A model is traced to JAX's equations, and the equations show the model's layers.

This is the only package that knows Flax and other libraries (adapters/), and
equations.py is the only file that knows JAX's internals. Begin with record.py, which
makes the record `Network` of a model. Then read reader/, which finds out what each
parameter does, taps.py, which records values while a network runs, and interpret.py,
the loop that evaluates equations.
"""
