"""A fact is the law of one role in the official code, with its place and a formula.

The page of each named model shows these facts, and tests/recipes/test_official.py draws
the recipe on the network of a `Proof` and compares each law with its fact.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple


class Law(NamedTuple):
    """A law by its family and its numbers: what an official line of code draws.

    Args:
      family: "normal", "cut", "uniform", "constant" or "exact".
      numbers: std; std and cut; low and high; value; nothing.
    """

    family: str
    numbers: tuple[float, ...]

    @property
    def std(self) -> float | None:
        """The standard deviation of the law, or None for values that are formulas."""
        if self.family == "exact":
            return None
        if self.family == "constant":
            return 0.0
        if self.family == "uniform":
            low, high = self.numbers
            return (high - low) / 12**0.5
        if self.family == "normal":
            return self.numbers[0]
        std, cut = self.numbers
        a = cut / std
        density = math.exp(-a * a / 2) / math.sqrt(2 * math.pi)
        return std * math.sqrt(1 - 2 * a * density / math.erf(a / 2**0.5))


def normal(std: float) -> Law:
    return Law("normal", (std,))


def truncated(std: float, cut: float = 2.0) -> Law:
    """Return trunc_normal_(w, std=std, a=-cut, b=cut) of PyTorch."""
    return Law("cut", (std, cut))


def truncated_lecun(n: float) -> Law:
    """Return JAX's variance_scaling(1, "fan_in", "truncated_normal")."""
    std = n**-0.5 / truncated(1.0).std
    return Law("cut", (std, 2 * std))


def uniform(high: float, *more: float) -> Law:
    return Law("uniform", (high, *more) if more else (-high, high))


def xavier_uniform(n: float, m: float) -> Law:
    return uniform((6 / (n + m)) ** 0.5)


def constant(value: float) -> Law:
    return Law("constant", (value,))


def exact(test: str) -> Law:
    """Return the law of values that a test compares one by one with their formula."""
    return Law("exact", ())


NAMES: Mapping[str, Any] = {
    "normal": normal, "truncated": truncated, "truncated_lecun": truncated_lecun,
    "uniform": uniform, "xavier_uniform": xavier_uniform, "constant": constant,
    "exact": exact, "sqrt": math.sqrt, "log": math.log,
}  # fmt: skip


class Fact(NamedTuple):
    """A Fact is the law that official code gives to one role of a recipe.

    Args:
      role: the role of the recipe's law, in the order of `recipe.laws`.
      place: the number of the source, from 1, and the lines of its file, as "1:54";
        "" where the code leaves the layer's own default.
      formula: the law, in the `NAMES` above and the sizes of the network.
      path: the parameter of the example; "" where the example has none.
      sizes: sizes of that parameter: n inputs, m outputs, l the index of its layer.
      std_only: the official draw has another distribution of this std.
    """

    role: str
    place: str
    formula: str
    path: str = ""
    sizes: Mapping[str, float] = {}
    std_only: bool = False


class Proof(NamedTuple):
    """A Proof is the network of an example, its sizes, and a fact for each law.

    Args:
      network: a name of `networks.NETWORKS`.
      sizes: d the width, L the number of layers, V the vocabulary, k a window, ...
      facts: one for each law of the recipe.
      tests: the tests that also check the recipe, by file and function.
      settings: those of the recipe, where the example needs some.
    """

    network: str
    sizes: Mapping[str, float]
    facts: tuple[Fact, ...]
    tests: tuple[str, ...] = ()
    settings: Mapping[str, Any] = {}


def law_of(fact: Fact, sizes: Mapping[str, float]) -> Law:
    """Evaluate the formula of a fact at the sizes of its network."""
    law: Law = eval(fact.formula, {**NAMES}, {**sizes, **fact.sizes})
    return law
