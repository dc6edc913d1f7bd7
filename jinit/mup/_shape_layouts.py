"""The layouts of tensors are read off shapes, if there is no network.

Shapes alone rarely tell inputs from outputs. The evidence is, in this order: a stack
axis that a whole module shares; the bias beside a kernel, which has its output axes;
names; and the convention (inputs, outputs) of Flax. A tensor without evidence has a
doubt, which the table tells, or is an error.
"""

from collections import defaultdict
from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

from .._core.trees import Leaf
from .._network.flax_names import HEADS, INTO_HEADS, OUT_OF_HEADS
from ._growth import Shape, ambiguous, growing_axes

Parts = tuple[str, ...]
# The shapes of a tensor at the base width, at the target width, and maybe at a third.
Sizes = tuple[Shape, ...]

# Parameters with these names have no inputs.
# Such a parameter may have two axes, as the bias of a query, (heads, head_dim).
_VECTORS = ("bias", "scale", "gamma", "beta", "mean", "var")
# The bias of a kernel is called so, where both lie in one module.
_BIASES = {"kernel": "bias", "weight": "bias", "w": "b", "W": "b"}
# The rows of these tables are looked up, and the width never grows by more rows.
_TABLES = ("emb", "relative", "relpos", "position", "bias", "wte", "wpe")
# Flax keeps these as (inputs, outputs); other libraries have other names.
_OF_FLAX = ("kernel", "embedding")
_OF_PRODUCTS = (HEADS, INTO_HEADS, OUT_OF_HEADS)
_ROUTERS = ("router", "gate", "gating")


class ShapesOfModel(NamedTuple):
    """A ShapesOfModel has the shapes of a model at several widths, and their evidence.

    `sizes` are the shapes of each tensor without its stack axis, `stacks` the numbers
    of these axes. `order` is the layout of matrices that biases show, if they agree.
    """

    sizes: Mapping[Parts, Sizes]
    stacks: Mapping[Parts, int]
    order: str | None


def shapes_of_model(sizes: Mapping[Parts, Sizes]) -> ShapesOfModel:
    """Return the shapes of a model, after a look for stacks and biases."""
    stacks = _stacks(sizes)
    reduced = {
        parts: tuple(_without(shape, stacks.get(parts)) for shape in shapes)
        for parts, shapes in sizes.items()
    }
    orders = set()
    for parts, shapes in reduced.items():
        outputs = _outputs_by_bias(parts, reduced)
        if outputs is not None and len(shapes[0]) == 2 and parts[-1] not in _OF_FLAX:
            orders.add("io" if outputs == {1} else "oi")
    order = orders.pop() if len(orders) == 1 else None
    return ShapesOfModel(reduced, stacks, order)


def layout_by_shapes(leaf: Leaf, model: ShapesOfModel) -> tuple[str, tuple[str, ...]]:
    """Return the layout of a tensor, and its doubts.

    Raises:
      ValueError: if neither shapes nor names tell it.
    """
    ndim = len(leaf.value.shape)
    module, name = names_of(leaf)
    if ndim < 2 or name in _VECTORS:
        return "o" * ndim, ()
    sizes = model.sizes[leaf.parts]
    layout, doubts = _layout(leaf, module, name, sizes, model)
    stack = model.stacks.get(leaf.parts)
    if stack is not None:
        layout = layout[:stack] + "b" + layout[stack:]
    return layout, doubts


def _layout(
    leaf: Leaf, module: str, name: str, sizes: Sizes, model: ShapesOfModel
) -> tuple[str, tuple[str, ...]]:
    ndim, axes = len(sizes[0]), growing_axes(sizes)
    if ndim < 2:
        return "o" * ndim, ()
    usual = "io" if ndim == 2 else _usual(module, ndim, axes)
    outputs = _outputs_by_bias(leaf.parts, model.sizes)
    if outputs is not None:
        # The usual layout tells stacks and windows apart, so it stays where both say
        # the same about the axes that grow.
        agrees = usual and all((usual[x] == "o") == (x in outputs) for x in axes)
        return (usual if usual and agrees else _around(outputs, ndim)), ()
    # A table of embeddings or of relative positions may have its features first.
    if len(axes) == 1 and _is_table(leaf):
        return "".join("o" if x in axes else "i" for x in range(ndim)), ()
    if name not in _OF_FLAX and (model.order == "oi" or name == "weight"):
        usual = _in_pytorch_style(leaf, module, usual, sizes, model.order)
    # Keys (inputs, heads, size) with more heads grow as a stack (2, inputs, size) does.
    if ndim == 3 and axes == (1,) and name not in _OF_FLAX:
        usual = None
    # Neither the window of a convolution nor a stack grows with the width.
    if usual is None or any(usual[axis] == "k" for axis in axes):
        raise ambiguous(leaf, axes)
    is_open = ndim == 2 and len(axes) == 1 and name not in (*_OF_FLAX, "weight")
    return usual, ("order",) if is_open and model.order is None else ()


def _in_pytorch_style(
    leaf: Leaf, module: str, usual: str | None, sizes: Sizes, order: str | None
) -> str | None:
    """Return the layout of a weight that may be (outputs, inputs), as in PyTorch.

    Raises:
      ValueError: if one axis grows, and nothing tells what it is.
    """
    ndim, axes = len(sizes[0]), growing_axes(sizes)
    if order == "oi" and set(axes) <= {0, 1}:
        # An embedding (entries, features) grows as a readout (outputs, inputs) does.
        if axes == (1,) and not any(module in names for names in _OF_PRODUCTS):
            raise ambiguous(
                leaf, axes, "it may be an embedding, or a readout that is kept as "
                "(outputs, inputs), and both grow alike. Networks in the place of "
                "shapes tell",
            )  # fmt: skip
        return "oi" + "k" * (ndim - 2)
    if order is None and len(axes) == 1:
        if module not in HEADS:
            raise ambiguous(leaf, axes)
        return "".join("i" if x in axes else "o" for x in range(ndim))
    return usual


def _around(outputs: set[int], ndim: int) -> str:
    """Return a layout with these output axes, which are all that a bias shows."""
    # Convolutions have their window behind (outputs, inputs), or before them.
    if outputs == {0}:
        return "oi" + "k" * (ndim - 2)
    if outputs == {ndim - 2}:
        return "k" * (ndim - 2) + "oi"
    return "".join("o" if axis in outputs else "i" for axis in range(ndim))


def _usual(module: str, ndim: int, axes: tuple[int, ...]) -> str | None:
    """Return the layout of three axes or more by Flax's names and by growth, or None.

    Two axes that grow are the inputs and the outputs; of three one is split, and it may
    be either.
    """
    by_name = heads_layout(module, ndim, axes)
    if by_name is not None:
        return by_name
    if len(axes) > 2:
        return None
    # Three axes are a stack of matrices, unless a name says that they are a window's.
    # Both grow alike, but a window multiplies the number of inputs.
    around = "k" if ndim > 3 or "conv" in module else "b"
    if len(axes) == 2:
        first, last = axes
        return around * first + "i" * (last - first) + "o" * (ndim - last)
    window = around * (ndim - 2) + "io"
    # A first convolution grows in its outputs alone.
    if not axes or axes[0] == ndim - 1 or "conv" in module:
        return window
    if axes[0] == 0:
        # A readout with several output axes, such as (d, codebooks, codes), has its
        # inputs first.
        return "i" + "o" * (ndim - 1)
    return window if ndim > 3 and axes[0] == ndim - 2 else None


def names_of(leaf: Leaf) -> tuple[str, str]:
    """Return (module name, parameter name); a parameter alone is its own module."""
    # The modules of Haiku have names such as "transformer/~/query".
    names = leaf.path.lower().split("/")
    is_alone = len(names) < 2 or names[-1] not in ("kernel", "weight", "w")
    return names[-1 if is_alone else -2], names[-1]


def heads_layout(module: str, ndim: int, axes: tuple[int, ...]) -> str | None:
    """Return the layout of a projection into or out of heads, else None.

    More than three axes are a stack of such projections, along the first axis, or along
    the second where the first one grows and the second does not.
    """
    # A layer outside of attention may be called "out", too. Its growing axes tell.
    if module in INTO_HEADS:
        # Layers of flat kernels, since inputs that stay beside larger and more heads
        # are rare.
        if ndim == 3 and axes == (1, 2):
            return "bio"
        inner = "ioo"
    elif module in OUT_OF_HEADS:
        inner = "iio"
    else:
        return None
    stack = ndim - 3
    behind = inner[:1] + "b" * stack + inner[1:]
    fits = stack > 0 and 0 in axes and all(behind[axis] != "b" for axis in axes)
    return behind if fits else "b" * stack + inner


def is_beside_others(leaf: Leaf) -> bool:
    """Tell whether a name says that a tensor feeds other layers of its block."""
    module, _ = names_of(leaf)
    return module in INTO_HEADS or module in _ROUTERS


def is_head(leaf: Leaf) -> bool:
    """Tell whether a name says that a tensor writes the results of the model."""
    return names_of(leaf)[0] in HEADS


def _is_table(leaf: Leaf) -> bool:
    names = [part.lower() for part in leaf.parts[-2:]]
    # The kernel of a layer called "embed" is a matrix, and "embed_out" is a readout.
    is_matrix = names[-1:] == ["kernel"] or any(
        "out" in name or "unemb" in name for name in names
    )
    return not is_matrix and any(mark in name for name in names for mark in _TABLES)


def _outputs_by_bias(parts: Parts, sizes: Mapping[Parts, Sizes]) -> set[int] | None:
    """Return the axes of a kernel that the bias beside it has, or None."""
    if not parts or parts[-1] == "embedding":
        # A bias beside a tied embedding belongs to the logits.
        return None
    kernel, bias = _axes(sizes[parts]), _axes_of_bias(parts, sizes)
    if not bias or len(bias) >= len(kernel):
        return None
    matches = [
        set(axes)
        for axes in combinations(range(len(kernel)), len(bias))
        if sorted(kernel[axis] for axis in axes) == sorted(bias)
    ]
    grown = set(growing_axes(sizes[parts]))
    # A square matrix matches twice, and needs no evidence. A window may be as long as
    # the outputs, and does not grow as they do.
    if not matches or any(grown & axes != grown & matches[0] for axes in matches):
        return None
    # Outputs stand before the inputs that grow, unless they stand behind them.
    return max(matches, key=lambda axes: bool({axis + 1 for axis in axes} & grown))


def _axes_of_bias(parts: Parts, sizes: Mapping[Parts, Sizes]) -> list[Shape]:
    """Return the lengths, at each width, of the axes of the bias beside a kernel."""
    *module, name = parts
    # Also "w_in" and "b_in", or "w1" and "b1".
    names = [b + name[len(w) :] for w, b in _BIASES.items() if name.startswith(w)]
    # The two matrices of a recurrent cell, "weight_ih" and "weight_hh", share a bias.
    names += ["bias"] if name.startswith("weight") else []
    for beside in ((*module, bias) for bias in names):
        if beside in sizes:
            # Equinox gives the bias of a convolution axes of one entry.
            return [axis for axis in _axes(sizes[beside]) if set(axis) != {1}]
    return []


def _axes(sizes: Sizes) -> list[Shape]:
    """Return the lengths at each width, for each axis."""
    return list(zip(*sizes, strict=True))


def _stacks(sizes: Mapping[Parts, Sizes]) -> dict[Parts, int]:
    """Return the number of the stack axis for each tensor of a scanned module.

    All tensors of such a module, its biases and scales too, share an axis that does not
    grow: the first one, or the second.
    """
    below: dict[Parts, list[Parts]] = defaultdict(list)
    for parts in sizes:
        for length in range(1, len(parts)):
            below[parts[:length]].append(parts)
    stacks: dict[Parts, int] = {}
    for members in below.values():
        axis = _shared_axis([(x[-1].lower(), sizes[x]) for x in members])
        if axis is not None:
            # Outer modules come first, and a stack of stacks is rare.
            stacks = dict.fromkeys(members, axis) | stacks
    return stacks


def _shared_axis(members: list[tuple[str, Sizes]]) -> int | None:
    """Return the axis that all tensors of a module share, or None."""
    # Matrices alone may share an axis by chance. Vectors of two axes seldom do; the
    # bias of a convolution in Equinox, (outputs, 1, 1), is none.
    has_vector = any(
        name in _VECTORS and sum(n > 1 for n in shapes[0]) > 1
        for name, shapes in members
    )
    has_stack = any(n not in _VECTORS and len(s[0]) > 2 for n, s in members)
    if not (has_vector and has_stack):
        return None
    for axis in (0, 1):
        if any(len(s[0]) <= axis for _, s in members):
            return None
        lengths = {shape[axis] for _, s in members for shape in s}
        if len(lengths) == 1:
            return axis
    return None


def _without(shape: Shape, axis: int | None) -> Shape:
    return shape if axis is None else shape[:axis] + shape[axis + 1 :]
