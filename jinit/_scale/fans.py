"""The fans of a kernel are counted from its shape and its layout.

fan_in is the number of inputs that an output sums, and fan_out is the number of outputs
that an input reaches. A layout has one letter for each axis: i input, o output, k
window, b batch.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from .._core import checks

Axes = int | Sequence[int]

_LETTERS = {"i": "input", "o": "output", "k": "window", "b": "batch"}
_ALPHABET = ", ".join(f"{letter!r} {name}" for letter, name in _LETTERS.items())


class Fans(NamedTuple):
    """Fans count the inputs that a unit sums, and the outputs that an input reaches."""

    fan_in: int
    fan_out: int


def fans(
    shape: checks.Shape,
    layout: str | None = None,
    *,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    groups: int = 1,
) -> Fans:
    """Count the fans of a kernel.

    fan_in = prod(input axes) prod(window axes);
    fan_out = prod(output axes) prod(window axes) / groups.

    Args:
      shape: the shape of the kernel.
      layout: one letter per axis: i input, o output, k window, b batch (independent
        copies: scanned layers, experts, ensembles). "io" is a Dense kernel, "kkio" a
        2-D convolution in Flax and "oikk" in PyTorch, "ioo" a query kernel
        (width, heads, head size), "bio" a scanned Dense.
      in_axis: the input axes by number, instead of a layout.
      out_axis: the output axes by number.
      batch_axis: the batch axes by number; axes without a name are window.
      groups: the groups of a grouped convolution. Its kernel holds the inputs of one
        group, as in Flax and PyTorch, so only the outputs are divided.

    Returns:
      `Fans(fan_in, fan_out)`, two integers. A fan is 0 if an axis has the length 0.

    Raises:
      TypeError: if the shape, the layout or an axis has a wrong type.
      ValueError: if the layout does not fit the shape, axes are out of range or
        overlap, `groups` does not divide the outputs, or the shape has fewer than two
        axes and none is named.

    Example:
      >>> import jinit
      >>> jinit.fans((3, 3, 64, 128), "kkio")
      Fans(fan_in=576, fan_out=1152)
      >>> jinit.fans((512, 8, 64), "ioo")
      Fans(fan_in=512, fan_out=512)
      >>> jinit.fans((3, 3, 1, 128), groups=128)  # depthwise
      Fans(fan_in=9, fan_out=9)
    """
    shape = checks.shape(shape, symbolic=True)
    groups = checks.positive("groups", groups)
    if layout is None:
        layout = layout_of_axes(shape, in_axis, out_axis, batch_axis)
    else:
        check_layout_or_axes(layout, in_axis, out_axis, batch_axis)
    _check_length(layout, shape)
    # A layout without a letter has the product 1 of no lengths: a Dense kernel's
    # window.
    inputs, outputs, window = (_product(shape, layout, letter) for letter in "iok")
    if outputs % groups:
        raise ValueError(
            f"`groups` is {groups}, which does not divide the {outputs} outputs of "
            f"shape {shape}; take the `feature_group_count` of the convolution."
        )
    # JAX does not know groups: its fan_out of a depthwise kernel is too large by their
    # number.
    return Fans(inputs * window, outputs * window // groups)


def fans_from_einsum(equation: str, shape: checks.Shape, operand: int = 1) -> Fans:
    """Read the fans of one operand off an einsum equation.

    Axes of the operand that the output does not have are summed over, so they are
    inputs. Axes that the output has are outputs, or batch if another operand has them.

    Args:
      equation: as for `jnp.einsum`, with or without "->".
      shape: the shape of the operand that is initialized.
      operand: the number of that operand, counted from 0.

    Returns:
      `Fans(fan_in, fan_out)`.

    Raises:
      TypeError: if `equation` is not a string, or `operand` is not an integer.
      ValueError: if `equation` is invalid, or does not have the operand, or the shape
        has another number of axes.

    Example:
      >>> import jinit
      >>> jinit.fans_from_einsum("btd,dhk->bthk", (512, 8, 64))
      Fans(fan_in=512, fan_out=512)
      >>> jinit.fans_from_einsum("ebd,edf->ebf", (16, 512, 2048))  # 16 experts
      Fans(fan_in=512, fan_out=2048)
    """
    shape = checks.shape(shape)
    terms, output = _parse(equation)
    term = _operand(equation, terms, operand)
    if len(set(term)) != len(term):
        raise ValueError(
            f"operand {operand} of `equation` {equation!r} is {term!r}, which repeats "
            "an axis; the fans of a diagonal are not defined."
        )
    # An axis that both operands have and the output keeps is not summed: each of its
    # indices has a kernel of its own, as experts have.
    others = set("".join(t for i, t in enumerate(terms) if i != operand % len(terms)))
    letters = {
        axis: "i" if axis not in output else "b" if axis in others else "o"
        for axis in term
    }
    if "." in term:
        # The axes of "..." are broadcast against those of the data, which copies the
        # kernel.
        term, letters["."] = _spread(equation, term, shape), "b"
    if len(term) != len(shape):
        raise ValueError(
            f"operand {operand} of `equation` {equation!r} is {term!r}, with "
            f"{len(term)} axes, and `shape` {shape} has {len(shape)}; they must agree."
        )
    return fans(shape, "".join(letters[axis] for axis in term))


def jax_fans(
    shape: checks.Shape, in_axis: Axes, out_axis: Axes, batch_axis: Axes
) -> tuple[float, float]:
    """Return the fans of `jax.nn.initializers`, as floats; axes may overlap.

    The order of the divisions is JAX's, since the bits of its initializers depend on
    the order.
    """
    if in_axis == -2 and len(shape) < 2:
        raise ValueError(_few_axes(shape))
    inputs, outputs, copies = (
        math.prod(shape[i] for i in _indices(name, axes, shape))
        for name, axes in (
            ("in_axis", in_axis),
            ("out_axis", out_axis),
            ("batch_axis", batch_axis),
        )
    )
    # JAX divides by zero here. Zero fans make an empty array instead.
    if not (inputs and outputs and copies):
        return 0.0, 0.0
    window = math.prod(shape) / inputs / outputs / copies
    return inputs * window, outputs * window


def _product(shape: checks.Shape, layout: str, letter: str) -> int:
    return math.prod(d for d, name in zip(shape, layout, strict=True) if name == letter)


def _indices(name: str, axes: Axes, shape: checks.Shape) -> tuple[int, ...]:
    return checks.axes(name, axes, len(shape), shape)


def layout_of_axes(
    shape: checks.Shape, in_axis: Axes, out_axis: Axes, batch_axis: Axes
) -> str:
    """Return axis numbers as letters; an axis without a name is window."""
    if (in_axis, out_axis) == (-2, -1) and len(shape) < 2:
        raise ValueError(_few_axes(shape))
    # Axes that the user named fit a shape with one axis, as that of a bias.
    letters = ["k"] * len(shape)
    named = {"in_axis": in_axis, "out_axis": out_axis, "batch_axis": batch_axis}
    for (name, axes), letter in zip(named.items(), "iob", strict=True):
        for index in _indices(name, axes, shape):
            if letters[index] != "k":
                other = next(n for n in named if n[0] == letters[index])
                raise ValueError(
                    f"`{other}` {named[other]!r} and `{name}` {axes!r} both name axis "
                    f"{index} of shape {shape}; each axis has one role."
                )
            letters[index] = letter
    return "".join(letters)


def layout_if_disjoint(
    shape: checks.Shape, in_axis: Axes, out_axis: Axes, batch_axis: Axes
) -> str | None:
    """Return axis numbers as letters, or None if there are no such letters.

    JAX allows axes that overlap, which letters cannot express. A scheme with explicit
    fans allows any shape, which may lack the axes.
    """
    try:
        return layout_of_axes(shape, in_axis, out_axis, batch_axis)
    except ValueError:
        return None


def _few_axes(shape: checks.Shape) -> str:
    return (
        f"`shape` is {shape}, which has {len(shape)} axes: too few to tell inputs from "
        "outputs. Give `in_axis` and `out_axis`, or a `layout`, or the fans "
        "themselves, `fan_in=` and `fan_out=`, to a scheme that takes them."
    )


def check_layout(layout: Any, argument: str = "layout") -> None:
    """Raise unless `layout` fits some shape; a maker does not know the shape yet."""
    if layout is None:
        return
    if not isinstance(layout, str):
        raise TypeError(
            f"`{argument}` is {layout!r}; it must be a string of one letter per axis: "
            f"{_ALPHABET}."
        )
    unknown = sorted(set(layout) - set(_LETTERS))
    if unknown:
        raise ValueError(
            f"`{argument}` is {layout!r}, in which "
            f"{', '.join(map(repr, unknown))} has no meaning; the letters are "
            f"{_ALPHABET}."
        )
    # One of the two is enough: a scheme that divides by fan_out counts "ob", too.
    if not set(layout) & {"i", "o"}:
        raise ValueError(
            f"`{argument}` is {layout!r}, and names neither an input nor an output "
            "axis; a fan needs one of them, as in 'io'."
        )


def check_layout_or_axes(
    layout: Any, in_axis: Axes, out_axis: Axes, batch_axis: Axes
) -> None:
    """Raise if an axis has two roles, or if a layout and numbers both name axes."""
    check_layout(layout)
    named = {"in_axis": in_axis, "out_axis": out_axis, "batch_axis": batch_axis}
    canonical = {name: checks.canonical_axes(name, v) for name, v in named.items()}
    # The defaults of the numbers do not tell whether they were passed, so the pair of a
    # layout and equal numbers is allowed.
    if layout is not None and tuple(canonical.values()) != (-2, -1, ()):
        raise ValueError(
            f"`layout` is {layout!r}, and axes are named too: in_axis={in_axis!r}, "
            f"out_axis={out_axis!r}, batch_axis={batch_axis!r}; pass either the layout "
            "or the axes."
        )
    roles: dict[int, str] = {}
    for name, axes in canonical.items():
        for axis in (axes,) if isinstance(axes, int) else axes:
            if axis in roles:
                other = roles[axis]
                raise ValueError(
                    f"`{other}` {named[other]!r} and `{name}` {named[name]!r} both "
                    f"name axis {axis}; each axis has one role."
                )
            roles[axis] = name


def torch_axes(in_axis: Axes, out_axis: Axes, batch_axis: Axes) -> dict[str, Any]:
    """Return the axes of PyTorch's (out, in, *window), unless settings name others."""
    if (in_axis, out_axis, batch_axis) == (-2, -1, ()):
        return {"in_axis": 1, "out_axis": 0}
    # One axis was named and the other was left at Flax's default, so it is not clear
    # which of the two layouts the user had in mind.
    if in_axis == -2 or out_axis == -1:
        raise ValueError(
            f"`in_axis` is {in_axis!r}, `out_axis` {out_axis!r} and `batch_axis` "
            f"{batch_axis!r}, and it is not clear which of them count the axes of "
            "PyTorch's kernel (out, in, *window). Name both `in_axis` and `out_axis`, "
            "or neither."
        )
    return {}


def _check_length(layout: str, shape: checks.Shape) -> None:
    # DenseGeneral draws (512, 8, 64) as (512, 512) and reshapes the draw afterwards.
    if len(layout) != len(shape):
        raise ValueError(
            f"`layout` is {layout!r}, with {len(layout)} letters, and shape {shape} "
            f"has {len(shape)} axes; give one letter per axis. Flax's DenseGeneral and "
            "attention layers pass an initializer a shape that is flattened to two "
            "axes already: there 'io' is right, and other fans are passed as numbers, "
            "by `fan_in=` and `fan_out=`."
        )


def _parse(equation: str) -> tuple[list[str], str]:
    """Return the axes of the operands and of the output; "..." becomes one "."."""
    if not isinstance(equation, str):
        raise TypeError(
            f"`equation` is {equation!r}; it must be a string such as 'btd,df->btf'."
        )
    inputs, arrow, output = (
        equation.replace(" ", "").replace("...", ".").partition("->")
    )
    terms = inputs.split(",")
    wrong = sorted(
        {c for c in "".join(terms) + output if not (c.isalpha() or c == ".")}
    )
    if wrong or any(t.count(".") > 1 for t in (*terms, output)):
        raise ValueError(
            f"`equation` is {equation!r}; it must be letters for axes, commas between "
            "operands, '...' for any further axes, and '->' before the output."
        )
    if not arrow:
        every = "".join(terms)
        output = "".join(
            sorted(c for c in set(every) if c == "." or every.count(c) == 1)
        )
    absent = sorted(set(output) - set("".join(terms)))
    if absent:
        raise ValueError(
            f"`equation` is {equation!r}, whose output has {', '.join(absent)}, which "
            "no operand has; every axis of the output must come from an operand."
        )
    return terms, output


def _operand(equation: str, terms: list[str], operand: int) -> str:
    if isinstance(operand, bool) or not isinstance(operand, int):
        raise TypeError(f"`operand` is {operand!r}; it must be an integer.")
    if not -len(terms) <= operand < len(terms):
        raise ValueError(
            f"`operand` is {operand}, and `equation` {equation!r} has {len(terms)} "
            f"operands, counted from 0; it must be from 0 to {len(terms) - 1}."
        )
    return terms[operand]


def _spread(equation: str, term: str, shape: checks.Shape) -> str:
    """Repeat the "." in an operand's axes for each axis that "..." stands for."""
    extra = len(shape) - (len(term) - 1)
    if extra < 0:
        raise ValueError(
            f"`equation` {equation!r} gives the operand at least {len(term) - 1} axes, "
            f"and `shape` {shape} has {len(shape)}; they must agree."
        )
    return term.replace(".", "." * extra)


MODES = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")


def fan(mode: str, fan_in: float, fan_out: float) -> float:
    """Return n, the fan in the denominator, by the name of a mode."""
    if mode == "fan_in":
        return fan_in
    if mode == "fan_out":
        return fan_out
    if mode == "fan_avg":
        return (fan_in + fan_out) / 2
    # A symbolic dimension has no root, but 1.0 times it is a float.
    mean: float = (1.0 * fan_in * fan_out) ** 0.5
    return mean
