"""A layer that grows or shrinks with the width gets a sentence that names the cure.

The evidence is measured: how the std of each kernel at the start, and the size of its
update, depend on the width, beside the same numbers of the parametrization.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .._core.results import Row
from .._core.trees import strip_collection
from ._factors import Tensor
from ._rescale import LAWS, drawn_growth
from ._slopes import slope_of

# Slopes of kernels that differ by less are equal: small kernels have few entries.
_NEAR = 0.25

_PLAIN = (
    "`tx` is one optimizer for every width: pass `tx=lambda p: p.optimizer(tx)`, which "
    "divides the rates by the width where that is due and starts the model by p.init."
)
_PLAIN_OUTPUT = (
    f"{_PLAIN[:-1]}, and multiply the logits by p.readout_scale, the base width over "
    "the width."
)
_MULTIPLIER = (
    "The output is as large as its readout makes it, so the readout multiplier is "
    "missing: multiply the logits, or the input of the readout, by p.readout_scale, "
    'the base width over the width, or pass a `parametrize` with readout="weights".'
)
_ATTENTION = (
    "The layers before it are flat, so the logits q k' lack their factor: divide them "
    "by head_dim and not by its root, by the factor "
    "mup.attention_scale(head_dim, base_head_dim)."
)
_BARE = (
    "The layers before it are flat and it has no kernel, so check wider models, and "
    "then look for a sum over the width or a factor of the width in what it computes."
)
_DIVERGED = (
    "The training diverged, which says nothing about the width: take a lower rate at "
    "the base width, and check again."
)
_PARTS = {
    "effective": (
        "The update of its kernel has the size that the parametrization gives, so look "
        "at its input and at its alignment exponents in report.refined."
    ),
    "propagated": (
        "It grows more than the change of its input, so the start W_0 of {path} is too "
        "large in a wide model along the directions that training takes: let p.init "
        'start it, with a multiplier or readout="weights" if it is a readout.'
    ),
}
_FIRST = "{path} is not flat either, which this may follow from: mend {path} first."
_AROUND = (
    "Its kernel starts and moves as the parametrization says, so check wider models, "
    "and then look for a sum over the width or a factor of the width around it; "
    "refined=True shows which part of its change it is."
)


class Kernel(NamedTuple):
    """A Kernel has the slopes of a weight's std and update, measured and expected.

    A measured slope is None for zeros, and so is an expected one for a weight that the
    parametrization does not know. `multiplier` is the slope of its multiplier.
    """

    path: str
    start: float | None
    update: float | None
    start_expected: float | None = None
    update_expected: float | None = None
    multiplier: float = 0.0
    widths: tuple[int, ...] = ()
    tensors: tuple[Tensor, ...] = ()

    @property
    def starts_wrong(self) -> bool:
        """Tell whether its std at the start depends on the width in another way."""
        return _differ(self.start, self.start_expected)

    @property
    def moves_wrong(self) -> bool:
        """Tell whether the size of its update depends on the width in another way."""
        return _differ(self.update, self.update_expected)


class Evidence(NamedTuple):
    """The evidence has all that a check knows about its layers.

    `rows` are those of the layers, in the order of execution. `kernels` maps layers to
    their weights, and `readouts` are the weights that give the output. `has_init` says
    that the user gave `init`.
    """

    is_parametrized: bool
    has_init: bool
    rows: Sequence[Row]
    kernels: Mapping[str, Kernel]
    readouts: Sequence[Kernel]


def kernel_of(
    path: str,
    widths: Sequence[int],
    sizes: Sequence[tuple[float, float]],
    tensors: Sequence[Tensor],
) -> Kernel:
    """Return the slopes of a weight.

    Args:
      path: the path of the weight.
      widths: the widths.
      sizes: for each width its rms at the start, and that of its update.
      tensors: the weight in the parametrization of each width, or nothing.
    """
    start, update = (_slope(widths, values) for values in zip(*sizes, strict=True))
    if not tensors:
        return Kernel(path, start, update)
    factors = [tensor.factors for tensor in tensors]
    # The entries of a right update have the size of Adam's rate, also under SGD, whose
    # rate makes up for the size of the gradient.
    std, rate, multiplier = (
        _slope(widths, [getattr(one, name) for one in factors])
        for name in ("std", "adam", "multiplier")
    )
    return Kernel(
        path, start, update, std, rate, multiplier or 0.0, tuple(widths), tuple(tensors)
    )


def by_path(tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return tensors by their paths, without Linen's "params"."""
    return {"/".join(strip_collection(tensor.parts)): tensor for tensor in tensors}


def _slope(widths: Sequence[int], values: Sequence[float]) -> float | None:
    is_usual = all(math.isfinite(value) and value > 0 for value in values)
    return slope_of(widths, values) if is_usual else None


def _differ(measured: float | None, expected: float | None) -> bool:
    if measured is None or expected is None:
        return False
    return abs(measured - expected) > _NEAR


def cure(evidence: Evidence, path: str, layer: str) -> str:
    """Return a sentence that says what to do about a layer that is not flat.

    Args:
      evidence: all that the check knows.
      path: the row of the layer.
      layer: the name of the layer, without the step of a scan.
    """
    if _diverged(evidence.rows):
        return _DIVERGED
    if not evidence.is_parametrized:
        return _PLAIN if path != "output" else _PLAIN_OUTPUT
    kernels = list(evidence.readouts) if path == "output" else []
    if layer in evidence.kernels and not kernels:
        kernels = [evidence.kernels[layer]]
    for kernel in kernels:
        if kernel.starts_wrong:
            return _start(kernel, evidence.has_init)
    if _lacks_multiplier(evidence):
        return _MULTIPLIER if path == "output" else _FIRST.format(path="output")
    for kernel in kernels:
        if kernel.moves_wrong:
            return _update(kernel)
    earlier = _first_sick(evidence.rows, path)
    if earlier is not None:
        return _FIRST.format(path=earlier)
    if layer.rpartition("/")[2] == "softmax":
        return _ATTENTION
    return _AROUND if kernels else _BARE


def part_cure(evidence: Evidence, path: str, layer: str, name: str) -> str:
    """Return a sentence about a part of a change, "effective" or "propagated"."""
    if _diverged(evidence.rows):
        return _DIVERGED
    if not evidence.is_parametrized:
        return _PLAIN
    kernel = evidence.kernels.get(layer)
    if kernel is not None and kernel.starts_wrong:
        return _start(kernel, evidence.has_init)
    if _lacks_multiplier(evidence):
        return _FIRST.format(path="output")
    if name == "effective" and kernel is not None and kernel.moves_wrong:
        return _update(kernel)
    earlier = _first_sick(evidence.rows, path)
    if earlier is not None and name == "effective":
        return _FIRST.format(path=earlier)
    return _PARTS[name].format(path=path)


def _diverged(rows: Sequence[Row]) -> bool:
    """Tell whether a size after training is not finite."""
    return not all(math.isfinite(size) for row in rows for size in row["size"])


def _first_sick(rows: Sequence[Row], path: str) -> str | None:
    """Return the first row that is not flat, if it is one before `path`."""
    sick = [row["path"] for row in rows if row["verdict"] != "flat"]
    return sick[0] if sick and sick[0] != path else None


def _lacks_multiplier(evidence: Evidence) -> bool:
    """Tell whether nothing multiplies what a readout computes.

    Its kernel keeps its std at every width, so that the output starts with the root of
    the width where it should start with the inverse root. A readout of zeros shows in
    the slope of its change: 1 where it should be 0.
    """
    readouts = [x for x in evidence.readouts if x.multiplier < -_NEAR]
    outputs = [row for row in evidence.rows if row["path"] == "output"]
    if not readouts or not outputs or any(x.starts_wrong for x in readouts):
        return False
    (row,) = outputs
    # The output also grows with what an earlier layer gives it.
    sick = [one for one in evidence.rows if one["verdict"] != "flat" and one != row]
    if any(size > 0 for size in row["init"]):
        is_first = all(one["init_slope"] < _NEAR for one in sick)
        return is_first and bool(row["init_slope"] > row["init_expected"] + 0.5)
    return not sick and bool(row["change_slope"] > 0.5)


def _start(kernel: Kernel, has_init: bool) -> str:
    measured, expected = _text(kernel.start), _text(kernel.start_expected)
    begin = (
        f"The std of {kernel.path} starts with the slope {measured} where the "
        f"parametrization has {expected}"
    )
    if has_init:
        return (
            f"{begin}: let `init` return p.init(params), once and right after the "
            "draw, with `drawn=` for initializers whose std does not follow fan_in."
        )
    law = _law_of(kernel)
    if law is None:
        return (
            f"{begin}: the std of its initializer grows in no usual way, so give "
            "`init=` a function that sets the std."
        )
    return (
        f"{begin}, since p.init expects another std of its initializer: give "
        f"init=lambda p, params: p.init(params, drawn=[({f'**/{kernel.path}'!r}, "
        f"{law!r})])."
    )


def _update(kernel: Kernel) -> str:
    measured, expected = _text(kernel.update), _text(kernel.update_expected)
    begin = (
        f"The update of {kernel.path} has the slope {measured} where the rates of the "
        f"parametrization give {expected}"
    )
    if (kernel.update or 0.0) > (kernel.update_expected or 0.0):
        return (
            f"{begin}: wrap the whole optimizer, `tx=lambda p: p.optimizer(tx)`, and "
            "scale no rate outside of it."
        )
    return (
        f"{begin}: wrap the whole optimizer, `tx=lambda p: p.optimizer(tx)`, and, if "
        "it is Adam, see that its epsilon is below the gradients of the widest model."
    )


def _law_of(kernel: Kernel) -> str | None:
    """Return how the initializer's std grows, as a word of `LAWS`, or None.

    p.init has multiplied by factor / (assumed growth), so that the std of the start has
    the slope of the law, plus that of the factor, minus that of the assumed growth.
    """
    tensors, widths = kernel.tensors, kernel.widths
    if kernel.start is None or any(one.base is None for one in tensors):
        return None

    def slope(law: str | None) -> float:
        return slope_of(widths, [drawn_growth(one, law) for one in tensors])

    drawn = kernel.start - (kernel.start_expected or 0.0) + slope(None)
    # A readout has a few outputs at every width, so "fan_out" is constant there, too.
    laws = sorted(LAWS, key=("fan_in", "constant", "fan_avg", "fan_out").index)
    law = min(laws, key=lambda law: abs(slope(law) - drawn))
    return law if abs(slope(law) - drawn) < _NEAR / 2 else None


def _text(slope: float | None) -> str:
    return "-" if slope is None else f"{slope:+.2f}"
