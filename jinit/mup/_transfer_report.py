"""A `TransferReport` has the scores at each rate, the best rates, and a verdict."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .._core import figures
from .._core.results import Finding, Result, Row, Table, plain, saved
from ._transfer_fit import Best, Move
from ._transfer_sweep import Sweep

# The last steps that a score takes the logarithm of, by the number of all steps.
LOGARITHMS: dict[str, Callable[[int], int]] = {
    "late": lambda steps: -(-steps // 10),
    "mean": lambda steps: steps,
}
# Slopes that count as no move, in octaves per doubling. Measured with Adam, 60 to 200
# steps, at widths 32 to 128, 256 or 512, by the scores "late" and "mean":
#
# | parametrization       | perceptron, digits | transformer, text |
# | --------------------- | ------------------ | ----------------- |
# | muP                   |  +0.11 to +0.27    | -0.18 to -0.15    |
# | standard              |  -0.43 to -0.63    | -0.92 to -1.25    |
# | no readout multiplier |  -0.11 to -0.42    | -0.21 to -0.70    |
#
# On the perceptron the best rate under muP rises a little, since narrow models bear
# only lower rates. Mistakes make it fall, so the limits are not symmetric.
LIMITS = (-0.2, 0.3)
# A slope within the limits has to be known this well. The smallest slope of the
# standard parametrization is then three uncertainties from 0.
_RESOLUTION = 0.15


@dataclasses.dataclass(frozen=True)
class TransferReport(Result):
    """A report shows the best learning rate of each width, and how it moves.

    `rows` are dicts, one for each width and rate, with these keys: `width`, `rate`;
    `score`, the mean over the seeds, smaller for better runs ("late" and "mean" are
    means of the log loss); `std` over the seeds; `scores`, one for each seed; and
    `diverged`, the number of runs whose score is infinite.

    `best` has the best rate of each width, and `errors` its standard error in octaves
    (factors of two). `octaves_per_doubling` is the slope of the log best rate over the
    log width, and `uncertainty` the standard error of the slope: from the scatter of
    the seeds, the step of the grid, and the distance of the best rates from a line.
    `ends` names the widths whose least score lies at an end of the grid, "lowest" or
    "highest". The verdict begins with one of these words:

    - "transfers": the slope is within -0.2 and 0.3, and its uncertainty at most 0.15;
    - "moves": the slope is beyond these limits, by more than its uncertainty;
    - "undecided": neither, or the grid does not hold the minimum.

    Measured slopes of Adam are -0.2 to 0.3 under muP, and -0.4 to -1.3 under the
    standard parametrization.

    Example:
      >>> import jax.numpy as jnp, jinit, optax
      >>> def model(width):
      ...     return lambda key, x: jnp.zeros(()), lambda w, x: width * w * x
      >>> report = jinit.mup.transfer_check(
      ...     model, [4, 8, 16], [2.0**k for k in range(-11, -3)], [(1.0, 1.0)] * 3,
      ...     lambda rate, p: optax.sgd(rate),
      ...     loss=lambda y, target: (y - target) ** 2 + 1e-3)
      >>> report.verdict
      'moves: -2.0 +- 0.1'
    """

    widths: tuple[int, ...]
    rates: tuple[float, ...]
    rows: tuple[Row, ...]
    best: dict[int, float]
    errors: dict[int, float]
    ends: dict[int, str]
    octaves_per_doubling: float
    uncertainty: float
    seeds: int
    steps: int
    score: str
    is_parametrized: bool
    is_one_program: bool

    @property
    def verdict(self) -> str:
        """Return whether the best rate transfers, moves, or is not known well enough.

        The numbers are the slope in octaves per doubling and its uncertainty.
        """
        measured = f"{self.octaves_per_doubling:.1f} +- {self.uncertainty:.1f}"
        low, high = LIMITS
        slope = self.octaves_per_doubling
        moves = max(low - slope, slope - high) > self.uncertainty
        if self.ends:
            beyond = f"the grid does not hold the minimum {self._beyond()}"
            if moves and self._is_bounded():
                return f"moves: {measured} or more; {beyond}"
            return f"undecided: {beyond}"
        if moves:
            return f"moves: {measured}"
        if low <= slope <= high and self.uncertainty <= _RESOLUTION:
            return f"transfers: {measured}"
        return (
            f"undecided: {measured}, where {low} to {high} is no move; pass more "
            "seeds, steps or widths"
        )

    def _beyond(self) -> str:
        """Return which widths are best at an end of the grid, and what to do."""
        parts = []
        for end, rate, advice in (
            ("lowest", self.rates[0], "lower"),
            ("highest", self.rates[-1], "higher"),
        ):
            widths = [
                str(width) for width in self.widths if self.ends.get(width) == end
            ]
            if widths:
                parts.append(
                    f"at width {', '.join(widths)}, whose best is the {end} rate, "
                    f"{rate:.3g}: add {advice} rates"
                )
        return "; ".join(parts)

    def _is_bounded(self) -> bool:
        """Tell whether minima beyond the grid would only make the move larger."""
        middle = np.mean(np.log2(self.widths))
        is_rising = self.octaves_per_doubling > 0
        return all(
            (np.log2(width) > middle) == (is_rising == (end == "highest"))
            for width, end in self.ends.items()
        )

    @property
    def findings(self) -> list[Finding]:
        """Return nothing if the rate transfers, else one finding with the verdict.

        Its category is "moves" or "undecided", its value the slope.
        """
        category = self.verdict.partition(":")[0]
        if category == "transfers":
            return []
        message = f"the best rate {self.verdict}"
        if category == "moves":
            message += f". {self._cure()}"
        elif category == "undecided":
            message = f"whether the rate transfers is {self.verdict}"
        return [Finding(category, "", self.octaves_per_doubling, message)]

    def _cure(self) -> str:
        if not self.is_parametrized:
            return (
                "`tx` reads nothing of its parametrization: pass `lambda rate, p: "
                "p.optimizer(...)`, and multiply the readout by p.readout_scale."
            )
        if self.octaves_per_doubling < 0:
            return (
                "Something grows with the width, such as a readout without its "
                "multiplier: jinit.mup.coordinate_check shows which layer."
            )
        return (
            "Something shrinks with the width, such as a weight decay that is "
            "multiplied by the rate of its tensor, or a rate that is divided twice."
        )

    def check(self) -> None:
        """Raise unless the best rate transfers.

        Raises:
          AssertionError: if it moves, or is undecided; the text has the verdict.
        """
        if findings := self.findings:
            raise AssertionError("\n".join(map(str, findings)))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON, with None for numbers that are not finite."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {**plain(fields), "verdict": self.verdict}

    @property
    def _means(self) -> np.ndarray:
        """Return the mean scores, as (widths, rates)."""
        means = np.array([row["score"] for row in self.rows])
        return means.reshape(len(self.widths), len(self.rates))

    def _shown(self, scores: Any) -> Any:
        """Return losses in the place of their logarithms."""
        with np.errstate(over="ignore"):
            return np.exp(scores) if self.score in LOGARITHMS else scores

    def _table(self) -> Table:
        means = self._means
        least = means.argmin(axis=1)
        lines = [
            (f"{rate:.3g}", *(
                "diverged" if np.isinf(one[i])
                else f"{self._shown(one[i]):.3g}" + (" *" if i == place else "")
                for one, place in zip(means, least, strict=True)
            ))
            for i, rate in enumerate(self.rates)
        ]  # fmt: skip
        foot = ("best", *(
            f"{self.best[width]:.3g} +- {self.errors[width]:.1f} oct."
            + (" (end)" if width in self.ends else "")
            for width in self.widths
        ))  # fmt: skip
        head = ("rate", *(f"width {width}" for width in self.widths))
        return Table(head, [*lines, foot], above=[self._title()], below=self._notes())

    def _title(self) -> str:
        what = self._what().removesuffix(" (log)")
        return f"{what}: {self.steps} steps, {self.seeds} seeds"

    def _what(self) -> str:
        if self.score == "late":
            return f"loss of the last {LOGARITHMS['late'](self.steps)} steps (log)"
        return "loss of all steps (log)" if self.score == "mean" else self.score

    def _notes(self) -> list[str]:
        starts = (
            "the models start from p.init(params)" if self.is_parametrized
            else "the models start as they are drawn, since `tx` reads nothing of `p`"
        )  # fmt: skip
        notes = [
            f"- the best rate changes by 2^({self.octaves_per_doubling:+.2f} +- "
            f"{self.uncertainty:.2f}) where the width doubles",
            f"- {starts}",
        ]
        if not self.is_one_program:
            notes.append("- `tx` takes no traced rate, so each rate has a program")
        return [self.verdict, *notes, *(f"- {one}" for one in self.findings)]

    def plot(self, path: Any = None) -> Any:
        """Draw the score over the rate, a line for each width, with its minimum.

        Args:
          path: the file to write the picture to; None to write no file.

        Returns:
          The matplotlib figure.
        """
        figure, (axes,) = figures.side_by_side(1)
        means = self._means
        for number, (width, one) in enumerate(zip(self.widths, means, strict=True)):
            style = figures.style_of(number)
            finite = np.where(np.isfinite(one), self._shown(one), np.nan)
            axes.plot(self.rates, finite, **style, label=f"width {width}")
            if np.isfinite(one).any():
                self._mark(axes, width, float(np.nanmin(finite)), style["color"])
        axes.set_xscale("log", base=2)
        axes.set_yscale("log" if self.score in LOGARITHMS else "linear")
        star = "star: the best rate of a width, with its error"
        axes.set(xlabel=f"learning rate (log)\n({star})", ylabel=self._what())
        _limit(axes, self._shown(_top(means)))
        if self.score in LOGARITHMS:
            figures.log_ticks(axes)
        unit = " octaves per doubling of the width" if not self.ends else ""
        figures.title(figure, f"The best rate {self.verdict}{unit}")
        figures.label_ends(axes)
        return saved(figure, path)

    def _mark(self, axes: Any, width: int, height: float, color: str) -> None:
        """Mark the best rate of a width, with its error bar."""
        rate, error = self.best[width], self.errors[width]
        bar = [[rate - rate / 2**error], [rate * 2**error - rate]]
        axes.errorbar(
            [rate], [height], xerr=bar, fmt="*", color=color, markersize=12,
            markeredgecolor=axes.get_facecolor(), ecolor=figures.GREY,
            elinewidth=1.2, capsize=6, zorder=4,
        )  # fmt: skip
        if width in self.ends:
            axes.annotate(
                "end of the grid", (rate, height), (0, 8), textcoords="offset points",
                fontsize=8, color=figures.SICK,
            )  # fmt: skip


def _top(means: np.ndarray) -> float:
    """Return a score above which runs are too bad to be worth a place in a figure."""
    finite = means[np.isfinite(means)]
    # Runs at the lowest rate hardly move, and show where all start.
    starts = means[:, 0][np.isfinite(means[:, 0])]
    top = max([*starts, float(np.quantile(finite, 0.75))])
    return float(top + 0.1 * (top - finite.min()))


def _limit(axes: Any, top: float) -> None:
    # A run that ended at 1e20 would squeeze all others into one line.
    if axes.get_ylim()[1] > top:
        axes.set_ylim(top=top)


def report_of(
    widths: tuple[int, ...],
    rates: tuple[float, ...],
    scores: np.ndarray,
    bests: Sequence[Best],
    move: Move,
    score: Any,
    steps: int,
    sweeps: Sequence[Sweep],
) -> TransferReport:
    """Return the report on a sweep with scores (widths, rates, seeds)."""
    rows = tuple(
        _row(width, rate, runs)
        for width, one in zip(widths, scores, strict=True)
        for rate, runs in zip(rates, one, strict=True)
    )
    by_width = dict(zip(widths, bests, strict=True))
    return TransferReport(
        widths,
        rates,
        rows,
        {width: 2.0**one.octave for width, one in by_width.items()},
        {width: one.error for width, one in by_width.items()},
        {width: one.end for width, one in by_width.items() if one.end},
        move.slope,
        move.uncertainty,
        scores.shape[-1],
        steps,
        score if isinstance(score, str) else getattr(score, "__name__", "score"),
        any(one.is_parametrized for one in sweeps),
        all(one.is_one_program for one in sweeps),
    )


def _row(width: int, rate: float, runs: np.ndarray) -> Row:
    is_finite = np.isfinite(runs)
    std = 0.0 if len(runs) < 2 else float("inf")
    if len(runs) > 1 and is_finite.all():
        std = float(np.std(runs, ddof=1))
    return {
        "width": width,
        "rate": rate,
        "score": float(np.mean(runs)),
        "std": std,
        "scores": tuple(map(float, runs)),
        "diverged": int(np.sum(~is_finite)),
    }
