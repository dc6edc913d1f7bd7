"""The value `Initializer`, and the initializers that are made of other initializers."""
