"""Names and shapes of kernels tell which of them end residual branches.

Linen numbers the layers of a module in the order in which they are made, and not in the
order in which they run: in Dense(d)(relu(Dense(4 * d)(x))) the outer layer is Dense_0.
So a number tells little, and the shapes beside a kernel are asked, too. A layer that
ends a branch writes to the residual stream. The norms, the embeddings and the layers
outside of all branches show the stream's width.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

from .._core.trees import Leaf
from .flax_names import END, HEADS, LAST, NUMBERED, SHORTCUTS


@dataclasses.dataclass(frozen=True)
class Paths:
    """A predicate holds for the leaves that have one of these paths."""

    text: str
    paths: frozenset[str]

    def __call__(self, path: str, _leaf: object) -> bool:
        return path in self.paths

    def __repr__(self) -> str:
        return f"({self.text})"


def outer(leaf: Leaf) -> bool:
    """Tell whether the layer of a leaf lies in the model itself, and in no module.

    Numbers are places in lists and not modules; "params" is Linen's collection.
    """
    parts = [part for part in leaf.parts if not part.isdigit()]
    return len(parts) - (parts[:1] == ["params"]) <= 2


def residual_outputs(leaves: list[Leaf], branch_layers: int | None = None) -> Paths:
    """Return the kernels that end branches, by Flax's names and the shapes beside them.

    `branch_layers` is the number of layers of a branch, or None if it is not known.
    """
    paths = {
        leaf.path
        for inside in _modules(leaves)
        for leaf in inside
        if leaf.parts[-2] in _last_names(branch_layers)
        and (_attends(inside) or not outer(leaf))
    }
    for _, ends in _in_order(leaves, branch_layers):
        paths |= {leaf.path for leaf in ends or ()}
    return Paths("the last layers of branches, by Flax's names", frozenset(paths))


def unclear(leaves: list[Leaf], branch_layers: int | None = None) -> Paths:
    """Return the kernels of modules whose last layer neither names nor shapes tell."""
    paths = {
        leaf.path
        for several, ends in _in_order(leaves, branch_layers)
        if ends is None
        for leaf in several
    }
    return Paths("layers of branches in an unknown order", frozenset(paths))


def refuse(path: str, _leaf: object) -> Any:
    """Raise the error of a kernel that may or may not end a branch."""
    raise ValueError(
        f"neither names nor shapes tell whether {path!r} ends a residual branch: Linen "
        "numbers layers as they are made, which need not be the order in which they "
        "run. Pass the recipe residual_outputs=[...], patterns of the layers that end "
        "the branches."
    )


def in_branches(leaves: list[Leaf]) -> Paths:
    """Return the kernels of modules inside the model, except heads and shortcuts."""
    paths = {
        leaf.path
        for leaf in _kernels(leaves)
        if not outer(leaf)
        and leaf.parts[-2] not in HEADS
        and not any(map(SHORTCUTS.search, leaf.parts))
    }
    return Paths("the layers of branches, by Flax's names", frozenset(paths))


def readout(leaves: list[Leaf]) -> Paths:
    """Return the kernel of the last layer: a head by its name, or the last outer Dense.

    An outer Dense that is the only outer layer is left out, since it may be the first
    layer.
    """
    kernels = _kernels(leaves)
    named = [leaf for leaf in kernels if leaf.parts[-2] in HEADS]
    ends = [x for x in leaves if outer(x) and x.parts[-1] in ("kernel", "embedding")]
    outers = [leaf for leaf in kernels if outer(leaf)]
    numbered = _numbered("Dense", outers, None)
    if not named and len(ends) > 1:
        named = numbered[-1:]
    paths = frozenset(leaf.path for leaf in named)
    return Paths("the readout, by Flax's names", paths)


def ends(leaves: list[Leaf]) -> Paths:
    """Return the kernels outside of all branches: they read data, or give the output.

    A tree that has only outer layers may be a part of a model, so only its heads count.
    """
    kernels = _kernels(leaves)
    outers = [x for x in kernels if outer(x) or x.parts[-2] in HEADS]
    several = any(not outer(leaf) for leaf in kernels)
    plain = [
        leaf
        for leaf in outers
        if leaf.parts[-2] in HEADS or (several and END.search(leaf.parts[-2]))
    ]
    paths = frozenset(leaf.path for leaf in plain)
    return Paths("the first and last layers, by Flax's names", paths)


def _last_names(branch_layers: int | None) -> tuple[str, ...]:
    """Return the names of last layers; a number in a name counts a branch's layers."""
    if branch_layers is None:
        return LAST
    plain = tuple(name for name in LAST if name[-1] != "2")
    return plain + tuple(f"{kind}{branch_layers}" for kind in ("linear", "fc", "conv"))


def _kernels(leaves: Iterable[Leaf]) -> list[Leaf]:
    return [x for x in leaves if len(x.parts) > 1 and x.parts[-1] == "kernel"]


def _modules(leaves: list[Leaf]) -> Iterable[list[Leaf]]:
    """Return the kernels of the layers of each module."""
    modules: dict[tuple[str, ...], list[Leaf]] = {}
    for leaf in _kernels(leaves):
        modules.setdefault(leaf.parts[:-2], []).append(leaf)
    return modules.values()


def _attends(inside: list[Leaf]) -> bool:
    return {"query", "key", "value"} <= {leaf.parts[-2] for leaf in inside}


def _numbered(kind: str, inside: list[Leaf], most: int | None) -> list[Leaf]:
    """Return a module's layers of one class, in the order of their numbers.

    Layers with the numbers `most` and higher are no part of the branch.
    """
    numbered = []
    for leaf in inside:
        match = NUMBERED.fullmatch(leaf.parts[-2])
        if match and match[1] == kind and (most is None or int(match[2]) < most):
            numbered.append((int(match[2]), leaf))
    return [leaf for _, leaf in sorted(numbered, key=lambda pair: pair[0])]


def _in_order(
    leaves: list[Leaf], branch_layers: int | None
) -> Iterable[tuple[list[Leaf], list[Leaf] | None]]:
    """Yield each module's numbered layers, and those that end it (None: unclear)."""
    widths = _widths(leaves)
    for inside in _modules(leaves):
        dense = _numbered("Dense", inside, branch_layers)
        if len(dense) >= (branch_layers or 2) and not outer(dense[0]):
            yield dense, _last(dense, widths)
        # Channels change from stage to stage, so a convolution's shape tells nothing.
        convs = _numbered("Conv", inside, branch_layers)
        if branch_layers and len(convs) == branch_layers and not outer(convs[0]):
            yield convs, convs[-1:]


def _widths(leaves: list[Leaf]) -> set[int]:
    """Return the widths that the residual stream may have, as norms and others show."""
    widths: set[int] = set()
    for leaf in leaves:
        shape = tuple(leaf.value.shape)
        if leaf.parts[-1:] in (("scale",), ("embedding",)):
            widths |= set(shape[-1:])
        elif leaf.parts[-1:] == ("kernel",) and outer(leaf):
            widths |= set(shape[-2:])
        elif leaf.parts[-2:] == ("out", "kernel"):
            widths |= set(shape[-1:])
    return widths


def _last(several: list[Leaf], widths: set[int]) -> list[Leaf] | None:
    """Return those of a module's Dense layers that end a branch; None if unclear.

    A layer that ends a branch has as many units as another layer of the module has
    inputs, and this is the width of the stream. If all layers have one width, the last
    of them is taken.
    """
    sizes = [leaf.value.shape[-2:] for leaf in several]
    if all(inputs == outputs for inputs, outputs in sizes):
        return several[-1:]
    read = {inputs for inputs, _ in sizes}
    if not read & widths:
        # No layer shows the stream, so only the usual form d -> 4 d -> d is accepted.
        return several[-1:] if sizes[-1][0] > sizes[-1][1] else None
    ends = [i for i, (_, outputs) in enumerate(sizes) if outputs in read & widths]
    squares = [i for i in ends if sizes[i][0] == sizes[i][1]]
    one_width = len({sizes[i][1] for i in ends}) <= 1
    return [several[i] for i in ends] if one_width and not squares else None
