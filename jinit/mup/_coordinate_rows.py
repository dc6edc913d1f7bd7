"""The rows of a coordinate check: sizes, slopes, expected slopes and verdicts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._core.results import Row
from ._slopes import average, error, lasting, slope


def row(
    path: str,
    widths: Sequence[int],
    sizes: dict[str, np.ndarray],
    tolerance: float,
    is_output: bool = False,
) -> Row:
    """Return the row of one layer, from its sizes, arrays (widths, seeds)."""
    last = path.rpartition("/")[2].partition("#")[0]
    is_output, is_logits = is_output or last == "output", last == "softmax"
    numbers = _slopes(widths, sizes)
    # A slope within two standard errors of 0 counts as 0.
    known = {name: _known(numbers, name) for name in sizes}
    late = {name: lasting(widths, x, known[name]) for name, x in sizes.items()}
    return {
        "path": path,
        **numbers,
        **_expected(sizes, is_output, is_logits),
        "verdict": _verdict(known, late, tolerance, is_output, is_logits),
    }


def refined_row(
    path: str,
    widths: Sequence[int],
    sizes: dict[str, np.ndarray],
    tolerance: float,
    expected: float = 0.0,
    is_output: bool = False,
) -> Row:
    """Return the row of the two parts of a layer's change.

    Args:
      path: the layer.
      widths: the widths.
      sizes: the numbers of `PARTS`, arrays (widths, seeds).
      tolerance: the largest difference from an expected slope.
      expected: the slope of both parts if the model has yet to multiply the output; if
        the input is multiplied instead, their slope is 0.
      is_output: whether the layer is an output, which may shrink.
    """
    numbers = _slopes(widths, sizes)
    if numbers["input_slope"] < -expected / 2:
        expected = 0.0
    return {
        "path": path,
        **numbers,
        "effective_expected": expected,
        "propagated_expected": expected,
        "effective_verdict": _part_verdict(
            numbers, widths, sizes, "effective", (expected, tolerance), not is_output
        ),
        "propagated_verdict": _propagated(numbers, widths, sizes, expected, tolerance),
    }


def _propagated(
    numbers: Row,
    widths: Sequence[int],
    sizes: dict[str, np.ndarray],
    expected: float,
    tolerance: float,
) -> str:
    """Return the verdict on the propagated part.

    If the change of the input grows, the layers before cause it, and have their own
    rows. If the part shrinks, the change of those layers shrinks.
    """
    limits = max(expected, expected + _known(numbers, "input_change")), tolerance
    return _part_verdict(numbers, widths, sizes, "propagated", limits, False)


def _part_verdict(
    numbers: Row,
    widths: Sequence[int],
    sizes: dict[str, np.ndarray],
    name: str,
    limits: tuple[float, float],
    may_shrink: bool,
) -> str:
    expected, tolerance = limits
    difference = numbers[f"{name}_slope"] - expected
    if abs(difference) <= 2 * numbers[f"{name}_error"]:
        return "flat"
    if difference > tolerance:
        return "grows"
    late = lasting(widths, sizes[name], numbers[f"{name}_slope"]) - expected
    # Narrow models align their updates better, by slopes of -0.27 in a healthy
    # transformer of width 16 to 64. Faults have slopes of -1/2 and -1.
    return "shrinks" if may_shrink and late < -2 * tolerance else "flat"


def _slopes(widths: Sequence[int], sizes: dict[str, np.ndarray]) -> Row:
    """Return the averages over the seeds, their slopes, and the slopes' errors."""
    averages = {
        name: tuple(float(v) for v in average(values)) for name, values in sizes.items()
    }
    return {
        **averages,
        **{f"{name}_slope": slope(widths, values) for name, values in sizes.items()},
        **{f"{name}_error": error(widths, values) for name, values in sizes.items()},
    }


def _known(numbers: Mapping[str, Any], name: str) -> float:
    value = float(numbers[f"{name}_slope"])
    return value if abs(value) > 2 * numbers[f"{name}_error"] else 0.0


def _expected(
    sizes: dict[str, np.ndarray], is_output: bool, is_logits: bool
) -> dict[str, float | None]:
    """Return the slopes that muP expects in the limit of infinite width.

    An output is a sum over the width of independent products, divided by the width: it
    starts with width^(-1/2), and training aligns it. Attention's logits start so if
    heads become larger, and not if there are more heads, so no single slope is
    expected.
    """
    if is_logits:
        return {"init_expected": None, "size_expected": None, "change_expected": 0.0}
    starts = bool(np.any(sizes["init"] > 0))
    init = -0.5 if is_output and starts else 0.0
    return {"init_expected": init, "size_expected": 0.0, "change_expected": 0.0}


def _verdict(
    slopes: dict[str, float],
    late: dict[str, float],
    tolerance: float,
    is_output: bool,
    is_logits: bool,
) -> str:
    if max(slopes.values()) > tolerance:
        return "grows"
    if is_logits:
        # Logits start small in a wide model by design, and take many steps to grow.
        return "flat"
    init, size, change = (late[name] for name in ("init", "size", "change"))
    # Training also cancels the random output of the start, of which a narrow model has
    # more. So the change of a right output shrinks with width while its size does not.
    least = max(change, size) if is_output else min(change, init)
    return "shrinks" if least < -tolerance else "flat"
