"""This package has the schemes of jinit, one family in each file, and their registry.

A scheme is a way to initialize an array, such as He's. A file has the initializers of
its family as frozen dataclasses, which check their settings and know how to draw. Below
them are the public makers: functions that take settings and return an initializer. The
decorator `scheme` above a maker enters it in the registry.
"""
