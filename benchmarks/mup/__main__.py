"""Tune learning rates on small models and use them on large ones, with muP or not.

python -m benchmarks.mup --help
"""

import argparse
import json
import pathlib
import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import _options
from benchmarks.mup import _transfer
from benchmarks.mup._studies import STUDIES, Study
from examples import _data


def main(argv: list[str] | None = None) -> int:
    """Run the sweeps; return 0, or 2 if the data are missing.

    A claim that does not reproduce is a result, not an error.
    """
    arguments = _parser().parse_args(argv)
    console = Console() if sys.stdout.isatty() else Console(width=120)
    try:
        images = _data.load(arguments.data, arguments.data_dir)
    except _data.DataError as error:
        console.print(f"error: {error}", style="red", markup=False, highlight=False)
        return 2
    out = pathlib.Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"quick": arguments.quick, "data": arguments.data}
    for name in track(
        arguments.studies or tuple(STUDIES), "studies", console=console,
        transient=True, disable=not console.is_terminal,
    ):  # fmt: skip
        study = STUDIES[name](arguments.quick, images)
        begun = time.perf_counter()
        result = _transfer.run(study)
        seconds = round(time.perf_counter() - begun, 1)
        result.figure.savefig(out / f"{name}.png", dpi=110)
        report[name] = {**result.to_dict(), "seconds": seconds}
        console.print(table(study, report[name]))
        _print_verdict(report[name], console)
        # The file is written after each study, since a study takes minutes.
        (out / "results.json").write_text(json.dumps(report, indent=1) + "\n")
    console.print(f"{out}/results.json, {out}/*.png", soft_wrap=True)
    return 0


def table(study: Study, record: dict[str, Any]) -> Table:
    """Return the best rate and the losses of each size, under both parametrizations."""
    names = (study.rule, "standard")
    result = Table(
        title=f"{study.title}: {record['seconds']:.0f} s", title_justify="left",
        caption="Losses are means over all steps and seeds, at the best rate and at "
        f"the best rate of {study.grows} {study.sizes[0]}.", caption_justify="left",
    )  # fmt: skip
    result.add_column(study.grows, justify="right")
    for heading in ("best rate", "loss", f"at {study.sizes[0]}'s", "s"):
        for name in names:
            result.add_column(f"{name}: {heading}", justify="right")
    measured = [record["measured"][name] for name in names]
    for i, size in enumerate(study.sizes):
        best = [_rate(sweep, i) for sweep in measured]
        least = [f"{sweep['least'][i]:.3g}" for sweep in measured]
        transferred = [_number(sweep["transferred"][i]) for sweep in measured]
        seconds = [f"{sweep['seconds'][i]:.0f}" for sweep in measured]
        result.add_row(str(size), *best, *least, *transferred, *seconds)
    return result


def _rate(measured: dict[str, Any], i: int) -> str:
    """Return a rate as a power of two, with a mark at the edge of the grid."""
    return f"2^{measured['best'][i]:.1f}" + ("" if measured["inside"][i] else " (edge)")


def _number(value: float | None) -> str:
    return "diverged" if value is None else f"{value:.3g}"


def _print_verdict(record: dict[str, Any], console: Console) -> None:
    for check, held in record["checks"].items():
        console.print(f"{'yes' if held else 'NO '}  {check}", highlight=False)
    console.print(record["found"] + "\n", highlight=False)


def _parser() -> argparse.ArgumentParser:
    return _options.parser(
        "python -m benchmarks.mup",
        "Sweep learning rates over widths and depths, with and without muP.",
        "studies",
        tuple(STUDIES),
        "results/mup",
    )


if __name__ == "__main__":
    sys.exit(main())
