"""A `WatchReport`, the result of `watched`, has a row for each tensor, and findings."""

import dataclasses
import re
from typing import Any

import jax
import numpy as np

from .._core.results import Finding, Result, Row, Table, plain, saved
from .figure import figure_of
from .findings import ENOUGH, findings
from .state import AT, WatchState, states_in
from .statistics import MISSING

# The columns of the table and their short names, so that it fits 80 columns.
SHOWN = {
    "weight_rms": "weight", "grad_rms": "grad", "update_rms": "update",
    "update_ratio": "ratio", "cosine": "cosine", "drift": "drift",
    "spectral": "norm", "lost": "lost", "small": "small",
}  # fmt: skip
# A share below this says nothing, and a column of such shares is left out.
_LEAST_SHARE = 0.01


@dataclasses.dataclass(frozen=True)
class WatchReport(Result):
    """A report has the measurements of a watch up to now, tensor by tensor.

    `rows` are dicts with `path`; `weight_rms`; `grad_rms` and `update_rms`, means over
    the last ten measurements or so, the updates estimated from up to 256 entries;
    `update_ratio`, update_rms / weight_rms; `cosine` and `flips`, between a gradient
    and the one before; `drift`, the distance from the first weights over their size;
    `spectral`, a lower bound of the spectral norm; `frozen`, whether every update is 0
    beside a gradient that is not; `lost`, the share of updates that rounding undoes;
    `small`, the share of Adam's second moments whose root is below epsilon; and
    `spike`, the largest gradient over its usual size. A number that was not measured is
    None. `step` counts the updates. `findings` say which tensor has which trouble, the
    worst first. `print(report)` shows a table.

    Example:
      >>> import jax.numpy as jnp, jinit, optax
      >>> tx, params = jinit.watch(optax.sgd(0.1)), {"kernel": jnp.ones((4, 4))}
      >>> state = tx.init(params)
      >>> for _ in range(6):
      ...     updates, state = tx.update({"kernel": jnp.zeros((4, 4))}, state, params)
      >>> report = jinit.watched(state)
      >>> report.step, [finding.category for finding in report.findings]
      (6, ['no_gradient'])
    """

    rows: tuple[Row, ...]
    step: int
    findings: list[Finding] = dataclasses.field(default_factory=list)

    def _table(self) -> Table:
        sick = {finding.path for finding in self.findings}
        names = [name for name in SHOWN if self._says_something(name)]
        lines = [
            (row["path"], *(_cell(row, name) for name in names)) for row in self.rows
        ]
        healthy = "nothing is wrong" if self.step else "nothing was measured yet"
        healthy = healthy if self.rows else "no tensor is watched"
        words = [f"- {finding}" for finding in self.findings] or [f"- {healthy}"]
        above = [f"after {self.step} steps"]
        if self.step:
            above.append("rms of weights, gradients and updates; update over weight")
        head = ("tensor", *(SHOWN[name] for name in names))
        return Table(
            head, lines, above=above, below=words,
            marks=[row["path"] in sick for row in self.rows],
        )  # fmt: skip

    def _says_something(self, name: str) -> bool:
        if name not in ("lost", "small"):
            return True
        return any((row[name] or 0) >= _LEAST_SHARE for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data with flat keys, for W&B, TensorBoard, MLflow or JSON."""
        numbers = {
            f"{row['path']}/{name}": value
            for row in self.rows
            for name, value in row.items()
            if name != "path" and value is not None
        }
        return {"step": self.step, **plain(numbers)}

    def plot(self, path: Any = None) -> Any:
        """Draw the sizes of weights, gradients and updates, and mark the sick tensors.

        Args:
          path: the file to write the figure to, or None to write no file.

        Returns:
          The matplotlib figure.
        """
        return saved(figure_of(self.rows, self.findings, self.step), path)

    def check(self) -> None:
        """Raise if there is a finding.

        Raises:
          AssertionError: with the findings, so that a test that calls this fails.
        """
        if self.findings:
            raise AssertionError("\n".join(map(str, self.findings)))


def _cell(row: Row, name: str) -> str:
    if name == "update_ratio" and row["frozen"]:
        return "frozen"
    value = row[name]
    return "-" if value is None else f"{value:.2g}"


def watched(opt_state: Any) -> WatchReport:
    """Return the report of the measurements of `jinit.watch` up to now.

    Args:
      opt_state: the state of an optimizer with a watch inside; also a TrainState, or an
        `nnx.Optimizer`, that holds it.

    Returns:
      A `WatchReport`. Watches of several parts of a model are one report.

    Raises:
      TypeError: if the state is traced, or has shapes in the place of arrays.
      ValueError: if there is no watch in the state, or if it is that of many seeds.

    Example:
      >>> import jax.numpy as jnp, jinit, optax
      >>> state = jinit.watch(optax.sgd(0.1)).init({"kernel": jnp.ones((2, 2))})
      >>> jinit.watched(state).step
      0
    """
    states = list(states_in(opt_state))
    if not states:
        raise ValueError(
            f"`opt_state` is of type {type(opt_state).__name__}, and no jinit.watch is "
            "in it. Make the optimizer by jinit.watch(tx), and pass its state."
        )
    rows = [row for state in states for row in _rows(state)]
    rows.sort(key=lambda row: _natural(row["path"]))
    step = max(int(_array(state.step)) for state in states)
    return WatchReport(tuple(rows), step, findings(rows))


def _rows(state: WatchState) -> list[Row]:
    table = _array(state.table)
    if table.ndim != 2:
        raise ValueError(
            f"`opt_state` has the measurements of {table.shape[:-2]} trainings. Pass "
            "one of them: jax.tree.map(lambda x: x[0], opt_state)."
        )
    rows = [
        _row(path, line) for path, line in zip(sorted(state.paths), table, strict=True)
    ]
    # A tensor whose updates are 0 though its gradient is not is frozen by its optimizer
    # (optax.set_to_zero), unless that gathers gradients and has made no step yet.
    nodes = jax.tree.leaves(state.inner, is_leaf=lambda x: hasattr(x, "mini_step"))
    gathers = any(hasattr(node, "mini_step") for node in nodes)
    may_freeze = not gathers or any(row["largest_update"] for row in rows)
    for row in rows:
        is_held = row["held"] >= ENOUGH and row["largest_update"] == 0
        row["frozen"] = bool(is_held and may_freeze)
    return rows


def _row(key: str, line: np.ndarray) -> Row:
    column = {name: float(line[place]) for name, place in AT.items()}
    row: Row = {"path": re.sub(r"\[0*(\d+)\]$", r"[\1]", key), **column}
    for name in ("cosine", "flips", "lost", "small", "drift", "spectral"):
        row[name] = None if column[name] == MISSING else column[name]
    size = column["weight_rms"]
    row["update_ratio"] = column["update_rms"] / size if size > 0 else None
    for name in (
        "bits",
        "width",
        "measured",
        "zeros",
        "held",
        "skipped",
        "bad_step",
        "spike_step",
    ):
        row[name] = int(column[name])
    return row


def _array(value: Any) -> np.ndarray:
    # Flax's NNX keeps the arrays of a state in variables.
    (array,) = jax.tree.leaves(value)
    if isinstance(array, jax.ShapeDtypeStruct):
        raise TypeError(
            "`opt_state` has shapes in the place of arrays, as from jax.eval_shape, "
            "and a report needs numbers. Pass the state that a training step returns, "
            "or that of tx.init(params)."
        )
    if isinstance(array, jax.core.Tracer):
        raise TypeError(
            "`opt_state` is traced, and a report needs numbers. Call jinit.watched "
            "outside of jax.jit."
        )
    return np.asarray(array)


def _natural(path: str) -> list[Any]:
    """Return the key by which layer 2 comes before layer 10."""
    pieces = re.split(r"(\d+)", path)
    return [(one.isdigit(), int(one) if one.isdigit() else one) for one in pieces]
