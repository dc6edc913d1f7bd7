"""The example that restores a body from a checkpoint and draws a head."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from examples import restore
from tests.support.repository import ROOT
from tests.support.split import slow_unless

SMALL = ["--layers=1", "--width=16"]


@pytest.mark.parametrize(("devices",), slow_unless([(8,)], [(1,), (8,)]))
def test_a_body_is_restored_and_a_head_is_drawn(devices, tmp_path):
    pytest.importorskip("orbax.checkpoint")
    command = [sys.executable, "-m", "examples.restore", *SMALL, f"--out={tmp_path}"]
    result = subprocess.run(
        [*command, f"--devices={devices}"],
        capture_output=True, text=True, cwd=ROOT, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "the values that they should have: True" in result.stdout
    rows = [line.split("│")[1:5] for line in result.stdout.splitlines() if "│" in line]
    source = {path.strip(): where.strip() for path, _, _, where in rows}
    for tree in ("params", "opt_state/0/mu", "opt_state/0/nu"):
        assert source[f"{tree}/head/kernel"] == "a draw"
        assert source[f"{tree}/up_0/kernel"] == "the checkpoint"
    part = next(part for path, _, part, _ in rows if "params/up_0/kernel" in path)
    assert part.strip() == str((16, 64 // devices))
    assert (tmp_path / "checkpoint").is_dir()


def test_the_comparison_of_states_can_fail():
    saved = {"body": jnp.arange(3.0), "head": jnp.zeros(2)}
    fresh = {"body": jnp.ones(3), "head": jnp.ones(4)}
    right = {"body": saved["body"], "head": fresh["head"]}
    assert restore._is_right(right, saved, fresh)
    for name in saved:
        wrong = {**right, name: right[name] + 1}
        assert not restore._is_right(wrong, saved, fresh)
    assert not restore._is_right(jax.tree.map(jnp.zeros_like, right), saved, fresh)
