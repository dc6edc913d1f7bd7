"""Shardings are checked against shapes, and the mesh of the context is read.

In an explicit mesh the sharding of an array is a part of its type. In other meshes XLA
decides where arrays lie, unless they ask for a sharding.
"""

import contextlib
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

Sharding = NamedSharding | PartitionSpec | None


def explicit_axes() -> tuple[str, ...]:
    """Return the axes of the context's mesh that are a part of arrays' types."""
    return tuple(jax.sharding.get_abstract_mesh().explicit_axes)


def automatic_axes() -> contextlib.AbstractContextManager[Any]:
    """Leave the partitioning over the context's mesh to the compiler."""
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.explicit_axes:
        return contextlib.nullcontext()
    # On explicit axes an operation whose sharding is ambiguous, such as some reshapes,
    # is an error unless it names one. An init function that was written without a mesh
    # does not.
    automatic = dict.fromkeys(mesh.explicit_axes, jax.sharding.AxisType.Auto)
    return jax.sharding.use_abstract_mesh(mesh.update_axis_types(automatic))


def mesh_and_spec(sharding: Any) -> tuple[Any, PartitionSpec]:
    """Return the mesh of a sharding, or that of the context, and its spec."""
    if isinstance(sharding, NamedSharding):
        return sharding.mesh, sharding.spec
    # A PartitionSpec names axes of whichever mesh `jax.set_mesh` has set.
    return jax.sharding.get_abstract_mesh(), sharding


def check_fits(out_sharding: Any, shape: tuple[int, ...]) -> None:
    """Raise unless `shape` can be cut as the sharding says."""
    if not isinstance(out_sharding, (NamedSharding, PartitionSpec)):
        raise TypeError(
            f"`out_sharding` is {out_sharding!r}; it must be a "
            "jax.sharding.NamedSharding, or a jax.sharding.PartitionSpec inside "
            "`jax.set_mesh`."
        )
    mesh, spec = mesh_and_spec(out_sharding)
    if mesh.empty:
        raise ValueError(
            f"`out_sharding` is {out_sharding}, and there is no mesh to apply it to; "
            "call inside `jax.set_mesh(mesh)`, or pass "
            "jax.sharding.NamedSharding(mesh, spec)."
        )
    # `shard_shape` accepts further entries that are None.
    if len(spec) > len(shape):
        raise ValueError(
            f"`out_sharding` {spec} has {len(spec)} entries, and shape {shape} has "
            f"{len(shape)} axes; a spec has at most one entry for each axis."
        )
    try:
        NamedSharding(mesh, spec).shard_shape(shape)
    except ValueError as error:
        raise ValueError(
            f"`out_sharding` {spec} on a mesh of {dict(mesh.shape)} does not fit shape "
            f"{shape}; every sharded axis must be a multiple of its devices."
        ) from error


def varying_axes(value: Any) -> tuple[str, ...]:
    """Return the axes of a `shard_map` along which a value differs between devices."""
    kind: Any = jax.typeof(value)
    # A type had them as `vma` before JAX 0.10, and has them in its `mat` since then.
    manual = getattr(kind, "mat", None)
    return tuple(kind.vma if manual is None else manual.varying)
