"""An `Audit`, the result of `audit`, has rows, a table, a figure and findings."""

import dataclasses
from typing import Any

from ..._core.results import Finding, Result, Row, Table, plain, saved
from ..figures import of_audit

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
        words = [f"- {finding}" for finding in self.findings[:_SHOWN]]
        if len(self.findings) > _SHOWN:
            words.append(f"- and {len(self.findings) - _SHOWN} more, in `findings`")
        words = words or ["- nothing is wrong"]
        words += [f"- note: {note}" for note in self.notes]
        return Table(
            _HEAD, list(map(_cells, self.rows)), below=words,
            marks=[row["path"] in sick for row in self.rows],
        )  # fmt: skip

    def plot(self, path: Any = None) -> Any:
        """Draw the measured std over the one that keeps the signal, by parameter.

        Parameters with a finding are marked and named; the title has the first one.

        Args:
          path: the file to write the figure to, or None to write no file.

        Returns:
          The matplotlib figure.
        """
        return saved(of_audit(self.rows, self.findings), path)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row["path"],
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
