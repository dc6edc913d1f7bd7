"""The singular values of a model's Jacobian say how it stretches small changes."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._network.jaxpr import loops_inside
from .._network.kept import Traced, program
from .._network.record import Network

# Up to this many rows or columns the Jacobian is written out, and the values are exact.
_DENSE = 256
_STEPS = 100


def of_first(net: Network) -> dict[str, float]:
    """Return the extremes of the Jacobian of the first output by the first input.

    The other inputs stay as they are, so a batch norm sees the batch that it has.
    """
    trace, count = net._read.trace, net._adapted.num_arguments
    key, bare = ("jacobian", trace.form, count), trace.bare
    run = program(key, lambda: functools.partial(_of_first, bare, count))
    try:
        ends = jax.device_get(run(trace.consts, net.params, net.inputs))
    except ValueError as error:
        if not loops_inside(trace.jaxpr) or "`jacobian=True`" in str(error):
            raise
        raise ValueError(
            "`jacobian=True` differentiates the model backward, and JAX cannot "
            "differentiate backward through the model's `while`, whose number of steps "
            "is known only when it runs. Leave `jacobian` out, or write the loop as a "
            "`scan` or a `fori_loop` with fixed bounds."
        ) from error
    return {name: float(value) for name, value in ends.items()}


def _of_first(
    trace: Traced,
    num_arguments: int,
    consts: Sequence[Any],
    params: Any,
    inputs: tuple[Any, ...],
) -> dict[str, jax.Array]:
    flat, tree = jax.tree.flatten(inputs)
    # Behind the arguments come keys and state, which are no inputs.
    places = [i for i in range(num_arguments) if _has_rows(flat[i])]
    if not places:
        raise ValueError(
            "`jacobian=True` needs an input of floating numbers, with the batch as its "
            "first axis; whole numbers, such as tokens, have no Jacobian."
        )
    # Row 0 of the first floating input varies; all other inputs stay.
    place = places[0]

    def output(x: jax.Array) -> jax.Array:
        values = list(flat)
        values[place] = jnp.asarray(flat[place]).at[0].set(x)
        result = trace.run(consts, params, jax.tree.unflatten(tree, values))
        rows = [leaf[0].ravel() for leaf in jax.tree.leaves(result) if _has_rows(leaf)]
        if not rows:
            raise ValueError("`jacobian=True` needs an output of floating numbers.")
        return jnp.concatenate(rows)

    return extremes(output, flat[place][0])


def _has_rows(leaf: Any) -> bool:
    is_float = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
    return is_float and leaf.ndim > 0 and leaf.size > 0


def extremes(function: Callable[..., Any], x: jax.Array) -> dict[str, jax.Array]:
    """Return the largest and the least of the min(n, m) singular values at x.

    A large Jacobian J is not written out: power iteration on the smaller of J J^T and
    J^T J finds the largest, and on that subtracted from its largest eigenvalue the
    least, from above.

    Args:
      function: from an array of n entries to an array of m entries.
      x: the array to differentiate at.
    """
    result, back = jax.vjp(function, x)
    wide = jnp.promote_types(result.dtype, np.float32)

    def pull(u: jax.Array) -> Any:
        return back(u.astype(result.dtype))[0].astype(wide)

    def push(v: jax.Array) -> Any:
        # J v is computed as the transpose of J^T, since a custom_vjp has no jvp.
        transposed = jax.vjp(lambda u: back(u)[0], jnp.zeros_like(result))[1]
        return transposed(v.astype(x.dtype))[0].astype(wide)

    if min(x.size, result.size) <= _DENSE:
        values = jnp.linalg.svd(_written_out(pull, push, x, result), compute_uv=False)
        return {"top": values[0], "bottom": values[-1]}
    by_output = result.size <= x.size
    start = jax.random.normal(
        jax.random.key(0), result.shape if by_output else x.shape, wide
    )

    def square(u: jax.Array) -> Any:
        return push(pull(u)) if by_output else pull(push(u))

    # The least eigenvalue of S is `top` less the largest of top - S. The difference
    # must not become negative by rounding, or the root would be NaN.
    top = _power(square, start)
    rest = _power(lambda u: top * u - square(u), start)
    return {"top": jnp.sqrt(top), "bottom": jnp.sqrt(jnp.maximum(top - rest, 0))}


def _written_out(
    pull: Callable[..., Any], push: Callable[..., Any], x: jax.Array, result: jax.Array
) -> jax.Array:
    """Return the Jacobian or its transpose, whichever has fewer rows."""
    by_output = result.size <= x.size
    one = result if by_output else x
    units = jnp.eye(one.size).reshape((one.size, *one.shape))
    rows: jax.Array = jax.vmap(pull if by_output else push)(units)
    return rows.reshape(one.size, -1)


def _power(square: Callable[..., Any], start: jax.Array) -> jax.Array:
    """Return the largest eigenvalue of a symmetric map without negative eigenvalues."""

    def step(_: int, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        unit = pair[0] / jnp.where((norm := jnp.linalg.norm(pair[0])) > 0, norm, 1)
        image = square(unit)
        return image, jnp.vdot(unit, image)

    zero = jnp.zeros((), start.dtype)
    largest: jax.Array = jax.lax.fori_loop(0, _STEPS, step, (start, zero))[1]
    return largest
