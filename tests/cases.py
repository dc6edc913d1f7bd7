"""One way to make each scheme of the registry, for the tests that run over all."""

import jinit

_ARGUMENTS = {
    "variance_scaling": (3.0, "fan_avg", "normal"),
    "constant": (0.25,),
}

# name -> initializer
INITIALIZERS = {
    name: entry.maker(*_ARGUMENTS.get(name, ()))
    for name, entry in jinit.registry.items()
}

# Those that do not look at the key, and so give equal values for every key.
CONSTANT = {"constant", "zeros", "ones"}

# Those whose every entry follows one law with one standard deviation.
RANDOM = sorted(set(INITIALIZERS) - CONSTANT - {"orthogonal", "delta_orthogonal"})


def shape_for(name: str) -> tuple[int, ...]:
    """A small shape that the scheme takes."""
    return (3, 3, 4, 8) if name == "delta_orthogonal" else (6, 10)
