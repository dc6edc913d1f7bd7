"""What the coordinate check returns: sizes by width, slopes, verdicts, a figure."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._core.results import Finding, Result, Row, Table, plain, saved


@dataclasses.dataclass(frozen=True)
class CoordinateReport(Result):
    """How the size of every activation, and of its change, goes with the width.

    `rows` are dicts with `path`; `init`, `size` and `change`, each a tuple with one
    number per width (rms before and after training, and of the difference, seeds
    averaged); `init_slope`, `size_slope` and `change_slope`, those of their logarithms
    over the logarithm of the width, and `init_error` and so on, the standard errors of
    these, from how the seeds differ; and `verdict`: "flat", "grows" or "shrinks".
    `print(report)` shows a table.

    A layer grows if its change, or its size, has a slope above the tolerance. It
    shrinks if the slope of its change is below minus the tolerance, or that of its size
    at the start, and does so among the wider half of the models too. A slope of less
    than two standard errors is none. Two kinds of layers
    start small in a wide model, by design, and grow to the same size in training:

    - the output shrinks only if its size after training does, too: its change has the
      undoing of the start in it, which is more in a narrow model;
    - attention's logits, which take more than a few steps, never count as shrinking.

    A slope near the tolerance is often that of a narrow model, or of a few steps: look
    at the columns, and take wider ones.

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
      {'output': 'flat'}
    """

    widths: tuple[int, ...]
    rows: tuple[Row, ...]
    seeds: int
    steps: int
    tolerance: float = 0.2

    @property
    def verdict(self) -> dict[str, str]:
        """ "flat", "grows" or "shrinks" for each layer."""
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
        words = [f"- {finding}" for finding in self.findings]
        words = words or ["- every layer is flat: nothing depends on the width"]
        about = f"slopes over width: {self.steps} steps, {self.seeds} seeds"
        return Table(head, lines, above=[about], below=words)

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
        """Return plain data, for JSON: None where a number is not finite."""
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
          AssertionError: with the layers and their slopes, so that a test fails by it.
        """
        if findings := self.findings:
            raise AssertionError("\n".join(map(str, findings)))

    def plot(self, path: Any = None) -> Any:
        """Draw size and change against width, a line for each layer.

        Args:
          path: where to write a picture; None for none.

        Returns:
          The matplotlib figure.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 4), layout="constrained")
        for axes, name in zip(figure.subplots(1, 2), ("size", "change"), strict=True):
            for row in self.rows:
                style = "-" if row["verdict"] == "flat" else "--"
                axes.plot(self.widths, row[name], style, marker=".", label=row["path"])
            axes.set_xscale("log", base=2)
            axes.set(yscale="log", xlabel="width", title=f"rms of the {name}")
            axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
        return saved(figure, path)


def row(
    path: str,
    widths: Sequence[int],
    sizes: dict[str, np.ndarray],
    tolerance: float,
    is_output: bool = False,
) -> Row:
    """One layer: `sizes` are (widths, seeds)."""
    last = path.rpartition("/")[2].partition("#")[0]
    slopes = {name: _slope(widths, values) for name, values in sizes.items()}
    errors = {name: _error(widths, values) for name, values in sizes.items()}
    # What the seeds do not tell from 0 is 0.
    known = {n: s if abs(s) > 2 * errors[n] else 0.0 for n, s in slopes.items()}
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


def _average(values: np.ndarray) -> np.ndarray:
    """The geometric mean over the seeds; 0 where one is 0."""
    with np.errstate(divide="ignore"):
        return np.exp(np.mean(np.log(values), axis=1))


def _slope(widths: Sequence[int], values: np.ndarray) -> float:
    """Of log size over log width; infinite where a width overflows, 0 for zeros."""
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
    """The standard error of the slope, from the scatter of the seeds at all widths."""
    seeds = values.shape[1]
    if seeds < 2 or not np.all(np.isfinite(values) & (values > 0)):
        return 0.0
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
        return "flat"
    init, size, change = (lasting[name] for name in ("init", "size", "change"))
    least = max(change, size) if is_output else min(change, init)
    return "shrinks" if least < -tolerance else "flat"
