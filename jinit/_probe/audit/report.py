"""An `Audit`, the result of `audit`, has rows, a table, a figure and findings."""

import dataclasses
import math
from typing import Any

from ..._core.results import Finding, Result, Row, Table, plain, saved

_HEAD = (
    "parameter", "shape", "layout", "fan_in", "fan_out", "std", "keeps signal",
    "ratio", "likeliest law",
)  # fmt: skip
# A table shows so many findings; all are in `findings`.
_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Audit(Result):
    """An audit has a row for each parameter, and a finding for each trouble.

    `rows` are dicts with `path`, `shape`, `roles`, `layout`, `fan_in`, `fan_out`,
    `mean`, `std`, `right_std` (the one that keeps the signal, or None), `ratio` of the
    two, and `law`, the likeliest formula. `findings` are troubles, the most telling
    first, each with `category`, `path`, `value` and `message`. `notes` are worth
    knowing, and `check` ignores them. `print(audit)` shows a table.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> w = jinit.lecun()(jax.random.key(0), (64, 64))
      >>> audit = jinit.audit(lambda w, x: x @ w, w, jnp.ones((1, 64)))
      >>> audit.rows[0]["right_std"], audit.findings
      (0.125, [])
      >>> audit.check()
    """

    rows: tuple[Row, ...]
    findings: list[Finding]
    notes: list[Finding]

    def check(self) -> None:
        """Raise if there is a finding.

        Raises:
          AssertionError: with all findings, so that a test that calls this fails.
        """
        if self.findings:
            raise AssertionError("\n".join(map(str, self.findings)))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, with None for numbers that are not finite."""
        return {
            "rows": plain(self.rows),
            "findings": plain(self.findings),
            "notes": plain(self.notes),
        }

    def _table(self) -> Table:
        sick = {finding.path for finding in self.findings}
        lines = [_cells(row, row["path"] in sick) for row in self.rows]
        words = [f"- {finding}" for finding in self.findings[:_SHOWN]]
        if len(self.findings) > _SHOWN:
            words.append(f"- and {len(self.findings) - _SHOWN} more, in `findings`")
        words = words or ["- nothing is wrong"]
        words += [f"- note: {note}" for note in self.notes]
        return Table(_HEAD, lines, below=words)

    def plot(self, path: Any = None) -> Any:
        """Draw the measured std over the one that keeps the signal, by parameter.

        Parameters with a finding are marked and named.

        Args:
          path: the file to write the figure to, or None to write no file.

        Returns:
          The matplotlib figure.
        """
        # Matplotlib takes long to load, and only figures need it.
        from matplotlib.figure import Figure

        sick = {finding.path for finding in self.findings}
        rows = [row for row in self.rows if _is_drawn(row["ratio"])]
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        axes.axhline(1, color="gray", linewidth=1)
        for is_sick, color in ((False, "tab:blue"), (True, "tab:red")):
            places = [n for n, r in enumerate(rows) if (r["path"] in sick) == is_sick]
            ratios = [rows[n]["ratio"] for n in places]
            label = "with a finding" if is_sick else "without"
            axes.plot(places, ratios, "o", color=color, markersize=4, label=label)
            for place in places if is_sick else ():
                name = rows[place]["path"]
                axes.annotate(name, (place, rows[place]["ratio"]), fontsize=7)
        axes.set(
            yscale="log",
            xlabel="parameter, in the order of first use",
            ylabel="std / the std that keeps the signal",
        )
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
        return saved(figure, path)


def _is_drawn(ratio: float | None) -> bool:
    # A logarithmic axis has no 0.
    return ratio is not None and math.isfinite(ratio) and ratio > 0


def _cells(row: Row, is_sick: bool) -> tuple[str, ...]:
    return (
        ("! " if is_sick else "  ") + row["path"],
        str(row["shape"]),
        row["layout"] or "-",
        _number(row["fan_in"]),
        _number(row["fan_out"]),
        _number(row["std"]),
        _number(row["right_std"]),
        _number(row["ratio"]),
        row["law"],
    )


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3g}"
