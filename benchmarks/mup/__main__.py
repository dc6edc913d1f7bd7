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

from benchmarks import _options, _page
from benchmarks.mup import _transfer, _transfer_page
from benchmarks.mup._studies import STUDIES
from examples import _data


def main(argv: list[str] | None = None) -> int:
    """Run the sweeps; return 0, or 2 if the data are missing.

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
    report: dict[str, Any] = {"quick": arguments.quick, "data": arguments.data}
    for name in track(
        arguments.studies or tuple(STUDIES), "studies", console=console,
        transient=True, disable=not console.is_terminal,
    ):  # fmt: skip
        study = STUDIES[name](arguments.quick, images)
        begun = time.perf_counter()
        outcome = _transfer.run(study)
        seconds = round(time.perf_counter() - begun, 1)
        report[name] = {**outcome.to_dict(), "grows": study.grows, "seconds": seconds}
        console.print(f"{study.title}, {seconds:.0f} s", style="bold")
        for rule, one in outcome.reports.items():
            one.plot(out / f"{name}-{rule}.png")
            console.print(f"\n{rule}, sizes are {study.grows}s:", one)
        for check, held in outcome.checks.items():
            console.print(f"{'yes' if held else 'NO '}  {check}", highlight=False)
        # The file is written after each study, since a study takes minutes.
        (out / "results.json").write_text(json.dumps(report, indent=1) + "\n")
        if docs:
            _transfer_page.write(docs, name, study, outcome, arguments.data)
    console.print(f"{out}/results.json, {out}/*.png", soft_wrap=True)
    return 0


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
