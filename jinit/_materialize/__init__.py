"""An init function is run without compiling the sampler of every parameter again."""
