"""Two commits are compared: a slow one is told, and noise is not."""

import json
import math
import subprocess

import pytest

from benchmarks import regress

FAST = "from jax.nn.initializers import normal as normal\n"
SLOW = """
import time

import jax


def normal(std):
    def init(*arguments):
        time.sleep(2e-3)
        return jax.nn.initializers.normal(std)(*arguments)

    return init
"""


def git(repository, *arguments):
    person = "-c", "user.name=A", "-c", "user.email=a@b.c"
    subprocess.run(["git", "-C", repository, *person, *arguments], check=True)


@pytest.fixture
def repository(tmp_path):
    """A repository of a small jinit whose second commit is slow."""
    folder = tmp_path / "repository"
    (folder / "jinit").mkdir(parents=True)
    git(tmp_path, "init", "-q", str(folder))
    for text in (FAST, SLOW):
        (folder / "jinit" / "__init__.py").write_text(text)
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", "a commit")
    return folder


def run(repository, *arguments):
    return regress.main(
        ["--repository", str(repository), "--only", "fifty eager calls",
         "--rounds", "5", *arguments]
    )  # fmt: skip


def test_a_slow_commit_is_told(repository, tmp_path, capsys):
    path = tmp_path / "times.json"
    assert run(repository, "HEAD~1", "HEAD", "--json", str(path)) == 1
    assert "Slower: fifty eager calls." in capsys.readouterr().out
    report = json.loads(path.read_text())
    (row,) = report["rows"]
    # Fifty times the two milliseconds.
    assert row["seconds"][1] - row["seconds"][0] > 0.09
    assert row["change"] > row["noise"] * (1 + regress.TOLERANCE)
    assert len(set(report["commits"])) == 2
    assert row["times_jax"][0] > row["times_jax"][1]
    # The other commit's files are gone, and Git knows.
    worktrees = subprocess.run(
        ["git", "-C", repository, "worktree", "list"], capture_output=True, text=True
    ).stdout
    assert len(worktrees.splitlines()) == 1


def test_a_fast_commit_and_files_that_are_not_committed(repository, capsys):
    (repository / "jinit" / "__init__.py").write_text(FAST)
    assert run(repository, "HEAD") == 0
    assert "Slower: nothing." in capsys.readouterr().out


def rounds(again, second, count=31):
    """Rounds in which the first commit takes 1 s, and its copy and the second more."""
    wave = [1 + 0.02 * math.sin(7 * i) for i in range(count)]
    return [[(1.0, 3.0), (again * w, 3.0), (second / w, 3.0)] for w in wave]


def test_noise_is_what_one_commit_differs_from_itself():
    assert regress._row("x", rounds(1.0, 1.2))["is_slower"]
    assert not regress._row("x", rounds(1.0, 1.03))["is_slower"]
    assert not regress._row("x", rounds(1.0, 0.5))["is_slower"]
    # The two processes of the first commit differ as much as the second commit does.
    assert not regress._row("x", rounds(1.2, 1.2))["is_slower"]
    row = regress._row("x", rounds(1.0, 1.5))
    assert row["times_jax"] == pytest.approx([3.0, 2.0], rel=0.03)


def test_an_unknown_commit(repository):
    with pytest.raises(SystemExit, match="worktree add .*absent failed"):
        run(repository, "absent")
