"""A shape is read as a stack of matrices, which are drawn and put in that shape."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from ..._core import checks
from ..._core.dtypes import is_narrow
from ..._core.meshes import Sharding, check_fits, mesh_and_spec
from ..._core.programs import compiled
from ..._core.rounding import round_once
from ..._scale.fans import fans
from .haar import haar
from .polar import polar

Method = Literal["householder", "qr", "polar"]
METHODS = ("householder", "qr", "polar")


class MatrixView(NamedTuple):
    """A MatrixView says how a shape is read as a stack of matrices.

    Attributes:
      axes: all axes of the shape: those of the copies, then of rows, then of columns.
      sizes: the lengths of these axes.
      copies: the number of matrices.
      rows: the number of rows of each.
      columns: the number of columns of each.
      is_stack: whether the layout has an axis of copies.
    """

    axes: tuple[int, ...]
    sizes: tuple[int, ...]
    copies: int
    rows: int
    columns: int
    is_stack: bool


def as_matrices(shape: checks.Shape, layout: str) -> MatrixView:
    """Read the b axes as copies, the o axes as columns, and i and k axes as rows."""
    # This raises if the layout does not fit the shape.
    fans(shape, layout)
    groups = [
        [i for i, letter in enumerate(layout) if letter in letters]
        for letters in ("b", "ik", "o")
    ]
    axes = tuple(i for group in groups for i in group)
    copies, rows, columns = (math.prod(shape[i] for i in g) for g in groups)
    sizes = tuple(shape[i] for i in axes)
    return MatrixView(axes, sizes, copies, rows, columns, "b" in layout)


def layout_of_column(shape: checks.Shape, column_axis: Any) -> str:
    """Return the layout with columns along one axis and rows along all others."""
    if len(shape) < 2:
        raise ValueError(
            f"`shape` is {shape}, which has {len(shape)} axes; an orthogonal "
            "matrix needs at least two: rows, and columns along `column_axis`."
        )
    (axis,) = checks.axes("column_axis", column_axis, len(shape), shape)
    return "i" * axis + "o" + "i" * (len(shape) - axis - 1)


def mesh_of(method: str, out_sharding: Sharding) -> Any:
    """Return the mesh over which a method shares its work; only `polar` can."""
    if method != "polar" or out_sharding is None:
        return None
    if isinstance(out_sharding, NamedSharding):
        return out_sharding.mesh
    # A PartitionSpec refers to the mesh of the context.
    return jax.sharding.get_abstract_mesh()


def draw_shared(
    draw: Callable[..., jax.Array], method: Method, settings: dict[str, Any]
) -> jax.Array:
    """Call a compiled `draw` so that its result is laid out in two steps.

    Reflections are computed whole on each device, which then keeps its part. XLA would
    cut the products and sum their parts in another order on each mesh, with ten times
    as many collectives. A matrix by "polar" is drawn over all axes of the mesh, and
    then gathered along those that the sharding leaves out. In one step XLA would gather
    the whole matrix on every device, and cut it again.
    """
    shape, sharding = settings["shape"], settings["out_sharding"]
    if sharding is None:
        return draw(**settings)
    check_fits(sharding, shape)
    spec = _over_all_axes(sharding, shape) if method == "polar" else PartitionSpec()
    if spec is None:
        return draw(**settings)
    is_named = isinstance(sharding, NamedSharding)
    first = NamedSharding(sharding.mesh, spec) if is_named else spec
    return _moved(draw(**{**settings, "out_sharding": first}), **settings)


@compiled
def _moved(x: jax.Array, *, shape: checks.Shape, dtype: np.dtype) -> jax.Array:
    del shape, dtype
    return x


def _over_all_axes(sharding: Sharding, shape: checks.Shape) -> PartitionSpec | None:
    """Return the spec of a sharding with the other axes of the mesh, where they fit.

    The result is None if there is nothing to add, or the sharding cuts nothing.
    """
    mesh, spec = mesh_and_spec(sharding)
    entries = [_names(entry) for entry in (*spec, *[None] * (len(shape) - len(spec)))]
    named = {name for names in entries for name in names}
    others = [name for name in mesh.axis_names if name not in named]
    if not named or not others:
        return None
    for name in others:
        for i, size in enumerate(shape):
            parts = math.prod(mesh.shape[n] for n in (*entries[i], name))
            if size % parts == 0:
                entries[i] = (*entries[i], name)
                break
    return PartitionSpec(*(names or None for names in entries))


def _names(entry: Any) -> tuple[str, ...]:
    """Return the axes of the mesh that an entry of a PartitionSpec names."""
    if entry is None:
        return ()
    return tuple(entry) if isinstance(entry, tuple) else (entry,)


def draw_stack(
    key: jax.Array, view: MatrixView, dtype: np.dtype, method: Method, mesh: Any
) -> jax.Array:
    """Draw independent matrices, (copies, rows, columns)."""
    keys = jax.random.split(key, view.copies) if view.is_stack else key[None]
    rows, columns = view.rows, view.columns
    if method == "polar":
        return polar(keys, rows, columns, dtype, mesh)

    def one(key: jax.Array) -> jax.Array:
        if method == "qr":
            # JAX's own function, so that its values stay JAX's in every version.
            return jax.random.orthogonal(key, rows, (), dtype, columns)
        return haar(key, rows, columns, dtype)

    return jax.vmap(one)(keys) if view.is_stack else one(key)[None]


def back_to_shape(
    stack: jax.Array, view: MatrixView, scale: jax.Array, dtype: np.dtype
) -> jax.Array:
    """Return `scale` times the matrices, in the shape that was read, rounded once."""
    kernel = stack.reshape(view.sizes).transpose(np.argsort(view.axes))
    kernel = jnp.asarray(scale, stack.dtype) * kernel
    return round_once(kernel, dtype) if is_narrow(dtype) else kernel
