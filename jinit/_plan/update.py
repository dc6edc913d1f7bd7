"""A plan draws the leaves that a checkpoint lacks, or adds noise to all parameters."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core import checks, trees
from .._core.trees import Leaf, listed
from .._network.shardings import by_path, placement
from .drawing import align, check_known, draw, placements, sampler
from .leaf import Planned
from .plan import Plan
from .rules import keep


def fill_missing(
    params: Any, shapes: Any, plan: Plan, key: jax.Array, *, shardings: Any = None
) -> Any:
    """Draw the leaves that a checkpoint lacks, and keep the arrays that it has.

    A leaf is missing if `params` has nothing at its path, or has a placeholder there: a
    `jax.ShapeDtypeStruct`, or Orbax's `...`, which may also stand for a whole subtree.
    A missing leaf gets the value that `plan.init(key)` gives it.

    Args:
      params: the checkpoint, a part of the tree.
      shapes: the whole tree, of arrays, `jax.ShapeDtypeStruct`s and other leaves that
        the plan keeps.
      plan: a plan that has every missing leaf.
      key: a PRNG key.
      shardings: the shardings of the missing leaves, as in `Plan.init`; the entries of
        other leaves are not used. None stands for the shardings of the
        `ShapeDtypeStruct`s in `shapes`, or else for JAX's choice.

    Returns:
      A tree with the structure of `shapes`.

    Raises:
      TypeError: if `key` is not a PRNG key, `plan` is not a plan, or an entry of
        `shardings` is not a sharding.
      ValueError: if `shapes` does not have a leaf of `params`, or has it with another
        shape or dtype, and if the plan does not have a missing leaf, or keeps it
        without a value. Nothing is drawn then.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> shapes = {"body": jnp.ones((4, 4)), "head": jnp.ones((4, 2))}
      >>> plan = jinit.plan(shapes, [("**", jinit.lecun())])
      >>> checkpoint = {"body": shapes["body"]}
      >>> full = jinit.fill_missing(checkpoint, shapes, plan, jax.random.key(0))
      >>> full["body"] is checkpoint["body"], full["head"].shape
      (True, (4, 2))
    """
    checks.key(key)
    _check_plan("plan", plan)
    leaves = trees.leaves(shapes)
    values = _present(params, leaves)
    missing = _planned(plan, [leaf for leaf in leaves if leaf.parts not in values])
    check_known(plan, missing)
    where = by_path(shardings, leaves, shapes)
    if shardings is None:
        # The plan may be made from structs with shardings that `shapes` does not have.
        planned = placements(plan, None)
        where |= {parts: s for parts, s in planned.items() if where.get(parts) is None}
    for leaf in missing:
        values[leaf.parts] = draw(plan, key, leaf, where[leaf.parts])
    structure = jax.tree.structure(shapes)
    return jax.tree.unflatten(structure, [values[leaf.parts] for leaf in leaves])


def _present(params: Any, whole: list[Leaf]) -> dict[tuple[str, ...], Any]:
    """Check each leaf of a checkpoint, and return the values by path."""
    leaves = trees.leaves(params)
    expected = {leaf.parts: leaf for leaf in whole}
    # Orbax's `...` may stand for a whole subtree, at a path above leaves.
    above = {leaf.parts[:n] for leaf in whole for n in range(len(leaf.parts))}
    single = [x for x in leaves if not (x.value is ... and x.parts in above)]
    extra = [leaf for leaf in single if leaf.parts not in expected]
    if extra:
        raise ValueError(
            f"`params` has {len(extra)} leaves that `shapes` does not know:"
            f"{listed(extra)}\nRemove them, or rename them to the paths of `shapes`."
            f"{_collection_meant(extra, expected)}"
        )
    for leaf in single:
        # A struct in the place of an array has a shape that must fit; `...` has none.
        if leaf.value is not ...:
            trees.check_like(
                "params", leaf, expected[leaf.parts].value, "`shapes`", _LEFT_OUT
            )
    return {
        leaf.parts: leaf.value
        for leaf in single
        if not trees.is_placeholder(leaf.value)
    }


def _collection_meant(
    extra: list[Leaf], expected: Mapping[tuple[str, ...], Leaf]
) -> str:
    """Return what to do where one tree is Linen's variables, and the other "params"."""
    if all(leaf.parts[:1] == ("params",) for leaf in extra):
        if any(leaf.parts[1:] in expected for leaf in extra):
            return " Linen's variables hold them under 'params': pass params['params']."
    elif any(("params", *leaf.parts) in expected for leaf in extra):
        return " `shapes` has them under 'params': pass {'params': params}."
    return ""


_LEFT_OUT = (
    " Remove a leaf that shall have a new shape from `params`, or put `...` in its "
    "place; then it is drawn."
)


def _planned(plan: Plan, missing: list[Leaf]) -> list[Planned]:
    """Return the plan's leaf for each missing one, after a check of shape and dtype."""
    known = {leaf.parts: leaf for leaf in plan.leaves}
    absent = [leaf for leaf in missing if leaf.parts not in known]
    if absent:
        raise ValueError(
            f"{len(absent)} leaves are missing, and `plan` does not have them:"
            f"{listed(absent)}\nMake the plan from `shapes`."
        )
    for leaf in missing:
        trees.check_like("shapes", leaf, known[leaf.parts].value, "`plan`")
    return [known[leaf.parts] for leaf in missing]


def perturb(params: Any, key: jax.Array, shrink: float, noise_plan: Plan) -> Any:
    """Shrink every parameter and add noise to it: w' = shrink w + noise.

    The function is for training that goes on with new data: the network forgets a
    little, and then generalizes like a network that starts afresh. For 16-bit
    parameters w' is computed in float32 and rounded once.

    Args:
      params: a tree with the plan's paths, shapes and dtypes.
      key: a PRNG key.
      shrink: from 0 (noise only) to 1; the paper takes values around 0.4.
      noise_plan: a plan that draws the noise at its final scale, such as one with the
        rule `("**/kernel", 0.1 * jinit.he())`. Leaves with `jinit.zeros` are only
        shrunk, and leaves that the plan keeps stay the same arrays.

    Returns:
      A tree with the structure of `params`.

    Raises:
      TypeError: if `key` is not a PRNG key, `shrink` is not a number, `noise_plan` is
        not a plan, or the plan does not keep an array of integers.
      ValueError: if `shrink` lies outside [0, 1], or if `params` has other paths,
        shapes or dtypes than the plan. Nothing is drawn then.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> params = {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)}
      >>> noise = jinit.plan(params, [("bias", jinit.zeros), ("**", 0.1 * jinit.he())])
      >>> jinit.perturb(params, jax.random.key(0), 0.5, noise)["bias"].tolist()
      [0.5, 0.5, 0.5]

    References:
      Ash and Adams, "On warm-starting neural network training", NeurIPS 2020.
    """
    checks.key(key)
    _check_plan("noise_plan", noise_plan)
    if not isinstance(shrink, jax.core.Tracer):
        shrink = checks.real("shrink", shrink, minimum=0.0)
        if shrink > 1:
            raise ValueError(f"`shrink` is {shrink}; it must lie in [0, 1].")
    pairs = align(noise_plan, "params", params)
    for new, _ in pairs:
        if new.init is not keep and not jnp.issubdtype(new.value.dtype, jnp.inexact):
            raise TypeError(
                f"`params` has at {new.path!r} numbers of dtype {new.value.dtype}, "
                "which cannot be shrunk; keep them: (pattern, jinit.keep)."
            )
    values = [
        old.value if new.init is keep else _perturbed(noise_plan, key, new, old, shrink)
        for new, old in pairs
    ]
    return jax.tree.unflatten(jax.tree.structure(params), values)


def _perturbed(plan: Plan, key: Any, new: Planned, old: Leaf, shrink: Any) -> jax.Array:
    dtype = new.value.dtype
    # In 16 bits the product, the noise and their sum would each be rounded.
    wide = np.dtype(np.float32) if dtype.itemsize < 4 else dtype
    draw_noise = sampler(plan, new, wide)
    # The noise is drawn where the parameter lies, so no device ever holds a whole one.
    noise = draw_noise(trees.key_of(key, new.named.parts), placement(old.value))
    shrunk: jax.Array = _shrunk(old.value, noise, shrink)
    return shrunk


@jax.jit
def _shrunk(value: jax.Array, noise: jax.Array, shrink: jax.Array | float) -> jax.Array:
    # `shrink` is an operand, so that one program serves every value of it. A Python
    # number is weakly typed under jit, so the product has the type of the noise.
    shrunk: jax.Array = shrink * value.astype(noise.dtype) + noise
    return shrunk.astype(value.dtype)


def _check_plan(name: str, plan: Any) -> None:
    if not isinstance(plan, Plan):
        raise TypeError(
            f"`{name}` is {plan!r}, of type {type(plan).__name__}; it must be what "
            "jinit.plan(shapes, rules) returns."
        )
