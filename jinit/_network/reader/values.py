"""The reader of networks computes with three kinds of values.

A `View` depends on parameters alone, `Data` depends on the inputs, and a `Constant` on
neither. Arrays and numbers that are written into the equations count as constants.

Facts about many things at once are sets of bits in Python's integers, which cost next
to nothing: bit i of `layers` stands for the use of a parameter with the number i.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from .axes import Axes, Axis, Factor


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Constant:
    """A value that depends on no parameter and no input.

    `value` is its number where all entries are known to be one number. `is_one_hot`
    says that it comes from a comparison of whole numbers with a row of them.
    """

    value: Any = None
    is_one_hot: bool = False


def number(value: Any) -> Any:
    """Return the number that all entries of a constant are, or None."""
    if isinstance(value, Constant):
        return value.value
    if isinstance(value, View | Data):
        return None
    if np.ndim(value):
        return None
    try:
        scalar = np.asarray(value)
    except (TypeError, ValueError):  # A PRNG key is no array of NumPy's.
        return None
    return scalar[()] if scalar.dtype.kind in "biufc" else None


@dataclasses.dataclass(frozen=True, slots=True)
class Term:
    """One parameter in a view: which axis of the view is which axis of the parameter.

    Names of factors are those of `origin`, or `BROADCAST`.
    """

    parameter: int
    axes: Axes
    # The axes that steps of a scan, or indices, chose from: independent copies.
    members: tuple[Axis, ...] = ()
    # The scans whose steps have each a part of their own, with the name of the factor
    # that the steps run along.
    loops: tuple[tuple[int, int], ...] = ()
    # Factors that a product with another parameter has summed over.
    inner: tuple[Factor, ...] = ()
    # The letters of its axes in a product with a constant.
    mapped: tuple[tuple[int, str], ...] = ()
    # Where a slice of the parameter begins and ends, by axis.
    part: tuple[tuple[int, int, int], ...] = ()
    # A statistic of the parameter, such as its norm.
    is_reduced: bool = False
    # Axes that indices have chosen from which do not depend on the inputs.
    gathered: tuple[int, ...] = ()
    # It is divided by its own norm.
    is_normalized: bool = False
    # It scales another parameter of the view entry by entry.
    is_scale: bool = False
    # The function that each entry went through, a `Scalar`, or None for none. Views of
    # one parameter are equal whatever the function is.
    function: Any = dataclasses.field(default=None, compare=False)

    @property
    def is_exponential(self) -> bool:
        """Tell whether an exponential was taken, as that of a temperature is."""
        step = self.function
        while step is not None and step.eqn is not None:
            if step.eqn.primitive.name == "exp":
                return True
            step = next((a for a in step.arguments if isinstance(a, Scalar)), None)
        return False

    def factor_of(self, loop: int) -> int | None:
        """Return the name of the factor that a loop's steps run along, or None."""
        return dict(self.loops).get(loop)


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """A value that depends on parameters alone."""

    terms: tuple[Term, ...]


# The bits of a name that say which parameter and axis; those above tell pieces apart.
_ORIGIN = (1 << 32) - 1


def origin(parameter: int, axis: int) -> int:
    """Return the name of the factors that are an axis of a parameter."""
    return parameter << 6 | axis


def place(name: int) -> tuple[int, int]:
    """Return the parameter and the axis that the name of a factor stands for."""
    return (name & _ORIGIN) >> 6, name & 63


def outer_piece(name: int, inner: int) -> int:
    """Return the name of the outer piece of a factor that is cut in two.

    The inner piece, which has the given length, keeps the name of the whole. The name
    of the outer one has its stride within the axis.
    """
    if name < 0:
        return name
    stride = ((name >> 32) + 1) * inner
    return (stride - 1) << 32 | name & _ORIGIN


def whole(parameter: int, shape: Sequence[int]) -> View:
    """Return the view of a parameter as it is."""
    axes = tuple(((origin(parameter, i), size),) for i, size in enumerate(shape))
    return View((Term(parameter, axes, function=Scalar()),))


# Operations that are linear in one operand, where the others are constants.
_LINEAR = {"add", "sub", "mul", "div", "neg", "convert_element_type", "add_any"}


class Scalar:
    """A function of one number: what happened entry by entry since a value `base`."""

    __slots__ = ("arguments", "base", "bends", "depth", "eqn", "inside", "key")

    def __init__(self, eqn: Any = None, arguments: Sequence[Any] = ()) -> None:
        self.eqn = eqn
        self.arguments = arguments
        inner = [a for a in arguments if isinstance(a, Scalar)]
        self.base: Scalar = inner[0].base if inner else self
        # Equal functions have equal keys.
        steps = [a.key if isinstance(a, Scalar) else a for a in arguments]
        exponent = None if eqn is None else eqn.params.get("y")
        name = None if eqn is None else eqn.primitive.name
        self.key: int = hash((name, exponent, *steps))
        self.depth: int = 1 + max((a.depth for a in inner), default=0)
        # Whether it is a part of a longer function, as the tanh in a GELU is.
        self.inside: bool = False
        if len(inner) > 1:
            for argument in inner:
                argument._put_inside()
        # Whether the function is no straight line.
        self.bends: bool = (
            any(a.bends for a in inner)
            or len(inner) > 1
            or not (eqn is None or eqn.primitive.name in _LINEAR)
        )

    def _put_inside(self) -> None:
        """Note that the function is a part of a longer one, and so are its steps."""
        step: Scalar | None = self
        while step is not None and step.eqn is not None and not step.inside:
            step.inside = True
            inner = [a for a in step.arguments if isinstance(a, Scalar)]
            step = inner[0] if len(inner) == 1 else None


def rebased(curve: Scalar | None) -> Scalar | None:
    """Return the same function, of which other entries of the result may differ.

    A mean of an activation has gone through the activation, but it is no function of
    the entry that it is subtracted from.
    """
    if curve is None or not curve.bends:
        return None
    new = Scalar(curve.eqn, curve.arguments)
    new.base = new
    return new


class Meeting:
    """A product of two values of data, which may become the logits of attention."""

    def __init__(
        self, left: "Data", right: "Data", left_free: set[int], right_free: set[int]
    ) -> None:
        self.left, self.right = left, right
        # The labels of the axes that the product has from one side alone.
        self.left_free, self.right_free = left_free, right_free
        # Whether a later product reads it, as that of attention weights with values.
        self.is_read = False


class Exponential:
    """An exponential of data: softmax weights once it is divided by its sum."""

    def __init__(self, logits: "Data", point: Any) -> None:
        self.logits, self.point = logits, point
        # The labels of the axes that the sum ran over.
        self.labels: set[int] = set()
        self.is_normalized = False


class Attention:
    """Values that softmax weights have been contracted with."""

    def __init__(self, weights: Exponential, values: "Data", labels: set[int]) -> None:
        self.weights, self.values = weights, values
        self.labels = labels
        # The uses of parameters that read the result.
        self.readers: list[Any] = []


class Data:
    """A value that depends on the inputs.

    The attributes of the class are the defaults, so that a copy costs little.
    """

    axes: Axes = ()
    # The bases that it descends from; `stream` has those that only linear operations
    # on single entries lie between, as on the stream of a residual network.
    ancestors: int = 0
    stream: int = 0
    # The products it descends from, the last of them, and what a next product reads:
    # a norm's scale, for example, hides the products before it.
    layers: int = 0
    last: int = 0
    sources: int = 0
    # The function that was applied to each entry since the base, or None.
    scalar: Scalar | None = None
    # The activation of a gated unit, where it is the product of one.
    gated: Scalar | None = None
    # The product of two values of data that it comes from, such as logits.
    meeting: Meeting | None = None
    # The two factors of a product entry by entry, which a sum may follow.
    factors: "tuple[Data, Data] | None" = None
    # It is an exponential, up to a factor, or the sum of one, or the sum's logarithm.
    exponential: Exponential | None = None
    total: Exponential | None = None
    log_total: Exponential | None = None
    attention: tuple[Attention, ...] = ()
    # The layers whose outputs chose, by a softmax or a top_k over their units.
    routing: int = 0
    # How far it is on the way to a norm: "square", "mean_square", "root",
    # "inverse_root", "normalized"; and the scale that multiplies the inverse root.
    norm: str | None = None
    norm_scale: int = 0
    # The uses of single numbers whose exponentials have multiplied it.
    multiplied: int = 0
    # The summands of a sum that is no residual sum.
    terms: "tuple[Data, ...]" = ()
    # The uses of the biases that were added to it since the last product.
    shifts: int = 0
    # The uses of the parameters that multiplied it, or one of its summands, since then.
    mixes: int = 0
    # A parameter that was multiplied entry by entry or looked up, its use, and the
    # product. It may turn out to be a kernel: of a modulated convolution, of an expert.
    pending: "tuple[View, Any, Data | None] | None" = None
    is_one_hot: bool = False
    # Whether it is one part of a value, taken by a slice.
    is_part: bool = False
    # The use of a parameter whose output the value is, with its bias. A copy of the
    # value drops this field and the next one, which hold for the value itself.
    output_of: Any = None
    # For logits that were shifted for a softmax or masked: the place, and the number of
    # the operand, of the logits before.
    unshifted: Any = None

    def copy(self, **changes: Any) -> "Data":
        """Return the same value with some facts changed."""
        new = object.__new__(Data)
        new.__dict__.update(self.__dict__)
        new.__dict__.pop("output_of", None)
        new.__dict__.pop("unshifted", None)
        new.__dict__.update(changes)
        return new

    @property
    def curve(self) -> Scalar:
        """The function that was applied to each entry since the base."""
        if self.scalar is None:
            self.scalar = Scalar()
        return self.scalar


def is_real(factor: Factor) -> bool:
    """Tell whether a factor of a view is an axis of a parameter."""
    return factor[0] >= 0
