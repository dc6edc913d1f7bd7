"""A `History` has the measurements of a method that sets a network from data."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .._core import figures
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
    # The reasons why these parameters stayed as they were, by path.
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
        counts = [len(_by_step(self.rows, name)[0].values) for name in self.drawn]
        by_layer = any("path" in row for row in self.rows)
        figure, panels = figures.figure_of(len(self.drawn), max([1, *counts]))
        for axes, name in zip(panels, self.drawn, strict=True):
            lines = _by_step(self.rows, name)
            is_log = all((line.values >= 0).all() for line in lines)
            figures.curves(axes, lines, log=is_log)
            axes.set_ylabel(_spaced(name) + " (log)" * is_log)
        panels[-1].set_xlabel(figures.ORDER if by_layer else "step")
        if by_layer:
            figures.name_layers(panels[-1], _paths(self.rows, self.drawn[-1]))
        figures.title(figure, self._headline(by_layer))
        if by_layer:
            figures.label_ends(*panels)
        return saved(figure, path)

    def _headline(self, by_layer: bool) -> str:
        """Say from which value to which the first measurement went."""
        name = self.drawn[0]
        lines = [line.values for line in _by_step(self.rows, name)]
        if not any(len(line) for line in lines):
            return f"{self.name}: nothing to do"
        unit = "passes" if by_layer else "steps"
        before, after = lines[0], lines[-1]
        if not by_layer:
            before, after = before[:1], after[-1:]
        where = f" in {len(before)} layers" if by_layer else ""
        return (
            f"{self.name}: the {_spaced(name)}{where} goes from {_range(before)} to "
            f"{_range(after)} in {self.steps} {unit}"
        )


def _range(values: np.ndarray) -> str:
    low, high = f"{values.min():.3g}", f"{values.max():.3g}"
    return low if low == high else f"{low}...{high}"


def _by_step(rows: Sequence[Row], name: str) -> list[figures.Line]:
    """Return a line for each pass over the layers, or one line over all steps."""
    rows = [row for row in rows if name in row]
    if not any("path" in row for row in rows):
        return [figures.Line(name, np.array([row[name] for row in rows], float))]
    return [
        figures.Line(
            f"pass {step}",
            np.array([row[name] for row in rows if row["step"] == step], float),
        )
        for step in sorted({row["step"] for row in rows})
    ]


def _paths(rows: Sequence[Row], name: str) -> list[str]:
    rows = [row for row in rows if name in row]
    return [row["path"] for row in rows if row["step"] == rows[0]["step"]]


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
