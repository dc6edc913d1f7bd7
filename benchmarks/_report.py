"""Turn measured rows into a table, a JSON file and a figure."""

import importlib.metadata
import json
import os
import pathlib
import platform
from typing import Any

import jax
import matplotlib.pyplot as plt
import numpy as np
from rich.table import Table

import jinit

PEERS = ("jinit", "jinit in jit", "jax", "torch", "numpy", "fill")


def environment() -> dict[str, Any]:
    """Return the versions and the hardware that the figures depend on."""
    return {
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "processor": _fact("/proc/cpuinfo", "model name") or platform.processor(),
        "architecture": platform.machine(),
        "vector_bits": vector_bits(_fact("/proc/cpuinfo", "flags").split()),
        "cores": os.cpu_count(),
        "memory_gib": _gibibytes(_fact("/proc/meminfo", "MemTotal")),
        "python": platform.python_version(),
        # The package may be imported from a checkout that is not installed.
        "jinit": jinit.__version__,
        **{name: _version(name) for name in _PACKAGES},
    }


_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _fact(file: str, name: str) -> str:
    """Return the first value of a name in a file of Linux, or "" elsewhere."""
    path = pathlib.Path(file)
    for line in path.read_text().splitlines() if path.is_file() else ():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def vector_bits(flags: list[str]) -> int | None:
    """Return the width of the vectors of an x86 processor with these flags."""
    for flag, bits in (("avx512f", 512), ("avx2", 256), ("sse2", 128)):
        if flag in flags:
            return bits
    return None


def _gibibytes(text: str) -> int | None:
    """Return the number of GiB of a text such as "24605112 kB"."""
    return round(int(text.split()[0]) / 2**20) if text else None


def ratio(row: dict[str, Any], peer: str, ours: str) -> float | None:
    """Return how many times longer the peer takes; above 1, jinit is faster."""
    if peer not in row["seconds"] or ours not in row["seconds"]:
        return None
    return row["seconds"][peer]["median"] / row["seconds"][ours]["median"]


def table(rows: list[dict[str, Any]]) -> Table:
    """Return a table of milliseconds, and of how many times faster jinit is."""
    result = Table(title="Medians of interleaved rounds, ms", title_justify="left")
    for name in ("what", "scheme", "shape", "dtype"):
        result.add_column(name, no_wrap=True)
    for name in PEERS:
        result.add_column(name, justify="right", no_wrap=True)
    for name in ("jax / jinit", "jax / in jit", "torch / jinit"):
        result.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        shape = "x".join(map(str, row["shape"])) or "-"
        result.add_row(
            row["what"], row["scheme"], shape, row["dtype"],
            *(_milliseconds(row, peer) for peer in PEERS),
            _times(ratio(row, "jax", "jinit")),
            _times(ratio(row, "jax", "jinit in jit")),
            _times(ratio(row, "torch", "jinit")),
        )  # fmt: skip
    return result


def _milliseconds(row: dict[str, Any], peer: str) -> str:
    timing = row["seconds"].get(peer)
    return "" if timing is None else f"{1e3 * timing['median']:.3g}"


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def write(
    rows: list[dict[str, Any]], memory: list[dict[str, Any]], out: pathlib.Path
) -> None:
    """Write results.json and figure.png into the folder."""
    out.mkdir(parents=True, exist_ok=True)
    report = {"environment": environment(), "rows": rows, "memory": memory}
    (out / "results.json").write_text(json.dumps(report, indent=1) + "\n")
    figure(rows, out / "figure.png")


def figure(rows: list[dict[str, Any]], path: pathlib.Path) -> None:
    """Draw how many times faster than jitted JAX each call of jinit is."""
    shown = [r for r in rows if r["what"] != "import" and "jax" in r["seconds"]]
    labels = [
        f"{r['what']}, {r['scheme']}, {'x'.join(map(str, r['shape']))} {r['dtype']}"
        for r in shown
    ]
    fig, axes = plt.subplots(
        figsize=(10, 1.2 + 0.34 * len(shown)), layout="constrained"
    )
    y = np.arange(len(shown))
    for offset, ours, color in (
        (-0.2, "jinit", "tab:blue"),
        (0.2, "jinit in jit", "tab:cyan"),
    ):
        values = [ratio(row, "jax", ours) or np.nan for row in shown]
        axes.barh(y + offset, values, 0.4, label=ours, color=color)
    axes.axvline(1, color="black", lw=1)
    axes.set_yticks(y, labels, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("times faster than jax.nn.initializers (jitted)")
    axes.legend(loc="lower right")
    axes.grid(axis="x", alpha=0.3)
    fig.savefig(path, dpi=110)
    plt.close(fig)
