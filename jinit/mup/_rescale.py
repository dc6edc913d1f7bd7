"""Drawn parameters, or the rules that draw them, get a parametrization's std."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._core import checks, numbers, patterns
from .._core.patterns import Pattern, first_matches
from .._core.trees import Leaf, leaves, listed, strip_collection
from .._initializer.base import Initializer
from .._initializer.foreign import is_initializer, scaled
from .._plan.model import Model
from .._plan.rules import FromTree, Rule, keep, rules_of
from ._drawn import growth_of, usual_growth
from ._factors import Tensor
from ._growth import checked

# The ways in which the std of an initializer may depend on the shape.
LAWS = ("fan_in", "fan_out", "fan_avg", "constant")


def find(tensors: Sequence[Tensor], tree: Any, name: str) -> list[Tensor]:
    """Return the tensor of every leaf, with or without Linen's "params".

    Raises:
      ValueError: if a leaf has no tensor, or another shape.
    """
    known = {strip_collection(tensor.parts): tensor for tensor in tensors}
    in_tree = named_leaves(tensors, tree)
    absent = [leaf for leaf in in_tree if strip_collection(leaf.parts) not in known]
    if absent:
        raise ValueError(
            f"`{name}` has {len(absent)} leaves that the parametrization does not know:"
            f"{listed(absent[:10])}\nIt was made for {len(known)} leaves, such as "
            f"{tensors[0].path!r}; make it from the shapes of this tree."
        )
    ordered = [known[strip_collection(leaf.parts)] for leaf in in_tree]
    wrong = [
        f"{leaf}, for which it knows {tensor.shape}"
        for leaf, tensor in zip(in_tree, ordered, strict=True)
        if tuple(leaf.value.shape) != tensor.shape
    ]
    if wrong:
        raise ValueError(
            f"`{name}` has other shapes than the parametrization was made for:"
            f"{listed(wrong[:10])}\nMake a parametrization for these shapes."
        )
    return ordered


def named_leaves(tensors: Sequence[Tensor], tree: Any) -> list[Leaf]:
    """Return the leaves of a tree; those of a list get the paths of the tensors.

    The parameters of a network of Keras are a list.
    """
    in_tree = leaves(tree)
    numbers_only = [(str(number),) for number in range(len(tensors))]
    if [leaf.parts for leaf in in_tree] != numbers_only:
        return in_tree
    pairs = zip(tensors, in_tree, strict=True)
    return [Leaf(tensor.parts, leaf.value) for tensor, leaf in pairs]


def rescaled(tensors: Sequence[Tensor], absolute: bool, params: Any, drawn: Any) -> Any:
    """Rescale every leaf to the std that it should have."""
    flat, structure = jax.tree.flatten(params)
    ordered = find(tensors, params, "params")
    if absolute:
        values = [_to_rms(w, t.factors.std) for w, t in zip(flat, ordered, strict=True)]
        return jax.tree.unflatten(structure, values)
    laws = _laws(drawn, named_leaves(tensors, params))
    factors = [
        tensor.factors.std / drawn_growth(tensor, law)
        for tensor, law in zip(ordered, laws, strict=True)
    ]
    return times(params, factors)


def times(tree: Any, factors: Sequence[float]) -> Any:
    """Multiply each leaf of a tree; a factor of 1 returns the same array."""
    flat, structure = jax.tree.flatten(tree)
    # At the base width this makes no copies, and `p.init` returns its own argument.
    values = [w if f == 1 else w * f for w, f in zip(flat, factors, strict=True)]
    return jax.tree.unflatten(structure, values)


def _to_rms(value: Any, std: float) -> Any:
    """Scale a tensor to a std; leave it if it is all zeros, or the std is NaN."""
    if math.isnan(std):
        return value
    rms = jnp.sqrt(jnp.mean(jnp.square(value.astype(jnp.float32))))
    # The inner `where` keeps the branch that is not taken from dividing by 0, which
    # `jax.debug_nans` and `debug_infs` report all the same.
    factor = jnp.where(rms > 0, std / jnp.where(rms > 0, rms, 1), 1)
    return (value * factor).astype(value.dtype)


def _laws(drawn: Any, in_tree: list[Leaf]) -> list[str | None]:
    """Return, for each leaf, the law of its initializer's std that a user names."""
    if drawn is None:
        return [None] * len(in_tree)
    is_one = isinstance(drawn, str)
    pairs = [(Pattern(("**",)), drawn)] if is_one else checked(drawn, "drawn")
    for _, law in pairs:
        checks.choice("drawn", law, LAWS)
    return first_matches(pairs, in_tree)


def drawn_growth(tensor: Tensor, law: str | None) -> float:
    """Return the growth of the initializer's std from base to target."""
    if law is None and tensor.drawn is not None:
        return tensor.drawn
    if law == "constant" or tensor.mup_class in ("vector", "scalar"):
        return 1.0
    # A std of count^(-1/2) has shrunk by this already.
    if law is None or tensor.parts[-1:] == ("embedding",):
        return usual_growth(tensor)
    assert tensor.base is not None
    return growth_of(tensor.base, tensor.shape, tensor.layout, law)


def rescaled_rules(tensors: Sequence[Tensor], absolute: bool, rules: Any) -> list[Rule]:
    """Return rules with the same patterns, whose initializers have the right std."""
    # A name may have a "/" in it, so paths are compared as texts.
    known = {"/".join(strip_collection(tensor.parts)): tensor for tensor in tensors}

    def right(rule: Rule, model: Model, init: Any) -> Callable[..., Any]:
        leaves_by_path = {leaf.path: leaf for leaf in model.leaves}

        def of_leaf(path: str, leaf: Any) -> Any:
            chosen = init if is_initializer(init) else init(path, leaf)
            if chosen is keep or not callable(chosen):
                return chosen
            tensor = known.get("/".join(strip_collection(path.split("/"))))
            if tensor is None or tensor.shape != tuple(leaf.shape):
                raise ValueError(
                    f"the parametrization does not know {path!r} {tuple(leaf.shape)}; "
                    "make it from the shapes of the plan."
                )
            # The plan tells an initializer the axes of its kernel. Its std is asked
            # for here, so it is told here, too.
            fitted = model.fitted(chosen, leaves_by_path[path])
            return _scaled(absolute, tensor, fitted)

        # A plan's errors call a function by this name.
        of_leaf.__qualname__ = f"p.rules of {patterns.spell(rule.pattern)}"
        return of_leaf

    def wrapped(rule: Rule) -> Any:
        init: Any = rule.init
        if init is keep:
            return keep
        bind = init.function if isinstance(init, FromTree) else lambda _: init
        return FromTree(lambda model: right(rule, model, bind(model)))

    return [
        Rule(rule.pattern, wrapped(rule), rule.optional) for rule in rules_of(rules)
    ]


def _scaled(absolute: bool, tensor: Tensor, init: Any) -> Any:
    """Scale an initializer so that its std is that of the parametrization."""
    std = tensor.factors.std
    if tensor.mup_class in ("vector", "scalar") or math.isnan(std):
        return init
    has_std = isinstance(init, Initializer)
    now = init.std(tensor.shape) if has_std else None
    target: float | None = std
    if not absolute and tensor.base is not None:
        before = init.std(tensor.base) if has_std else None
        target = None if before is None else std * before
    if now is None or target is None:
        raise ValueError(
            f"the initializer {init!r} of {tensor.path!r} does not say its std, so it "
            "cannot be rescaled for the width; use one of jinit's that does (jinit.he, "
            "jinit.normal, ...), or draw as usual and call p.init(params)."
        )
    # Zeros stay zeros at every width.
    factor = 1.0 if numbers.is_zero(now) else target / now
    return init if numbers.is_one(factor) else scaled(init, factor)
