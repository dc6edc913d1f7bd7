"""A `CoordinateReport` has the sizes at each width, their slopes, and verdicts."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from .._core.results import Finding, Result, Row, Table, plain, saved
from ._coordinate_figure import Panel, figure_of
from ._coordinate_rows import row as row

_SLOPES = ("init", "size", "change")
_TITLES = {"size": "size after training", "change": "change by training"}
_PARTS = ("effective", "propagated")
_NOTES = (
    "Flat activations over a few steps do not prove that a rate transfers: weight "
    "decay, schedules, batch sizes and later training do not show here. "
    "mup.transfer_check trains over rates and widths and measures the best rate."
)


@dataclasses.dataclass(frozen=True)
class CoordinateReport(Result):
    """A report shows how the size and the change of every activation grow with width.

    `rows` are dicts with these keys: `path`; `init`, `size` and `change`, each a tuple
    with one number for each width (the rms before training, after training, and of the
    difference, averaged over seeds); `init_slope`, `size_slope` and `change_slope`, the
    slopes of their logarithms over the logarithm of the width; `init_error` and so on,
    the standard errors of the slopes, from the scatter of the seeds; `init_expected`
    and so on, the slopes that muP expects in the limit of infinite width (None where
    that depends on the model); `verdict`: "flat", "grows" or "shrinks"; and `cure`, a
    sentence for a layer that is not flat, else None. `print(report)` shows a table.

    A layer grows if the slope of its size or of its change is above the tolerance. It
    shrinks if the slope of its change, or of its size at the start, is below minus the
    tolerance, among the wider half of the models, too. A slope of less than two
    standard errors counts as 0. Two kinds of layers start small in a wide model, by
    design, and grow to the same size in training:

    - the output shrinks only if its size after training does, too: training also
      cancels the random initial output, and a narrow model has more of it to cancel;
    - attention's logits, which take more than a few steps, never count as shrinking.

    With refined=True `refined` has a row for each product of data with a kernel. Its
    keys are `path` and, for each of the names below, a tuple of numbers by width and
    `..._slope` and `..._error`:

    - `change`: W_t x_t - W_0 x_0, without the bias;
    - `effective`: (W_t - W_0) x_t, which the layer itself has learned;
    - `propagated`: W_0 (x_t - x_0), which comes from the layers before;
    - `input` and `input_change`: x_t and x_t - x_0;
    - `effective_spectral` = |D x| / (|D|_2 |x|) with D = W_t - W_0 and x = x_t, and
      `effective_frobenius` = |D x| / (|D|_F |x|); `propagated_spectral` and
      `propagated_frobenius` are those of W_0 and x_t - x_0. Their slopes are alignment
      exponents: 0 says that the alignment does not depend on the width, and -1/2 is
      the exponent of random directions. The spectral exponent of a random kernel of
      full rank, such as W_0, is 0 as well. For convolutions and experts |D|_2 is the
      norm of the whole linear map.

    Further keys are `effective_expected`, `propagated_expected` and the verdicts
    `effective_verdict` and `propagated_verdict`, with `effective_cure` and
    `propagated_cure`. Both expected slopes are 0, and 1 for a readout whose multiplier
    stands behind it. A propagated part grows only if it grows more than the change of
    its input, and it never counts as shrinking. An effective part shrinks if its slope
    is below minus twice the tolerance, since narrow models align their updates better.

    A slope near the tolerance often comes from a narrow model, or from few steps: look
    at the columns, and check wider models. And a check that passes says only that these
    activations keep their size in these steps. It cannot see what decides about a rate
    later or elsewhere: weight decay, a schedule, Adam's epsilon under gradients that
    become small, a batch size that changes, a depth that grows, an output that
    diverges after many steps, or a loss whose best rate moves for another reason.
    `jinit.mup.transfer_check` trains at several rates and widths, and measures whether
    the best rate stays.

    Example:
      >>> import jax, jax.numpy as jnp, jinit, optax
      >>> def model(width):
      ...     def init(key, x):
      ...         return jinit.lecun()(key, (x.shape[-1], width))
      ...     return init, lambda w, x: x @ w
      >>> x = jnp.eye(8)
      >>> report = jinit.mup.coordinate_check(
      ...     model, [16, 256], [(x, 0.0)] * 2, optax.adam(1e-2),
      ...     loss=lambda y, _: jnp.mean(y**2))
      >>> report.verdict
      {'kernel': 'flat', 'output': 'flat'}
    """

    widths: tuple[int, ...]
    rows: tuple[Row, ...]
    seeds: int
    steps: int
    tolerance: float = 0.2
    refined: tuple[Row, ...] = ()

    @property
    def verdict(self) -> dict[str, str]:
        """Return the verdict on each layer: "flat", "grows" or "shrinks"."""
        return {row["path"]: row["verdict"] for row in self.rows}

    def _table(self) -> Table:
        changes = [f"change at {width}" for width in self.widths]
        head = (
            "layer", *(f"{name} (expected)" for name in ("at init", "size", "change")),
            *changes, "verdict",
        )  # fmt: skip
        lines = [
            (
                row["path"],
                *(_slope(row, name) for name in _SLOPES),
                *(f"{value:.3g}" for value in row["change"]),
                row["verdict"],
            )
            for row in self.rows
        ]
        notes = [f"- {finding}" for finding in self.findings]
        notes = notes or ["- every layer is flat: nothing depends on the width"]
        notes += _refined_lines(self.refined)
        title = f"slopes over width: {self.steps} steps, {self.seeds} seeds"
        return Table(
            head, lines, above=[title], below=[*notes, f"- {_NOTES}"],
            marks=[row["verdict"] != "flat" for row in self.rows],
        )  # fmt: skip

    @property
    def findings(self) -> list[Finding]:
        """Return a finding for each layer that grows or shrinks with the width.

        Its category is "grows" or "shrinks", its value the slope of the change. With
        refined=True a part of a change has one too, with the slope of the part.
        """
        return [*_findings(self.rows), *_findings_of_parts(self.refined)]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON, with None for numbers that are not finite."""
        return {
            "widths": list(self.widths),
            "rows": plain(self.rows),
            "refined": plain(self.refined),
            "seeds": self.seeds,
            "steps": self.steps,
            "tolerance": self.tolerance,
            "findings": [str(finding) for finding in self.findings],
        }

    def check(self) -> None:
        """Raise unless every layer is flat.

        Raises:
          AssertionError: if a layer grows or shrinks; the text has slopes and cures.
        """
        if findings := self.findings:
            raise AssertionError("\n".join(map(str, findings)))

    def plot(self, path: Any = None) -> Any:
        """Draw size and change against width, a line for each layer.

        With refined=True two more panels have the effective and the propagated part of
        each change. All panels have one range, and thin lines of slope 0, 1/2 and 1. A
        decade of the width is as long as one of the size, unless sizes explode.

        Args:
          path: the file to write the picture to; None to write no file.

        Returns:
          The matplotlib figure.
        """
        rows = _marked(self.rows, "")
        panels = [Panel(title, rows, name) for name, title in _TITLES.items()]
        panels += [
            Panel(f"{name} part of the change", _marked(self.refined, f"{name}_"), name)
            for name in (_PARTS if self.refined else ())
        ]
        slopes = [row["change_slope"] for row in self.rows] or [0.0]
        healthy = (
            f"Nothing depends on the width in {len(self.rows)} layers: the slopes of "
            f"their changes are {min(slopes):+.2f} to {max(slopes):+.2f}"
        )
        return saved(figure_of(self.widths, panels, self.findings, healthy), path)


def _marked(rows: tuple[Row, ...], prefix: str) -> list[Row]:
    """Return rows that say whether they are sick."""
    return [{**one, "is_sick": one[f"{prefix}verdict"] != "flat"} for one in rows]


def _findings(rows: tuple[Row, ...]) -> Iterator[Finding]:
    for one in rows:
        if one["verdict"] == "flat":
            continue
        expected = (_expected(one[f"{name}_expected"]) for name in _SLOPES)
        text = (
            f"{one['path']} {one['verdict']} with width: slopes "
            f"{one['init_slope']:+.2f} at init, {one['size_slope']:+.2f} trained, "
            f"{one['change_slope']:+.2f} of the change, where {{}}, {{}} and {{}} are "
            "expected."
        ).format(*expected)
        yield Finding(
            one["verdict"], one["path"], one["change_slope"], _with_cure(text, one, "")
        )


def _findings_of_parts(rows: tuple[Row, ...]) -> Iterator[Finding]:
    for one in rows:
        for name in _PARTS:
            verdict = one[f"{name}_verdict"]
            if verdict == "flat":
                continue
            slope, expected = one[f"{name}_slope"], one[f"{name}_expected"]
            text = (
                f"The {name} part of the change of {one['path']}, {_FORMULAS[name]}, "
                f"{verdict} with width: its slope is {slope:+.2f}, where "
                f"{_expected(expected)} is expected."
            )
            yield Finding(
                verdict, one["path"], slope, _with_cure(text, one, f"{name}_")
            )


_FORMULAS = {"effective": "(W_t - W_0) x_t", "propagated": "W_0 (x_t - x_0)"}


def _with_cure(text: str, row: Row, prefix: str) -> str:
    cure = row.get(f"{prefix}cure")
    return f"{text} {cure}" if cure else text


def _refined_lines(rows: tuple[Row, ...]) -> list[str]:
    """Return a line for each product, with its slopes and alignment exponents."""
    if not rows:
        return []
    head = (
        "slopes of the parts of each change, and exponents of the spectral alignment:"
    )
    lines = [
        f"  {row['path']}: "
        + "; ".join(
            f"{name} {_slope(row, name)}, aligned {row[f'{name}_spectral_slope']:+.2f}"
            for name in _PARTS
        )
        for row in rows
    ]
    return ["", head, *lines]


def _slope(row: Row, name: str) -> str:
    expected = row[f"{name}_expected"]
    text = f"{row[f'{name}_slope']:+.2f}"
    return text if expected is None else f"{text} ({_expected(expected)})"


def _expected(slope: float | None) -> str:
    return "any slope" if slope is None else f"{round(slope, 2) + 0.0:g}"
