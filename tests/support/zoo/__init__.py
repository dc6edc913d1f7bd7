"""Models in the styles of many code bases, with what is true of their parameters."""
