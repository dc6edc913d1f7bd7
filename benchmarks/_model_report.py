"""Turn measured starts of models into tables, bounds and a figure."""

import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
from rich.table import Table

MIB = 2**20
OURS = "materialize"
_COLORS = {
    "materialize": "tab:blue",
    "plan": "tab:cyan",
    "eager": "tab:orange",
    "jit": "tab:red",
    "torch": "tab:gray",
    "draw": "tab:green",
}


class Bound(NamedTuple):
    """A bound says how large or how small a measured number has to be."""

    what: str
    value: float
    bound: float
    at_least: bool

    @property
    def met(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def record(self) -> dict[str, Any]:
        return self._asdict() | {"met": self.met}


def table(rows: list[dict[str, Any]]) -> Table:
    """Return a table of seconds, of their ratios to materialize, and of memory."""
    result = Table(
        title="Starting a model in a fresh process, medians", title_justify="left"
    )
    for name in ("model", "how"):
        result.add_column(name, no_wrap=True)
    for name in (
        "first, s", "range", "/ materialize", "another key, s", "parameters, MiB",
        "largest, MiB", "peak above, MiB", "load",
    ):  # fmt: skip
        result.add_column(name, justify="right")
    ours = {r["model"]: r["seconds"] for r in rows if r["how"] == "materialize"}
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        result.add_row(*_cells(row, ours[row["model"]]))
        if after and after["model"] != row["model"]:
            result.add_section()
    return result


def _cells(row: dict[str, Any], ours: float) -> Iterator[str]:
    extra = row["peak_above_parameters"]
    yield row["model"]
    yield row["how"]
    yield f"{row['seconds']:.2f}"
    low, high = row["range"]
    yield f"{low:.2f}-{high:.2f}" if row["times"] > 1 else ""
    yield f"{row['seconds'] / ours:.1f}"
    yield f"{row['again']:.2f}"
    yield f"{row['bytes'] / MIB:.0f}"
    yield f"{row['largest'] / MIB:.0f}"
    yield "-" if extra is None else f"{extra / MIB:.0f}"
    yield f"{row['load']:.1f}"


def bounds(rows: list[dict[str, Any]]) -> list[Bound]:
    """Return the bounds that the measured numbers of materialize have to meet."""
    special = [r for r in rows if r.get("optimizer") or r.get("scanned")]
    seconds = {
        (r.get("layers"), r["how"]): r["seconds"] for r in rows if r not in special
    }
    limits = _never_slower(special)
    for layers, rival, times in ((24, "jit", 10), (96, "jit", 25), (24, "eager", 3)):
        theirs, ours = seconds.get((layers, rival)), seconds.get((layers, OURS))
        if theirs and ours:
            what = f"{layers} layers: {rival} / materialize"
            limits.append(Bound(what, theirs / ours, times, at_least=True))
    if (24, OURS) in seconds and (96, OURS) in seconds:
        grown = seconds[96, OURS] / seconds[24, OURS]
        what = "materialize: 96 layers / 24 layers"
        limits.append(Bound(what, grown, 2.5, at_least=False))
    limits += _asked(rows)
    for row in rows:
        if row["how"] == OURS and row["peak_above_parameters"] is not None:
            extra = row["peak_above_parameters"] / MIB
            bound = row["largest"] / MIB + 100
            what = f"{row['model']}: MiB above the parameters, at the peak"
            limits.append(Bound(what, extra, bound, at_least=False))
    return limits


# The seconds that a first start of the transformer of width 256 may take.
_SECONDS = {24: 0.5, 96: 1.5}
# From this many bytes on memory decides, and not the trace.
_LARGE = 10**9


def _asked(rows: list[dict[str, Any]]) -> Iterator[Bound]:
    """Yield the bounds in seconds, and those beside one draw of as many numbers."""
    again = {(r["model"], r["how"]): r["again"] for r in rows}
    for row in rows:
        model, layers = row["model"], row.get("layers")
        if row["how"] != OURS or row.get("optimizer") or row.get("scanned"):
            continue
        if layers in _SECONDS and row.get("width") == 256:
            what = f"{layers} layers: materialize, seconds"
            yield Bound(what, row["seconds"], _SECONDS[layers], at_least=False)
        # A first start compiles, and one draw does, too, so later ones are compared.
        for rival, times in (("draw", 1.3), ("torch", 1.0)):
            if row["bytes"] >= _LARGE and (model, rival) in again:
                what = f"{model}: another key, materialize / {rival}"
                ratio = row["again"] / again[model, rival]
                yield Bound(what, ratio, times, at_least=False)
        if layers == 24 and (model, "jit") in again:
            what = f"{model}: another key, materialize / jit"
            yield Bound(what, row["again"] / again[model, "jit"], 1.0, at_least=False)


def _never_slower(rows: list[dict[str, Any]]) -> list[Bound]:
    """Return the bounds of states and of stacked layers: slower than no other way."""
    seconds = {(r["model"], r["how"]): r["seconds"] for r in rows}
    pairs = [(m, how) for m, how in seconds if how != OURS and (m, OURS) in seconds]
    return [
        Bound(f"{m}: {how} / materialize", seconds[m, how] / seconds[m, OURS], 1, True)
        for m, how in pairs
    ]


def bounds_table(limits: list[Bound]) -> Table:
    result = Table(title="Bounds on materialize", title_justify="left")
    result.add_column("number", no_wrap=True)
    for name in ("measured", "bound", ""):
        result.add_column(name, justify="right")
    for bound in limits:
        sign = ">=" if bound.at_least else "<="
        result.add_row(
            bound.what, f"{bound.value:.3g}", f"{sign} {bound.bound:.3g}",
            "met" if bound.met else "missed",
        )  # fmt: skip
    return result


def figure(rows: list[dict[str, Any]], path: pathlib.Path) -> None:
    """Draw two panels: the seconds, and the memory above the parameters."""
    fig, (left, right) = plt.subplots(
        1, 2, figsize=(12, 1.2 + 0.3 * len(rows)), layout="constrained", sharey=True
    )
    colors = [_COLORS[row["how"]] for row in rows]
    places = range(len(rows))
    left.barh(places, [row["seconds"] for row in rows], color=colors)
    left.set_xscale("log")
    left.set_xlabel("seconds to the first parameters, compilation included")
    extra = [(row["peak_above_parameters"] or 0) / MIB for row in rows]
    right.barh(places, extra, color=colors)
    right.set_xlabel("MiB at the peak, above the parameters")
    left.set_yticks(places, [f"{r['model']}: {r['how']}" for r in rows], fontsize=8)
    left.invert_yaxis()
    for axes in (left, right):
        axes.grid(axis="x", alpha=0.3)
    fig.savefig(path, dpi=110)
    plt.close(fig)
