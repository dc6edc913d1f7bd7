"""Measure how much time `import jinit` takes beyond `import jax`.

python -m benchmarks.importing --help

The processes run in turns, so that other load on the machine slows all of them alike.
Each process is measured from outside, start and end included, and from inside, from the
end of `import jax` on.
"""

import argparse
import statistics
import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table

from benchmarks import _page

CODES = {
    "import jax": "",
    "import jinit": "import jinit",
    "jinit.he()": "import jinit; jinit.he()",
    "jinit.plan": "import jinit; jinit.plan",
    "every name": "import jinit; [getattr(jinit, n) for n in jinit.__all__]",
}

_ABOUT = """\
`import jinit` loads JAX and no other file of jinit: each name is loaded when it is
first used. New processes run in turns, one for each row. The columns are the whole
process, its time beyond a process of the same round that only imports JAX, and the time
after `import jax` as the process measures it. Byte code and files are in the machine's
memory."""


def main(argv: list[str] | None = None) -> int:
    """Start the processes in turns; print medians in milliseconds."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.importing", description=__doc__
    )
    parser.add_argument("--quick", action="store_true", help="run a small size, for CI")
    parser.add_argument(
        "--rounds", type=int, help="number of rounds: 21, or 1 if quick"
    )
    _page.add_option(parser)
    arguments = parser.parse_args(argv)
    docs = _page.folder(parser, arguments)
    rounds = arguments.rounds or (1 if arguments.quick else 21)
    runs = measured(rounds)
    table = Table(
        "after import jax", "process, ms", "beyond import jax, ms", "inside, ms"
    )
    baseline = [outside for outside, _ in runs["import jax"]]
    for name, times in runs.items():
        outside = [wall for wall, _ in times]
        # The processes of one round meet the same load, so they are compared in pairs.
        beyond = [a - b for a, b in zip(outside, baseline, strict=True)]
        inside = [seconds for _, seconds in times]
        table.add_row(name, *(_median(x) for x in (outside, beyond, inside)))
    console = Console()
    console.print(
        f"{rounds} rounds of fresh processes, Python {sys.version.split()[0]}"
    )
    console.print(table)
    if docs:
        head = ("after `import jax`", "process, ms", "beyond `import jax`, ms",
                "inside, ms")  # fmt: skip
        text = _page.table(head, _page.rows_of(table))
        _page.write(
            docs,
            _page.Part(
                "speed", "importing", "Imports", "python -m benchmarks.importing",
                _ABOUT, [text, _page.measured(f"Medians of {rounds} rounds.")],
            ),
        )  # fmt: skip
    return 0


def measured(rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return the seconds of each process, and those after its `import jax`."""
    for code in CODES.values():
        # The first run writes byte code and reads files, which no later one does.
        _run(code)
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in CODES}
    for _ in range(rounds):
        for name, code in CODES.items():
            runs[name].append(_run(code))
    return runs


def _run(code: str) -> tuple[float, float]:
    timed = (
        "import time, jax\nstart = time.perf_counter()\n"
        f"{code}\nprint(time.perf_counter() - start)"
    )
    start = time.perf_counter()
    result = subprocess.run(
        [sys.executable, "-c", timed], capture_output=True, text=True, check=True
    )
    return time.perf_counter() - start, float(result.stdout)


def _median(seconds: list[float]) -> str:
    return f"{1000 * statistics.median(seconds):.1f}"


if __name__ == "__main__":
    raise SystemExit(main())
