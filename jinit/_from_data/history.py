"""A `History` has the measurements of a method that sets a network from data."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from .._core.results import Result, Row, Table, plain, saved


@dataclasses.dataclass(frozen=True)
class History(Result):
    """A history lists the measurements of a method in order, as dicts in `rows`.

    A method that goes from layer to layer reports `step` (the pass), `path` and its
    measurements; a method that learns reports `step` and the values of its objective.
    `left` names the weights that stayed as they were, since they belong to no layer or
    cannot be set, and `reasons` says why.
    `print(history)` shows a table, `history.plot(path)` a figure.

    Example:
      >>> import flax.linen as nn, jax, jinit
      >>> model = nn.Sequential([nn.Dense(32), nn.Dense(32)])
      >>> x = jax.random.normal(jax.random.key(0), (64, 16))
      >>> variables = model.init(jax.random.key(1), x)
      >>> variables, history = jinit.lsuv(model, variables, x)
      >>> [row["path"] for row in history.rows if row["step"] == 1]
      ['layers_0', 'layers_1']
    """

    name: str
    rows: tuple[Row, ...]
    # The columns that `plot` draws.
    drawn: tuple[str, ...]
    # Paths of parameters with two axes or more that stayed as they were.
    left: tuple[str, ...] = ()
    # Why they did, by their paths.
    reasons: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Return the number of passes, or of steps."""
        return max((row["step"] for row in self.rows), default=0)

    def _table(self) -> Table:
        if not self.rows:
            return Table((), (), above=[f"{self.name}: nothing to do"])
        names = tuple(dict.fromkeys(name for row in self.rows for name in row))
        lines = [[_cell(row.get(name, "")) for name in names] for row in self.rows]
        names_left = ", ".join(map(self._with_reason, self.left))
        left = [f"left as they are: {names_left}"] if self.left else []
        above = [f"{self.name}, {self.steps} steps"]
        return Table(list(map(_spaced, names)), lines, above=above, below=left)

    def _with_reason(self, path: str) -> str:
        reason = self.reasons.get(path)
        return path if reason is None else f"{path} ({reason})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, with None for numbers that are not finite."""
        return {
            "name": self.name,
            "rows": plain(self.rows),
            "left": list(self.left),
            "reasons": dict(self.reasons),
        }

    def plot(self, path: Any = None) -> Any:
        """Draw the measurements: by layer, with a line for each pass, or by step.

        Args:
          path: the file to write the picture to; None to write no file.

        Returns:
          The matplotlib figure.
        """
        # A Figure outside of pyplot opens no window and needs no closing.
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 3 * len(self.drawn)), layout="constrained")
        panels = figure.subplots(len(self.drawn), 1, squeeze=False)[:, 0]
        for axes, name in zip(panels, self.drawn, strict=True):
            _draw(axes, self.rows, name)
        panels[0].set_title(self.name)
        return saved(figure, path)


def _draw(axes: Any, rows: Sequence[Row], name: str) -> None:
    rows = [row for row in rows if name in row]
    by_layer = bool(rows) and "path" in rows[0]
    for step in sorted({row["step"] for row in rows}) if by_layer else (None,):
        values = [row[name] for row in rows if step in (None, row["step"])]
        axes.plot(
            values,
            marker=".",
            linewidth=1,
            label="" if step is None else f"pass {step}",
        )
    if all(row[name] > 0 for row in rows):
        axes.set_yscale("log")
    if by_layer:
        axes.legend(fontsize=8)
    axes.set(
        ylabel=_spaced(name),
        xlabel="layer, in the order of execution" if by_layer else "step",
    )
    axes.grid(alpha=0.3)


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
