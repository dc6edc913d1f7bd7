"""A `Report`, the result of `probe`, has rows, a table, a figure and findings."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .._core import checks
from .._core.results import Finding, Result, Row, Table, plain, saved
from .figures import of_report
from .findings import outside
from .formats import SHARES
from .statistics import OUTPUT_STATISTICS


@dataclasses.dataclass(frozen=True)
class Report(Result):
    """A report has the statistics of every layer and of every parameter.

    `rows` are dicts, one for each layer in the order of execution, with `path`,
    `shape`, `mean`, `std`, `rms`, `dead`, `kurtosis`, `cosine`, `saturation` and
    `grad_rms`. `parameters` are dicts with `path`, `shape`, `rms`, `grad_rms` and
    `grad_ratio`, grad_rms / rms, which is None for zeros that have a gradient.
    `attention` has a dict for each head of each softmax, with `path`, `head`, `keys`,
    `std` (of the logits along the keys) and `entropy` (as a share of the largest
    possible one). `formats` has a dict for each array and format that was asked for,
    with `path`, `kind` ("layer" or "parameter"), `format`, `overflow`, `underflow`,
    `grad_overflow` and `grad_underflow`. `jacobian` is None, or a dict with the
    singular values `top` and `bottom`. `verdict` is a list with a finding for each
    trouble, the most harmful first: its `category`, the `path` of the layer, the
    `value`, and a `message` that says what is usual, what to try, and why.
    `notes` are sentences on what could not be measured. `print(report)` shows a table.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> from jax.ad_checkpoint import checkpoint_name
      >>> model = lambda w, x: checkpoint_name(x @ w, "hidden") ** 2
      >>> w = jinit.lecun()(jax.random.key(0), (8, 4))
      >>> report = jinit.probe(model, w, jnp.eye(8))
      >>> report.rows[0]["path"], report.verdict
      ('hidden', [])
      >>> report.check(rms=(0.01, 10))
    """

    rows: tuple[Row, ...]
    parameters: tuple[Row, ...]
    jacobian: dict[str, float] | None = None
    verdict: list[Finding] = dataclasses.field(default_factory=list)
    notes: tuple[str, ...] = ()
    attention: tuple[Row, ...] = ()
    formats: tuple[Row, ...] = ()

    def _table(self) -> Table:
        sick = {finding.path for finding in self.verdict}
        head = ("layer", "shape", *OUTPUT_STATISTICS)
        lines = [(row["path"], str(row["shape"]), *_cells(row)) for row in self.rows]
        words = [f"- {finding}" for finding in self.verdict] or ["- nothing is wrong"]
        if self.jacobian is not None:
            top, bottom = self.jacobian["top"], self.jacobian["bottom"]
            words.append(
                f"- singular values of the Jacobian: {bottom:.3g} to {top:.3g}"
            )
        words += [f"- note: {note}" for note in self.notes]
        return Table(
            head, lines, below=[*words, *self._heads(), *self._formats()],
            marks=[row["path"] in sick for row in self.rows],
        )  # fmt: skip

    def _heads(self) -> Iterator[str]:
        """Yield a sentence about the heads of attention, if there are any."""
        if self.attention:
            stds = _range([row["std"] for row in self.attention])
            entropies = _range([row["entropy"] for row in self.attention], ".0%")
            yield (
                f"- attention: the logits of {len(self.attention)} heads have a std of "
                f"{stds}, and their softmax has {entropies} of the largest entropy"
            )

    def _formats(self) -> Iterator[str]:
        """Yield a sentence about each format."""
        for name in dict.fromkeys(row["format"] for row in self.formats):
            rows = [row for row in self.formats if row["format"] == name]
            parts = (
                f"{max(row[share] for row in rows):.2g} {share.replace('_', 'ient ')}"
                for share in SHARES
            )
            yield f"- {name}, at the worst place: {', '.join(parts)}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, with None for numbers that are not finite."""
        return {
            "rows": plain(self.rows),
            "parameters": plain(self.parameters),
            "verdict": plain(self.verdict),
            "notes": plain(self.notes),
            "jacobian": plain(self.jacobian),
            "attention": plain(self.attention),
            "formats": plain(self.formats),
        }

    def check(self, **limits: tuple[float, float]) -> None:
        """Raise if a layer leaves its limits, or without limits if there is a finding.

        Args:
          **limits: a pair (low, high) for each statistic to check: `rms=(0.3, 3)`.

        Raises:
          AssertionError: with the findings, so that a test that calls this fails.
          TypeError: if a limit is no pair of numbers.
          ValueError: if a name is not that of a statistic, a limit is NaN, or the lower
            one is above the upper one.
        """
        for name, pair in limits.items():
            checks.choice("limits", name, OUTPUT_STATISTICS)
            _check_limits(name, pair)
        # With limits, the findings are left out: the user has said what counts.
        troubles = list(outside(self.rows, limits)) if limits else self.verdict
        if troubles:
            raise AssertionError("\n".join(map(str, troubles)))

    def plot(self, path: Any = None) -> Any:
        """Draw the rms of outputs and gradients by depth, dead units and similarity.

        The title has the first finding, and the layers of findings are marked. A 0 is
        drawn at the lower end of a logarithmic axis.

        Args:
          path: the file to write the figure to, or None to write no file.

        Returns:
          The matplotlib figure.
        """
        return saved(of_report(self.rows, self.verdict, self.parameters), path)


def _check_limits(name: str, pair: Any) -> None:
    is_pair = isinstance(pair, Iterable) and not isinstance(pair, (str, dict))
    if not is_pair or len(tuple(pair)) != 2:
        raise TypeError(
            f"`{name}` is {pair!r}; it must be a pair of limits (low, high), such as "
            f"{name}=(0.3, 3). A limit of math.inf allows all."
        )
    low, high = (checks.real(name, limit, finite=False) for limit in pair)
    if low > high:
        raise ValueError(
            f"`{name}` is {pair!r}, whose lower limit is above the upper one; give "
            "(low, high)."
        )


def _range(values: Sequence[float], form: str = ".2g") -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def _cells(row: Row) -> Iterator[str]:
    """Yield the statistics as text."""
    for name in OUTPUT_STATISTICS:
        # The std of entries that are equal up to rounding, which have no kurtosis, is
        # noise.
        is_noise = name == "std" and math.isnan(row["kurtosis"]) and row["std"] > 0
        yield "-" if is_noise else _cell(row[name])


def _cell(value: float) -> str:
    """Return a number as text; "-" where there is none, as a cosine of one input."""
    return "-" if math.isnan(value) else f"{value:.3g}"
