"""Parameters that exist already: the missing ones drawn, all of them perturbed."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core import checks, trees
from .._core.trees import Leaf, listed
from .._network.shardings import by_path, placement
from .leaf import Planned
from .plan import Plan
from .rules import keep


def fill_missing(
    params: Any, shapes: Any, plan: Plan, key: jax.Array, *, shardings: Any = None
) -> Any:
    """Draw what a checkpoint lacks; what it has stays, the same arrays.

    A leaf is missing if `params` has nothing at its path, or has a placeholder there: a
    `jax.ShapeDtypeStruct`, or Orbax's `...`, which may also stand for a whole subtree.
    A missing leaf gets the value that `plan.init(key)` gives it.

    Args:
      params: what there is: a part of the tree.
      shapes: the whole tree, of arrays or `jax.ShapeDtypeStruct`s, and whatever else
        the plan keeps.
      plan: a plan that has every missing leaf.
      key: a PRNG key.
      shardings: for the missing leaves, as in `Plan.init`; the entries of other leaves
        are not used. None for the shardings of the `ShapeDtypeStruct`s in `shapes`, or
        else JAX's choice.

    Returns:
      A tree as `shapes`.

    Raises:
      TypeError: if `key` is no key, `plan` no plan, or `shardings` no shardings.
      ValueError: for leaves of `params` that `shapes` does not have, or has with
        another shape or dtype, and missing ones that the plan does not have, or keeps
        without a value; before anything is drawn.

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
    wanted = trees.leaves(shapes)
    present = _present(params, wanted)
    missing = _planned(plan, [x for x in wanted if x.parts not in present])
    plan._check_holds([leaf for leaf in missing if leaf.init is keep])
    where = by_path(shardings, wanted, shapes)
    if shardings is None:
        # The plan may be made from structs with shardings that `shapes` does not have.
        where |= {p: s for p, s in plan._places(None).items() if where.get(p) is None}
    for leaf in missing:
        present[leaf.parts] = plan._value(key, leaf, where[leaf.parts])
    values = [present[leaf.parts] for leaf in wanted]
    return jax.tree.unflatten(jax.tree.structure(shapes), values)


def _present(params: Any, wanted: list[Leaf]) -> dict[Any, Any]:
    """Check each leaf of a checkpoint, and return the values by path."""
    leaves = trees.leaves(params)
    known = {leaf.parts: leaf for leaf in wanted}
    above = {leaf.parts[:n] for leaf in wanted for n in range(len(leaf.parts))}
    here = [x for x in leaves if not (x.value is ... and x.parts in above)]
    extra = [leaf for leaf in here if leaf.parts not in known]
    if extra:
        raise ValueError(
            f"`params` has {len(extra)} leaves that `shapes` does not know:"
            f"{listed(extra)}\nRemove them, or rename them to the paths of `shapes`."
        )
    for leaf in here:
        if leaf.value is not ...:
            trees.check_like("params", leaf, known[leaf.parts].value, "`shapes`")
    return {
        leaf.parts: leaf.value for leaf in here if not trees.is_placeholder(leaf.value)
    }


def _planned(plan: Plan, missing: list[Leaf]) -> list[Planned]:
    """What the plan says of each missing leaf."""
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

    For training that goes on with new data: the network forgets a little, and
    generalizes as one that starts afresh. In 16 bits it is computed in float32, and
    rounded once.

    Args:
      params: a tree with the plan's paths, shapes and dtypes.
      key: a PRNG key.
      shrink: from 0 (noise only) to 1; the paper takes values around 0.4.
      noise_plan: a plan that draws the noise, scale and all, such as one with the rule
        `("**/kernel", 0.1 * jinit.he())`. Leaves that get `jinit.zeros` are only
        shrunk, and those that it keeps stay, the same arrays.

    Returns:
      A tree as that of `params`.

    Raises:
      TypeError: if `key` is no key, `shrink` no number or `noise` no plan, and for
        arrays of integers that the plan does not keep.
      ValueError: for a `shrink` outside [0, 1], and for paths, shapes or dtypes that
        are not the plan's; before anything is drawn.

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
    found = noise_plan._align("params", params)
    planned = noise_plan._like(found)
    for leaf in planned:
        if leaf.init is not keep and not jnp.issubdtype(leaf.value.dtype, jnp.inexact):
            raise TypeError(
                f"`params` has at {leaf.path!r} numbers of dtype {leaf.value.dtype}, "
                "which cannot be shrunk; keep them: (pattern, jinit.keep)."
            )
    values = [
        old.value if new.init is keep else _perturbed(noise_plan, key, new, old, shrink)
        for new, old in zip(planned, found, strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(params), values)


def _perturbed(plan: Plan, key: Any, new: Planned, old: Leaf, shrink: Any) -> jax.Array:
    dtype = new.value.dtype
    wide = np.dtype(np.float32) if dtype.itemsize < 4 else dtype
    sampler = plan._sampler(new, wide)
    place = placement(old.value)
    noise = sampler(trees.key_of(key, new.parts), place)
    return _shrunk(old.value, noise, shrink)


@jax.jit
def _shrunk(value: jax.Array, noise: jax.Array, shrink: Any) -> jax.Array:
    # `shrink` is a weakly typed scalar: it takes the type of the noise.
    return (shrink * value.astype(noise.dtype) + noise).astype(value.dtype)


def _check_plan(name: str, plan: Any) -> None:
    if not isinstance(plan, Plan):
        raise TypeError(
            f"`{name}` is {plan!r}, of type {type(plan).__name__}; it must be what "
            "jinit.plan(shapes, rules) returns."
        )
