"""The examples at small size, as a user would start them."""

import json
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from examples import sharded_init, transformer
from tests.test_package import ROOT

SMALL = ["--layers=1", "--width=64"]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_model_drawn_on_a_mesh(processes):
    command = [sys.executable, "-m", "examples.sharded_init", *SMALL]
    result = subprocess.run(
        [*command, f"--processes={processes}"],
        capture_output=True, text=True, cwd=ROOT, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    lines = result.stdout
    assert lines.count("equal to the model drawn on one device: True") == processes
    totals = {float(n) for n in re.findall(r"([\d.]+) MiB in all", lines)}
    parts = [float(n) for n in re.findall(r":\d+: ([\d.]+) MiB", lines)]
    assert len(parts) == 8 and len(totals) == 1
    assert max(parts) < totals.pop() / 4


def test_the_comparison_of_parts_can_fail():
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    whole = {"w": jnp.arange(16.0)}
    parts = jax.device_put(whole, place)
    assert sharded_init._equal(parts, whole)
    assert not sharded_init._equal(parts, {"w": whole["w"].at[15].set(0)})


@pytest.mark.parametrize("recipe", list(transformer.RECIPES))
def test_a_transformer_by_a_recipe(recipe, tmp_path, capsys):
    steps = 40 if recipe == "gpt2" else 2
    arguments = [
        f"--recipe={recipe}", "--layers=2", "--width=32", "--length=16",
        "--batch-size=8", f"--steps={steps}", f"--out={tmp_path}",
    ]  # fmt: skip
    assert transformer.main(arguments) == 0
    losses = json.loads((tmp_path / "results.json").read_text())["losses"]
    assert len(losses) == steps and np.isfinite(losses).all()
    if recipe == "gpt2":
        assert np.mean(losses[-5:]) < losses[0] - 1
    text = capsys.readouterr().out
    assert "params/Block_0/Dense_1/kernel" in text and "total" in text
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"
