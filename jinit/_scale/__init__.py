"""This package computes scales: fans of shapes, gains of activations, factors of depth.

All of them are Python numbers, and no program is compiled for them.
"""
