"""This package checks arguments and handles dtypes, trees, meshes and programs.

It knows no initializer and no Flax.
"""
