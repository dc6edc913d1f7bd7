"""Write the page of the starts of whole models, with its figure."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks import _page
from benchmarks._model_report import MIB

_HEAD = ("model", "how", "first start, s", "least to most", "times materialize's",
         "another key, s", "MiB above the parameters")  # fmt: skip
_LABELS = {
    "materialize": "jinit.materialize",
    "plan": "jinit.plan",
    "jit": "jax.jit(model.init)",
    "eager": "model.init",
    "torch": "torch's layers",
}
_ABOUT = """\
Each start is a new process in which nothing is compiled, and the ways to start take
turns. The clock runs from the call to the last parameter; imports are not counted.
"materialize" is `jinit.materialize` of `model.init`, "plan" a plan of its shapes by
`jinit.recipes.gpt2`, "jit" is `jax.jit(model.init)`, "eager" is `model.init` called by
itself, and "torch" makes the same layers in torch, which compiles nothing and draws
uniform numbers by default. The model is a pre-norm transformer in Flax Linen.

"Times materialize's" is the time of a first start divided by that of
`jinit.materialize`: below 1, in **bold** type, the other way is faster. "Another key"
is a second start in the same process. The last column is the most memory that the
process had during the first start, less what it had before and less the
parameters."""


def write(
    place: pathlib.Path, rows: list[dict[str, Any]], order: Sequence[tuple[str, str]]
) -> None:
    """Write the part "starts" of the page "models".

    Args:
      place: the folder of the pages.
      rows: the medians of each model and way of starting it.
      order: all models with their ways, those that were not measured included.
    """
    ours = {r["model"]: r["seconds"] for r in rows if r["how"] == "materialize"}
    table = _page.merged(
        place, "models", "starts", _HEAD,
        [_cells(row, ours[row["model"]]) for row in rows],
        keys=2, order=order, left=2,
    )  # fmt: skip
    with _page.style():
        image = _page.image(
            place,
            "models",
            figure(table.rows),
            f"{_title(table.rows)}: seconds to the first parameters",
        )
    part = _page.Part(
        "models", "starts", "First starts, in new processes",
        "python -m benchmarks.models", _ABOUT, [image, table.text],
    )  # fmt: skip
    _page.write(place, part)


def _cells(row: dict[str, Any], ours: float) -> list[str]:
    extra = row["peak_above_parameters"]
    low, high = row["range"]
    return [
        row["model"],
        row["how"],
        f"{row['seconds']:.2f}",
        f"{low:.2f} to {high:.2f}" if row["times"] > 1 else "one start",
        "1" if row["how"] == "materialize" else _page.ratio(row["seconds"] / ours),
        f"{row['again']:.3f}",
        "-" if extra is None else f"{extra / MIB:.0f}",
    ]


def figure(rows: Sequence[Sequence[str]]) -> Figure:
    """Draw the seconds of each first start, a line for each model."""
    models = list(dict.fromkeys(row[0] for row in rows))
    result = Figure(figsize=(7.6, 1.4 + 0.42 * len(models)), layout="constrained")
    axes = result.add_subplot()
    for number, (how, marker) in enumerate(
        zip(_LABELS, ("o", "D", "s", "^", "v"), strict=True)
    ):
        points = [
            (float(r[2]), models.index(r[0])) for r in rows if r[1] == how
        ]  # fmt: skip
        if points:
            x, y = zip(*points, strict=True)
            axes.plot(x, y, marker, label=_LABELS[how], color=f"C{number}",
                      markersize=9 if how == "materialize" else 6)  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(np.arange(len(models)), models, fontsize=8.5)
    axes.set_ylim(len(models) - 0.4, -0.6)
    axes.grid()
    axes.set_xlabel("seconds to the first parameters, compilation included")
    result.suptitle(_title(rows), fontsize=10.5)
    result.legend(loc="outside lower center", ncols=3, fontsize=8.5)
    return result


def _title(rows: Sequence[Sequence[str]]) -> str:
    """Say how much longer `jax.jit` takes, over the models that both started."""
    times = [float(row[4].strip("*")) for row in rows if row[1] == "jit"]
    if not times:
        return "The time of a first start"
    return (
        f"jax.jit(model.init) takes {min(times):.1f} to {max(times):.0f} times as long "
        "as jinit.materialize"
    )
