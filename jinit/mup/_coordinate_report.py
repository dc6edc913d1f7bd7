"""A `CoordinateReport` has the sizes at each width, their slopes, and verdicts."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._core import figures
from .._core.results import Finding, Result, Row, Table, plain, saved


@dataclasses.dataclass(frozen=True)
class CoordinateReport(Result):
    """A report shows how the size and the change of every activation grow with width.

    `rows` are dicts with these keys: `path`; `init`, `size` and `change`, each a tuple
    with one number for each width (the rms before training, after training, and of the
    difference, averaged over seeds); `init_slope`, `size_slope` and `change_slope`, the
    slopes of their logarithms over the logarithm of the width; `init_error` and so on,
    the standard errors of the slopes, from the scatter of the seeds; and `verdict`:
    "flat", "grows" or "shrinks". `print(report)` shows a table.

    A layer grows if the slope of its size or of its change is above the tolerance. It
    shrinks if the slope of its change, or of its size at the start, is below minus the
    tolerance, among the wider half of the models, too. A slope of less than two
    standard errors counts as 0. Two kinds of layers start small in a wide model, by
    design, and grow to the same size in training:

    - the output shrinks only if its size after training does, too: training also
      cancels the random initial output, and a narrow model has more of it to cancel;
    - attention's logits, which take more than a few steps, never count as shrinking.

    A slope near the tolerance often comes from a narrow model, or from few steps: look
    at the columns, and check wider models.

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

    @property
    def verdict(self) -> dict[str, str]:
        """Return the verdict on each layer: "flat", "grows" or "shrinks"."""
        return {row["path"]: row["verdict"] for row in self.rows}

    def _table(self) -> Table:
        changes = [f"change at {width}" for width in self.widths]
        head = ("layer", "at init", "size", "change", *changes, "verdict")
        lines = [
            (
                ("  " if row["verdict"] == "flat" else "! ") + row["path"],
                *(
                    f"{row[f'{name}_slope']:+.2f}"
                    for name in ("init", "size", "change")
                ),
                *(f"{value:.3g}" for value in row["change"]),
                row["verdict"],
            )
            for row in self.rows
        ]
        notes = [f"- {finding}" for finding in self.findings]
        notes = notes or ["- every layer is flat: nothing depends on the width"]
        title = f"slopes over width: {self.steps} steps, {self.seeds} seeds"
        return Table(head, lines, above=[title], below=notes)

    @property
    def findings(self) -> list[Finding]:
        """Return a finding for each layer that grows or shrinks with the width.

        Its category is "grows" or "shrinks", its value the slope of the change.
        """
        return [
            Finding(
                row["verdict"],
                row["path"],
                row["change_slope"],
                f"{row['path']} {row['verdict']} with width: slopes "
                f"{row['init_slope']:+.2f} at init, {row['size_slope']:+.2f} trained, "
                f"{row['change_slope']:+.2f} of the change",
            )
            for row in self.rows
            if row["verdict"] != "flat"
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON, with None for numbers that are not finite."""
        return {
            "widths": list(self.widths),
            "rows": plain(self.rows),
            "seeds": self.seeds,
            "steps": self.steps,
            "tolerance": self.tolerance,
        }

    def check(self) -> None:
        """Raise unless every layer is flat.

        Raises:
          AssertionError: if a layer grows or shrinks; the text has their slopes.
        """
        if findings := self.findings:
            raise AssertionError("\n".join(map(str, findings)))

    def plot(self, path: Any = None) -> Any:
        """Draw size and change against width, a line for each layer.

        Args:
          path: the file to write the picture to; None to write no file.

        Returns:
          The matplotlib figure.
        """
        figure, panels = figures.side_by_side(2)
        for axes, name in zip(panels, ("size", "change"), strict=True):
            for number, row in enumerate(self.rows):
                is_flat = row["verdict"] == "flat"
                style = figures.style_of(number, is_sick=not is_flat)
                label = row["path"] + ("" if is_flat else f": {row['verdict']}")
                axes.plot(self.widths, row[name], **style, label=label)
            axes.set_xscale("log", base=2)
            axes.set(
                yscale="log", xlabel="width (log)", ylabel=f"rms of the {name} (log)"
            )
        figures.legend(axes)
        healthy = f"nothing depends on the width in {len(self.rows)} layers"
        figures.title(figure, figures.headline(self.findings, healthy))
        return saved(figure, path)


def row(
    path: str,
    widths: Sequence[int],
    sizes: dict[str, np.ndarray],
    tolerance: float,
    is_output: bool = False,
) -> Row:
    """Return the row of one layer, from its sizes, arrays (widths, seeds)."""
    last = path.rpartition("/")[2].partition("#")[0]
    slopes = {name: _slope(widths, values) for name, values in sizes.items()}
    errors = {name: _error(widths, values) for name, values in sizes.items()}
    # A slope within two standard errors of 0 counts as 0.
    known = {n: s if abs(s) > 2 * errors[n] else 0.0 for n, s in slopes.items()}
    # Narrow models are far from the limit of infinite width, so a layer shrinks only if
    # it does so among the wider half, too.
    wide = np.argsort(widths)[-max(2, (len(widths) + 1) // 2) :]
    lasting = {
        name: max(known[name], _slope([widths[i] for i in wide], values[wide]))
        for name, values in sizes.items()
    }
    averages = {
        name: tuple(float(v) for v in _average(values))
        for name, values in sizes.items()
    }
    return {
        "path": path,
        **averages,
        **{f"{name}_slope": slope for name, slope in slopes.items()},
        **{f"{name}_error": error for name, error in errors.items()},
        "verdict": _verdict(
            known, lasting, tolerance, is_output or last == "output", last == "softmax"
        ),
    }


# The slope is one of logarithms, in which a single seed that diverged does not decide
# the mean as it would in an arithmetic one.
def _average(values: np.ndarray) -> np.ndarray:
    """Return the geometric mean over the seeds; 0 if one of them is 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.exp(np.mean(np.log(values), axis=1)))


def _slope(widths: Sequence[int], values: np.ndarray) -> float:
    """Return the slope of log size over log width.

    It is infinite if the size at one of the widths is, and 0 for sizes of 0.
    """
    means = _average(values)
    if not np.all(np.isfinite(means)):
        return float("inf")
    known = means > 0
    if known.sum() < 2:
        return 0.0
    return float(
        np.polyfit(np.log(np.asarray(widths)[known]), np.log(means[known]), 1)[0]
    )


def _error(widths: Sequence[int], values: np.ndarray) -> float:
    """Return the standard error of the slope, from the scatter of the seeds."""
    seeds = values.shape[1]
    if seeds < 2 or not np.all(np.isfinite(values) & (values > 0)):
        return 0.0
    # Least squares: the variance of a slope is that of a point over the sum of squares
    # of log width. All widths share one estimate of it, since four seeds give a poor
    # one.
    scatter = np.mean(np.var(np.log(values), axis=1, ddof=1)) / seeds
    spread = len(widths) * np.var(np.log(np.asarray(widths)))
    return float(np.sqrt(scatter / spread))


def _verdict(
    slopes: dict[str, float],
    lasting: dict[str, float],
    tolerance: float,
    is_output: bool,
    is_logits: bool,
) -> str:
    if max(slopes.values()) > tolerance:
        return "grows"
    if is_logits:
        # Logits start small in a wide model by design, and take many steps to grow.
        return "flat"
    init, size, change = (lasting[name] for name in ("init", "size", "change"))
    # Training also cancels the random output of the start, of which a narrow model has
    # more. So the change of a right output shrinks with width while its size does not.
    least = max(change, size) if is_output else min(change, init)
    return "shrinks" if least < -tolerance else "flat"
