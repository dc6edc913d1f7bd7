"""The schemes of jinit lie here: one family in each file, and the registry of all.

A file has the initializers of its family as frozen dataclasses, which check their
settings and know how to draw, and below them the public makers, which return them. The
decorator `scheme` above a maker enters it in the registry.
"""
