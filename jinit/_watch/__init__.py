"""This package observes an optimizer: `jinit.watch` and `jinit.watched`."""
