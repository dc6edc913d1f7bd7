"""Measure whether learning rates transfer across sizes, with and without jinit.mup."""
