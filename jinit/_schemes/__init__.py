"""Every scheme, one family in a file, and the registry that lists all of them."""
