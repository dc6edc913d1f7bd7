"""`materialize` runs an init function, and compiles each distinct sampler once."""
