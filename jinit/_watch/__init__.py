"""OPTIMIZER -> the same optimizer, observed: `jinit.watch` and `jinit.watched`."""
