"""Write the page of the speed of draws, with its figure."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks import _page
from benchmarks._report import ratio

_LAWS = {
    "normal": "normal",
    "he_normal": "truncated normal",
    "he_uniform": "uniform",
    "he": "normal, He's std",
    "orthogonal": "orthogonal",
}
_ABOUT = """\
One array of each size is drawn by `jinit.normal`, `jinit.he_normal` (a normal law cut
at two sigma), `jinit.he_uniform` and `jinit.orthogonal`, and by their namesakes.
"Called directly" is the initializer called by itself, which runs one compiled program;
"inside your jit" is the same call in the user's `jax.jit`. JAX's initializer is under
`jax.jit` in both columns. torch fills a new tensor; it takes turns with the direct
call, in separate rounds, since XLA's threads fall asleep during a long call of another
library."""
_SMALL = """\
An array of 8 x 8 entries. "In a row" makes fifty calls and waits for the last one,
which is the cost of Python and the dispatch in a program that makes many calls; "waited
for" waits for each call. torch runs no compiled program, and its calls are
shorter."""
_SEEDS = """\
The keys are mapped by `jax.vmap` inside `jax.jit`, in jinit's column and in JAX's."""
_COMPILE = """\
A sampler that is new to the process is traced, lowered and compiled."""


def write(
    place: pathlib.Path, rows: list[dict[str, Any]], memory: list[dict[str, Any]]
) -> None:
    """Write the parts of the page "speed" whose rows were measured."""
    if draws := _together(rows):
        _write_draws(place, draws, memory)
    for name, title, about, kind, ours, factor, unit in (
        ("small", "Small arrays, called eagerly", _SMALL, "eager", "jinit", 1e6, "us"),
        (
            "seeds",
            "Many seeds of one array",
            _SEEDS,
            "sweep",
            "jinit in jit",
            1e3,
            "ms",
        ),
        ("compile", "Compilation", _COMPILE, "compile", "jinit", 1e3, "ms"),
    ):
        if chosen := [row for row in rows if row["what"].startswith(kind)]:
            body = [_pairs(chosen, ours, factor, unit), _page.measured()]
            command = f"python -m benchmarks --only {kind}"
            part = _page.Part("speed", name, title, command, about, body)
            _page.write(place, part)


def _write_draws(
    place: pathlib.Path,
    draws: Sequence[dict[str, Any]],
    memory: list[dict[str, Any]],
) -> None:
    beside = max((row["beside"] for row in memory), default=0) / 2**20
    with _page.style():
        image = _page.image(place, "speed", figure(draws), _alt(draws))
    body = [
        image,
        _draws(draws),
        _page.paragraphs(_lost(draws)),
        f"A draw needs at most {beside:.0f} MiB of memory beside its result.",
        _page.measured(),
    ]
    command = "python -m benchmarks --only draw"
    part = _page.Part("speed", "draws", "Draws of one array", command, _ABOUT, body)
    _page.write(place, part)


def _together(rows: list[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """Return a row for each draw, with the ratios of its two cases."""
    others = {_which(row): row for row in rows if row["what"] == "draw, others"}
    return [
        {
            "name": f"{_LAWS[row['scheme']]}, {_size(row['shape'])}"
            + ("" if row["dtype"] == "float32" else f", {row['dtype']}"),
            "milliseconds": 1e3 * row["seconds"]["jinit"]["median"],
            "direct": ratio(row, "jax", "jinit"),
            "in jit": ratio(row, "jax", "jinit in jit"),
            "torch": _ratio_of(others.get(_which(row)), "torch"),
            "numpy": _ratio_of(others.get(_which(row)), "numpy"),
        }
        for row in rows
        if row["what"] == "draw"
    ]


def _which(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["scheme"], tuple(row["shape"]), row["dtype"]


def _ratio_of(row: dict[str, Any] | None, peer: str) -> float | None:
    return None if row is None else ratio(row, peer, "jinit")


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _draws(draws: Sequence[dict[str, Any]]) -> str:
    head = ("draw", "ms, called directly", "than JAX, called directly",
            "than JAX, inside your jit", "than torch", "than NumPy")  # fmt: skip
    columns = ("direct", "in jit", "torch", "numpy")
    rows = [
        [
            one["name"],
            _number(one["milliseconds"]),
            *(_page.ratio(one[name]) for name in columns),
        ]
        for one in draws
    ]
    return f"Times faster:\n\n{_page.table(head, rows)}"


def _lost(draws: Sequence[dict[str, Any]]) -> str:
    """Say in which draws jinit is slower than another library."""
    peers = {"direct": "JAX", "in jit": "JAX inside a jit", "torch": "torch",
             "numpy": "NumPy"}  # fmt: skip
    lost = [
        f"than {label} at {one['name']} ({one[column]:.2f})"
        for one in draws
        for column, label in peers.items()
        if one[column] is not None and one[column] < 1
    ]
    if not lost:
        return "In this run jinit was slower in no row."
    return f"In this run jinit was slower {'; '.join(lost)}."


def _pairs(rows: list[dict[str, Any]], ours: str, factor: float, unit: str) -> str:
    """Return a table of times of jinit and its peers, and their ratios."""
    peers = [p for p in ("jax", "torch") if any(p in r["seconds"] for r in rows)]
    names = {"jax": "JAX", "torch": "torch"}
    head = ["case", f"jinit, {unit}", *(f"{names[peer]}, {unit}" for peer in peers),
            *(f"times faster than {names[peer]}" for peer in peers)]  # fmt: skip
    lines = [
        [
            _case(row),
            _number(factor * row["seconds"][ours]["median"]),
            *(_time(row, peer, factor) for peer in peers),
            *(_page.ratio(ratio(row, peer, ours)) for peer in peers),
        ]
        for row in rows
    ]
    return _page.table(head, lines)


def _case(row: dict[str, Any]) -> str:
    what = row["what"].removeprefix("sweep of ").replace("eager call", "in a row")
    law, size = _LAWS[row["scheme"]], _size(row["shape"])
    if row["what"].startswith("sweep"):
        return f"{law}, {what} seed{'s' * (what != '1')} of {size}"
    if row["what"] == "compile":
        return f"{law}, {size}"
    return f"{law}, {what.removeprefix('eager, ')}"


def _time(row: dict[str, Any], peer: str, factor: float) -> str:
    timing = row["seconds"].get(peer)
    return "-" if timing is None else _number(factor * timing["median"])


def _number(value: float) -> str:
    """Return a number with three digits, without an exponent."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def figure(draws: Sequence[dict[str, Any]]) -> Figure:
    """Draw how many times faster than JAX and torch each draw is."""
    result = Figure(figsize=(7.6, 1.3 + 0.27 * len(draws)), layout="constrained")
    axes = result.add_subplot()
    y = np.arange(len(draws))
    for number, (column, label, marker) in enumerate((
        ("direct", "than JAX, called directly", "o"),
        ("in jit", "than JAX, inside your jit", "s"),
        ("torch", "than torch", "^"),
    )):  # fmt: skip
        values = [one[column] or np.nan for one in draws]
        if not np.isfinite(values).any():
            continue
        axes.plot(values, y, marker, label=label, color=f"C{number}", markersize=6)
    axes.axvline(1, color="0.5", lw=1)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(y, [one["name"] for one in draws], fontsize=8.5)
    axes.set_ylim(len(draws) - 0.4, -0.6)
    axes.grid(axis="x")
    axes.set_xlabel("times faster; left of 1 jinit is slower")
    result.legend(loc="outside lower center", ncols=3, fontsize=8.5)
    result.suptitle(_title(draws), fontsize=10.5)
    return result


def _title(draws: Sequence[dict[str, Any]]) -> str:
    least, most = _range(draws, "direct")
    return (
        f"Called directly, jinit draws {least:.1f} to {most:.1f} times as fast as JAX"
    )


def _range(draws: Sequence[dict[str, Any]], column: str) -> tuple[float, float]:
    values = [one[column] for one in draws]
    return min(values), max(values)


def _alt(draws: Sequence[dict[str, Any]]) -> str:
    inside = "{:.1f} to {:.1f}".format(*_range(draws, "in jit"))
    return f"{_title(draws)}, and {inside} times inside a jit"
