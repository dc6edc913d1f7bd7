"""Compare the speed of two commits in one run; exit with 1 if the second is slower.

python -m benchmarks.regress --help

Three processes take turns: one of the first commit, another one of it, and one of the
second commit. The two processes that run the same code show the noise of the machine. A
case is slower if its time grew beyond the noise, and by 5 % more.
"""

import argparse
import contextlib
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

WORKER = pathlib.Path(__file__).with_name("_regress_worker.py")
# A growth that nobody notices is no regression, however quiet the machine is.
TOLERANCE = 0.05
# The median of n rounds has 1.25 / sqrt(n) times the standard deviation of a round, and
# a normal law's standard deviation is 1.48 times the median distance from the median.
_ERROR = 1.25 * 1.48
# At this limit there is one false alarm in 3,000 cases.
_SIGMAS = 3.4


def main(argv: list[str] | None = None) -> int:
    """Time both commits in turns; print a table; return 1 if a case is slower."""
    arguments = _parser().parse_args(argv)
    repository = pathlib.Path(arguments.repository).resolve()
    cases = arguments.only or _all_cases()
    rounds = arguments.rounds or (5 if arguments.quick else 31)
    with contextlib.ExitStack() as stack:
        first, second = (
            stack.enter_context(_files(repository, commit))
            for commit in (arguments.first, arguments.second)
        )
        workers = [
            stack.enter_context(_worker(folder)) for folder in (first, first, second)
        ]
        rows = [_row(case, _measured(workers, case, rounds)) for case in cases]
    commits = [_name(repository, c) for c in (arguments.first, arguments.second)]
    report = {"commits": commits, "rounds": rounds, "rows": rows}
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(report, indent=1) + "\n")
    console = Console() if sys.stdout.isatty() else Console(width=120)
    console.print(_table(commits, rows))
    slower = [row["case"] for row in rows if row["is_slower"]]
    console.print(f"Slower: {', '.join(slower) or 'nothing'}.")
    return 1 if slower else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.regress", description=__doc__
    )
    add = parser.add_argument
    add("first", nargs="?", default="HEAD", help="a commit; by default HEAD")
    add(
        "second", nargs="?",
        help="a commit; by default the files as they are, committed or not",
    )  # fmt: skip
    add("--json", metavar="FILE", help="write the times to this file")
    add("--rounds", type=int, help="number of rounds: 31, or 5 if quick")
    add("--quick", action="store_true", help="run a few rounds")
    add("--only", action="append", metavar="CASE", help="a case; may be repeated")
    add("--repository", default=".", help="the folder of the Git repository")
    return parser


def _all_cases() -> list[str]:
    # Only the workers import JAX: here it would take memory and threads from them.
    code = "import _regress_worker as w; print(*w.CASES, sep='\\n')"
    path = os.pathsep.join([str(WORKER.parent), str(WORKER.parent.parent)])
    run = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return run.stdout.splitlines()


@contextlib.contextmanager
def _files(repository: pathlib.Path, commit: str | None) -> Iterator[pathlib.Path]:
    """Yield a folder with the files of a commit, or the repository itself for None."""
    if commit is None:
        yield repository
        return
    with tempfile.TemporaryDirectory() as folder:
        files = pathlib.Path(folder) / "files"
        _git(repository, "worktree", "add", "--detach", str(files), commit)
        try:
            yield files
        finally:
            _git(repository, "worktree", "remove", "--force", str(files))


def _git(repository: pathlib.Path, *arguments: str) -> str:
    run = subprocess.run(
        ["git", "-C", str(repository), *arguments], capture_output=True, text=True
    )
    if run.returncode:
        raise SystemExit(f"git {' '.join(arguments)} failed: {run.stderr.strip()}")
    return run.stdout.strip()


def _name(repository: pathlib.Path, commit: str | None) -> str:
    return (
        "files" if commit is None else _git(repository, "rev-parse", "--short", commit)
    )


@contextlib.contextmanager
def _worker(folder: pathlib.Path) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    # Each worker runs this checkout's file, and imports the jinit of PYTHONPATH.
    with subprocess.Popen(
        [sys.executable, str(WORKER)], cwd=folder, env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def _measured(
    workers: Sequence[subprocess.Popen[str]], case: str, rounds: int
) -> list[list[tuple[float, float]]]:
    """Return the seconds of jinit and of JAX, by round and by worker.

    One more round comes first and is not counted, since it compiles and warms up.
    """
    return [[_asked(w, case) for w in workers] for _ in range(rounds + 1)][1:]


def _asked(worker: subprocess.Popen[str], case: str) -> tuple[float, float]:
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write(f"{case}\n")
    worker.stdin.flush()
    answer = worker.stdout.readline()
    if not answer:
        raise SystemExit(
            f"A worker ended while it timed {case!r}; see its error above."
        )
    ours, theirs = json.loads(answer)
    return ours, theirs


def _row(case: str, rounds: list[list[tuple[float, float]]]) -> dict[str, Any]:
    """Compare the times of a case by their ratios within each round."""
    ours = [[worker[0] for worker in each] for each in rounds]
    again = [math.log(b / a) for a, b, _ in ours]
    # The second commit is compared with both processes of the first one: their mean.
    growth = [math.log(c / math.sqrt(a * b)) for a, b, c in ours]
    error = _SIGMAS * max(_error(again), _error(growth))
    noise = abs(statistics.median(again)) + error
    change = statistics.median(growth)
    first, _, second = (statistics.median(x) for x in zip(*ours, strict=True))
    jax_first, _, jax_second = (
        statistics.median(worker[1] for worker in column)
        for column in zip(*rounds, strict=True)
    )
    return {
        "case": case,
        "seconds": [first, second],
        "times_jax": [jax_first / first, jax_second / second],
        "change": math.exp(change),
        "noise": math.exp(noise),
        "is_slower": change > noise + math.log1p(TOLERANCE),
    }


def _error(values: list[float]) -> float:
    """Return the standard error of the median."""
    centre = statistics.median(values)
    spread = statistics.median(abs(x - centre) for x in values)
    return _ERROR * spread / math.sqrt(len(values))


def _table(commits: list[str], rows: list[dict[str, Any]]) -> Table:
    first, second = commits
    table = Table(title="Medians of rounds in turns", title_justify="left")
    table.add_column("case")
    for name in (
        f"{first}, ms", f"{second}, ms", "times as long", "noise",
        f"jax / {first}", f"jax / {second}", "",
    ):  # fmt: skip
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row["case"], *(f"{1e3 * x:.3g}" for x in row["seconds"]),
            f"{row['change']:.3f}", f"{row['noise']:.3f}",
            *(f"{x:.2f}" for x in row["times_jax"]),
            "slower" if row["is_slower"] else "",
        )  # fmt: skip
    return table


if __name__ == "__main__":
    sys.exit(main())
