"""This package has the class `Initializer`, and initializers made of initializers."""
