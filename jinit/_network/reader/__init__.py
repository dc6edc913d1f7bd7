"""The reader finds out what each parameter does, from the equations of a network.

`read` (read.py) goes through the equations once. Values (values.py) are views of
parameters, data, or constants, and the files named after operations say what becomes of
them. Each use of a parameter is logged (uses.py), and at the end the uses decide its
roles, its layout and its fans (roles.py).
"""
