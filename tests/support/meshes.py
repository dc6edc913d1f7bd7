"""Make meshes of the eight devices that the tests have, and shardings over them."""

import re

import jax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

# These operations of a compiled program send data from one device to another.
COLLECTIVES = re.compile(r"all-gather|all-reduce|all-to-all|collective|reduce-scatter")


def make_mesh(sizes, kind=AxisType.Auto):
    """Return a mesh with the axes "x", and "y" where there are two sizes."""
    return jax.make_mesh(
        sizes, ("x", "y")[: len(sizes)], axis_types=(kind,) * len(sizes)
    )


def divided(mesh):
    """Return a function that shards the last axis that the first mesh axis divides."""
    name, size = next(iter(mesh.shape.items()))

    def sharding(path, leaf):
        axes = [i for i, d in enumerate(leaf.shape) if d and d % size == 0]
        spec = P(*[None] * axes[-1], name) if axes else P()
        return NamedSharding(mesh, spec)

    return sharding
