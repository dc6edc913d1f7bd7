"""Names and shapes of kernels tell which kernels end residual branches.

A branch is what a network adds back to its residual stream: x + branch(x). The last
layer of a branch writes to the stream.

Linen numbers the layers of a module in the order in which they are made, and not in the
order in which they run: in Dense(d)(relu(Dense(4 * d)(x))) the outer layer is Dense_0.
So a number tells little, and the widths of the layers decide, too. The norms, the
embeddings and the layers outside of all branches show the width of the stream.

An attention has a layer more than queries, keys and values, and an MLP a layer more
than those that read the stream. Where neither names nor widths tell which it is, the
kernels are named in an error: an end that is not found would keep its scale.
"""

import dataclasses
import re
from collections.abc import Iterable
from typing import Any

from .._core.trees import Leaf, strip_collection
from .flax_names import (
    END,
    FUSED,
    HEADS,
    INNER,
    KEY,
    LAST,
    NUMBERED,
    OUT_OF_HEADS,
    QUERY,
    SHORTCUTS,
    VALUE,
)


@dataclasses.dataclass(frozen=True)
class Paths:
    """A Paths object is a predicate for the leaves that have one of these paths.

    `text` describes the paths in errors, and `note` says in a plan what was found.
    `hint` says what to do where most leaves of a tree have no rule.
    """

    text: str
    paths: frozenset[str]
    note: str = ""
    hint: str = ""

    def __call__(self, path: str, _leaf: object) -> bool:
        return path in self.paths

    def __repr__(self) -> str:
        return f"({self.text})"


def outer(leaf: Leaf) -> bool:
    """Tell whether the layer of a leaf lies directly in the model, and in no module."""
    # A number is a place in a list, and not a module: NNX has "layers/0/kernel".
    parts = [part for part in leaf.parts if not part.isdigit()]
    return len(strip_collection(parts)) <= 2


def residual_outputs(leaves: list[Leaf], branch_layers: int | None = None) -> Paths:
    """Return the kernels that end branches, by their names and the shapes beside them.

    `branch_layers` is the number of layers of a branch, or None if it is not known.
    """
    paths = {
        leaf.path for _, ends in _groups(leaves, branch_layers) for leaf in ends or ()
    }
    return Paths("the last layers of branches, by their names", frozenset(paths))


def unclear(leaves: list[Leaf], branch_layers: int | None = None) -> Paths:
    """Return the kernels of modules whose last layer cannot be told.

    A recipe raises an error for them (`refuse`), since a wrong guess would start the
    wrong layer at 0.
    """
    paths = {
        leaf.path
        for several, ends in _groups(leaves, branch_layers)
        if ends is None
        for leaf in several
    }
    return Paths("layers of branches in an unknown order", frozenset(paths))


def nameless(leaves: list[Leaf]) -> Paths:
    """Return the kernels that may be those of an attention with unknown names.

    They lie in a module of three or more such kernels, or beside some of the kernels of
    an attention without the others.
    """
    paths: set[str] = set()
    for inside in _modules(leaves):
        unknown = [x for x in inside if not _is_known(x)]
        kinds = [
            any(x.parts[-2] in names for x in inside) for names in (QUERY, KEY, VALUE)
        ]
        is_part = any(kinds) and not all(kinds)
        if not outer(inside[0]) and (len(unknown) > 2 or (is_part and unknown)):
            paths |= {leaf.path for leaf in unknown}
    return Paths("layers of unknown names", frozenset(paths))


def _is_known(leaf: Leaf) -> bool:
    name = leaf.parts[-2]
    is_numbered = re.fullmatch(r".*_\d+", name) is not None
    is_window = len(leaf.value.shape) > 3 or "conv" in name.lower()
    return (
        is_numbered
        or is_window
        or _is_of_attention(leaf)
        or name in INNER
        or name in LAST
        or not _is_in_branch(leaf)
    )


def refuse(path: str, _leaf: object) -> Any:
    """Raise the error of a kernel that may or may not end a branch."""
    raise ValueError(
        f"neither names nor shapes tell whether {path!r} ends a residual branch: Linen "
        "numbers layers as they are made, which need not be the order in which they "
        "run. Make the plan from a Network, jinit.network(model, *arguments), which "
        "shows it; or pass the recipe residual_outputs=[...], patterns of the layers "
        "that end the branches."
    )


def in_branches(leaves: list[Leaf]) -> Paths:
    """Return the kernels of modules inside the model, except heads and shortcuts."""
    paths = {
        leaf.path
        for leaf in _kernels(leaves)
        if not outer(leaf) and _is_in_branch(leaf)
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
    # The readout is usually made last, so the layer with the largest number is taken.
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


def _is_last(leaf: Leaf, branch_layers: int | None) -> bool:
    """Tell whether a layer ends a branch by its name, wherever it stands."""
    name = leaf.parts[-2]
    # BERT's ports have "attention/output/dense" and "output/dense".
    if leaf.parts[-3:-1] == ("output", "dense"):
        return True
    if branch_layers is None or not name[-1:].isdigit():
        return name in LAST
    # In a branch of three layers "linear2" is not the last one, but "linear3" is.
    kinds = "linear|lin|fc|conv"
    return re.fullmatch(f"({kinds})_?{branch_layers}", name, re.I) is not None


def _kernels(leaves: Iterable[Leaf]) -> list[Leaf]:
    return [x for x in leaves if len(x.parts) > 1 and x.parts[-1] == "kernel"]


def _modules(leaves: list[Leaf]) -> Iterable[list[Leaf]]:
    """Return the kernels of the layers of each module."""
    modules: dict[tuple[str, ...], list[Leaf]] = {}
    for leaf in _kernels(leaves):
        modules.setdefault(leaf.parts[:-2], []).append(leaf)
    return modules.values()


def _reads_heads(leaf: Leaf) -> bool:
    """Tell whether a kernel makes queries, keys or values, by its layer's name."""
    return any(leaf.parts[-2] in names for names in (QUERY, KEY, VALUE, FUSED))


def _attends(inside: list[Leaf]) -> bool:
    names = [leaf.parts[-2] for leaf in inside]
    return any(name in FUSED for name in names) or all(
        any(name in kind for name in names) for kind in (QUERY, KEY, VALUE)
    )


def _groups(
    leaves: list[Leaf], branch_layers: int | None
) -> Iterable[tuple[list[Leaf], list[Leaf] | None]]:
    """Yield the kernels of each branch, and those that end it (None: unclear)."""
    widths = _widths(leaves)
    numbered = set()
    for several, ends in _in_order(leaves, widths, branch_layers):
        numbered |= {leaf.path for leaf in several}
        yield several, ends
    for inside in _modules(leaves):
        rest = [leaf for leaf in inside if leaf.path not in numbered]
        attends = _attends(rest)
        if attends:
            yield from _attention(rest, branch_layers)
        others = [x for x in rest if not (attends and _is_of_attention(x))]
        # A layer "out" of the model itself may be its readout.
        if others and not outer(others[0]):
            yield from _perceptron(others, widths, branch_layers, attends)


def _is_of_attention(leaf: Leaf) -> bool:
    name = leaf.parts[-2]
    return _reads_heads(leaf) or name in OUT_OF_HEADS


def _attention(
    inside: list[Leaf], branch_layers: int | None
) -> Iterable[tuple[list[Leaf], list[Leaf] | None]]:
    ends = [x for x in inside if x.parts[-2] in OUT_OF_HEADS and not _reads_heads(x)]
    others = [x for x in inside if not _reads_heads(x)]
    # An attention by itself has one layer more, whatever its name is.
    if not ends and len(others) == 1 and others[0].parts[-2] not in INNER:
        ends = others
    # The last layer may lie in another module, as in "attention/output/dense".
    if ends or others:
        yield [x for x in inside if x not in ends] + ends, ends or None


def _perceptron(
    several: list[Leaf],
    widths: set[int],
    branch_layers: int | None,
    attends: bool,
) -> Iterable[tuple[list[Leaf], list[Leaf] | None]]:
    """Yield the layers of a module that are not of its attention, and their end."""
    several = [x for x in several if _is_in_branch(x)]
    names = [x.parts[-2] for x in several]
    ends = [x for x in several if _is_last(x, branch_layers)]
    # In Llama's w1, w2, w3 the second is the last: w2 (silu(w1 x) w3 x).
    if not ends and any(name in INNER for name in names):
        ends = [x for x in several if x.parts[-2].lower() in ("w2", "w_2")]
    # The kernels of convolutions have other widths from stage to stage.
    is_flat = all(len(x.value.shape) < 4 and "conv" not in x.parts[-2] for x in several)
    if ends or not several:
        yield several, ends
    elif is_flat and len(several) > 1 and not any(map(_reads_heads, several)):
        yield several, _last_by_width(several, widths)


def _last_by_width(several: list[Leaf], widths: set[int]) -> list[Leaf] | None:
    """Return those of some layers in no order that end a branch; None if unclear."""
    sizes = [leaf.value.shape[-2:] for leaf in several]
    read = {inputs for inputs, _ in sizes}
    if read & widths and any(inputs != outputs for inputs, outputs in sizes):
        return _last(several, widths)
    # Only the usual form d -> 4 d -> d has a layer that one can tell from the others.
    down = [x for x, (n, m) in zip(several, sizes, strict=True) if n > m]
    return down if len(down) == 1 else None


def _is_in_branch(leaf: Leaf) -> bool:
    return leaf.parts[-2] not in HEADS and not any(map(SHORTCUTS.search, leaf.parts))


def _numbered(kind: str, inside: list[Leaf], most: int | None) -> list[Leaf]:
    """Return a module's layers of one class, in the order of their numbers.

    Layers with the numbers `most` and higher do not belong to the branch.
    """
    numbered = []
    for leaf in inside:
        match = NUMBERED.fullmatch(leaf.parts[-2])
        if match and match[1] == kind and (most is None or int(match[2]) < most):
            numbered.append((int(match[2]), leaf))
    return [leaf for _, leaf in sorted(numbered, key=lambda pair: pair[0])]


def _in_order(
    leaves: list[Leaf], widths: set[int], branch_layers: int | None
) -> Iterable[tuple[list[Leaf], list[Leaf] | None]]:
    """Yield each module's numbered layers, and the last of them (None: unclear)."""
    for inside in _modules(leaves):
        dense = _numbered("Dense", inside, branch_layers)
        if len(dense) >= (branch_layers or 2) and not outer(dense[0]):
            yield dense, _last(dense, widths)
        # The channels of a stream change from stage to stage, so the shapes of
        # convolutions tell nothing. The number of layers of a branch must be known.
        convs = _numbered("Conv", inside, branch_layers)
        if branch_layers and len(convs) == branch_layers and not outer(convs[0]):
            yield convs, convs[-1:]


def _widths(leaves: list[Leaf]) -> set[int]:
    """Return the widths that the residual stream may have.

    Norms read the stream, embeddings and the outputs of attention write to it, and so
    do the layers outside of all modules.
    """
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
    # A square layer of the stream's width may be the first of a branch or the last.
    squares = [i for i in ends if sizes[i][0] == sizes[i][1]]
    one_width = len({sizes[i][1] for i in ends}) <= 1
    return [several[i] for i in ends] if one_width and not squares else None
