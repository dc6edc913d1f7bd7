"""An audit tells whether a model is initialized as its author meant.

`audit` (audit.py) measures each parameter (measured.py) and looks for the law that
gives its numbers (laws.py): a right one over the axes that the network shows, or a
wrong one. Findings follow from the laws, from gains in chains of layers, and from a
first loss.
"""
