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

from benchmarks import _options, _page
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
    parser = _parser()
    arguments = parser.parse_args(argv)
    docs = _page.folder(parser, arguments)
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
    if docs:
        _write_page(docs, records, arguments.data)
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


_ABOUT = """\
Each row has a claim of a paper, or of an issue about widely used code, and the numbers
that were measured. The verdict is computed from them: "yes" if all checks hold,
"partly" if some do. Their limits come from the papers' formulas, and from the widths,
batches and seeds of the runs; the limits of the experiments that train were set before
the full runs, except that He against Xavier got 600 steps after 400 had fallen short on
MNIST. The images are scikit-learn's digits, unless the row says otherwise. A claim that
does not reproduce is a result, and stays in the table.

Names behind the command choose some of the experiments. Each experiment draws a figure
into `results/papers`."""
_NOTES = """\
Notes on the experiments:

- `delta_orthogonal`: Xavier's variance 1 / n without a bias lies on tanh's own edge of
  chaos, so 256 convolutions learn from it as well, slowly. `looks_linear`: He's network
  of 200 relu layers learns slowly, too.
- `edge_of_chaos`: at the edge itself 6 xi_c is deeper than 200 steps train, so that
  ranks agree with it and depths do not.
- `fixup`: the readout is not zero, because with a zero readout the first step would be
  equal at any depth without any scheme. `siren`: the PSNR is on the pixels that were
  fitted.
- `batch_norm`: finite batches of size B differ from pi / (pi - 1) by terms of order 1 /
  B. `pre_norm`: the gradient is that of the loss of one token, as in the theorem; in a
  mean over tokens it would also grow as these become alike.
- `rank_collapse`: softmax attention cubes the distance of the tokens from rank one, so
  that float64 has no digits left after four layers. `deep_linear`: the rates are the
  best of ten for each depth.
- `t5_head`: the head has its true size, V = 32,128 and d = 768, and reads random
  vectors behind an RMS norm."""


def _write_page(
    docs: pathlib.Path, records: dict[str, dict[str, Any]], data: str
) -> None:
    """Write the experiments that ran into their rows of the page "papers"."""
    suffix = "" if data == "digits" else f", {data}"
    rows = [
        (f"`{name}`{suffix}", *_cells(record)[:3])
        for name, record in records.items()
        if "error" not in record
    ]
    head = ("experiment", "claim", "measured", "reproduced")
    order = [(f"`{name}`",) for name in NAMES]
    table = _page.merged(docs, "papers", "papers", head, rows, order=order, left=5)
    verdicts = [row[3] for row in table.rows]
    counts = ", ".join(
        f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts)
    )
    part = _page.Part(
        "papers", "papers", "Claims and measurements", "python -m benchmarks.papers",
        _ABOUT, [f"Reproduced: {counts}, of {len(verdicts)}.", table.text, _NOTES],
    )  # fmt: skip
    _page.write(docs, part)


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
