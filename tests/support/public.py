"""List every public name of jinit with its object, for tests of all of them."""

import jinit

MODULES = ("mup", "nnx", "random", "recipes", "recurrent", "ssm", "theory")


def public_objects():
    """Yield each function and class of jinit and of its modules with its name."""
    # Arrays and tables have no docstrings, and the functions of NNX are those of Linen.
    modules = set(MODULES) - {"nnx"}
    for name in sorted({*jinit.__all__} - modules - {"registry", "zeros", "ones"}):
        yield name, getattr(jinit, name)
    for module in sorted(modules):
        for name in getattr(jinit, module).__all__:
            yield f"{module}.{name}", getattr(getattr(jinit, module), name)
