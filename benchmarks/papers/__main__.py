"""Reproduce claims about initialization: numbers, verdicts and figures.

python -m benchmarks.papers --help
"""

import argparse
import importlib
import json
import pathlib
import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import _options
from benchmarks.papers._result import Result
from examples import _data

NAMES = (
    "he_vs_xavier", "glorot", "edge_of_chaos", "isometry", "delta_orthogonal", "fixup",
    "deepnorm", "lsuv", "looks_linear", "siren", "chrono", "batch_norm", "pre_norm",
    "rank_collapse", "branch_share", "deep_linear", "t5_head", "dead_heads",
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run the experiments; return 1 if one cannot run, 2 if the data are missing.

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
    records = {
        name: _record(name, arguments.quick, images, out)
        for name in track(
            arguments.experiments or NAMES, "experiments", console=console,
            transient=True, disable=not console.is_terminal,
        )
    }  # fmt: skip
    _write(records, arguments, out)
    console.print(_table(records))
    console.print(f"{out}/results.json, {out}/summary.md", soft_wrap=True)
    return int(any("error" in record for record in records.values()))


def experiment(name: str, quick: bool, images: _data.Images) -> Result:
    """Run one experiment and return its result."""
    return importlib.import_module(f"benchmarks.papers.{name}").run(quick, images)


def _record(
    name: str, quick: bool, images: _data.Images, out: pathlib.Path
) -> dict[str, Any]:
    """Return an experiment as plain data with its seconds, and save its figure."""
    start = time.perf_counter()
    try:
        result = experiment(name, quick, images)
    except Exception as error:  # The other experiments are still worth their time.
        return {"error": f"{type(error).__name__}: {error}", "reproduced": "not run"}
    seconds = time.perf_counter() - start
    result.figure.savefig(out / f"{name}.png", dpi=110)
    return {**result.to_dict(), "seconds": round(seconds, 1)}


def _table(records: dict[str, dict[str, Any]]) -> Table:
    table = Table(title="Published results", title_justify="left", show_lines=True)
    for heading in ("experiment", "claim", "measured", "reproduced", "s"):
        table.add_column(heading, no_wrap=heading in ("reproduced", "s"))
    for name, record in records.items():
        table.add_row(name, *_cells(record))
    return table


def _cells(record: dict[str, Any]) -> list[str]:
    """Return the cells of a record, for the table and for the summary."""
    if "error" in record:
        return ["", record["error"], "not run", ""]
    failed = [check for check, held in record["checks"].items() if not held]
    outcome = record["found"] + (
        f" [these checks fail: {'; '.join(failed)}]" if failed else ""
    )
    claim = f"{record['paper']}: {record['claim']}"
    return [claim, outcome, record["reproduced"], f"{record['seconds']:.0f}"]


def _write(
    records: dict[str, dict[str, Any]], arguments: argparse.Namespace, out: pathlib.Path
) -> None:
    """Write results.json, and the table with all figures into summary.md."""
    settings = {"quick": arguments.quick, "data": arguments.data}
    report = {**settings, "experiments": records}
    (out / "results.json").write_text(json.dumps(report, indent=1) + "\n")
    rows = [["experiment", "claim", "measured", "reproduced", "s"], ["---"] * 5]
    rows += [[name, *_cells(record)] for name, record in records.items()]
    lines = ["# Published results", "", *(f"| {' | '.join(row)} |" for row in rows), ""]
    for name, record in records.items():
        if "error" not in record:
            lines += [f"![{record['claim']}]({name}.png)", ""]
    (out / "summary.md").write_text("\n".join(lines))


def _parser() -> argparse.ArgumentParser:
    return _options.parser(
        "python -m benchmarks.papers",
        "Reproduce published results on initialization.",
        "experiments",
        NAMES,
        "results/papers",
    )


if __name__ == "__main__":
    sys.exit(main())
