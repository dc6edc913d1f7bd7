"""The examples at small size, as a user would start them."""

import json
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from examples import copy_task, diagnose, gallery, sharded_init, transformer, watch
from tests.support.counting import count_compilations
from tests.support.meshes import make_mesh
from tests.support.repository import ROOT
from tests.support.split import slow_unless

pytestmark = pytest.mark.usefixtures("quick_compilation")

SMALL = ["--layers=1", "--width=64"]


@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.slow), 2])
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
    mesh = make_mesh((8,))
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    whole = {"w": jnp.arange(16.0)}
    parts = jax.device_put(whole, place)
    assert sharded_init._equal(parts, whole)
    assert not sharded_init._equal(parts, {"w": whole["w"].at[15].set(0)})


# One that trains, one with scales of its own, and one whose laws depend on fans.
SOME = [("gpt2",), ("t_fixup",), ("torch_defaults",)]


@pytest.mark.parametrize(
    ("recipe",), slow_unless(SOME, [(name,) for name in transformer.RECIPES])
)
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


def test_the_copy_task_at_small_size(tmp_path, capsys):
    small = ["--lag=3", "--length=2", "--units=8", "--batch-size=4", "--seeds=2"]
    assert copy_task.main([*small, "--steps=4", f"--out={tmp_path}"]) == 0
    assert "guessing costs 2.08" in capsys.readouterr().out
    record = json.loads((tmp_path / "results.json").read_text())
    assert set(record) == {"zero", "unit forget", "chrono"}
    # Two seeds and three kinds of biases are six different networks.
    assert len({loss for losses in record.values() for loss in losses}) == 6
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_the_copy_task_asks_for_what_it_showed():
    tokens, shown = copy_task.sequences(jax.random.key(0), 3, 4, 5)
    assert tokens.shape == (3, 13) and (tokens[:, :4] == shown).all()
    assert (tokens[:, 4:9] == copy_task.BLANK).all()
    assert (tokens[:, 9] == copy_task.SIGN).all()


def test_the_gallery_draws_what_is_asked_for(tmp_path, capsys):
    out = tmp_path / "gallery.png"
    some = ["--schemes", "orthogonal", "icnr", "ssm.hippo_legs"]
    assert gallery.main([f"--out={out}", "--dpi=20", *some]) == 0
    assert "3 schemes" in capsys.readouterr().out and out.stat().st_size > 1000
    assert gallery.main(["--schemes", "orthogonol"]) == 2


def test_the_gallery_s_samples_have_the_std_that_is_promised():
    drawn = {
        name: (array, std) for name, array, std in gallery.samples(jax.random.key(1))
    }
    assert set(drawn) == set(gallery.jinit.registry)
    for name, (array, std) in drawn.items():
        assert np.isfinite(array).all(), name
        if std and array.size > 1000 and name not in ("uniform", "truncated_normal"):
            assert abs(np.std(array) / std - 1) < 0.12, name


def test_a_network_is_diagnosed_and_mended(tmp_path):
    small = ["--width=64", "--steps=60", "--depth=20"]
    assert diagnose.main([*small, f"--out={tmp_path}"]) == 0
    record = json.loads((tmp_path / "results.json").read_text())
    sick, mended = record["Flax's default"], record["jinit.he()"]
    assert "the signal shrinks" in sick["verdict"][0]
    assert not any("the signal" in words for words in mended["verdict"])
    assert abs(sick["loss"] - np.log(10)) < 0.05 and mended["loss"] < 1.5
    assert (tmp_path / "figure.png").stat().st_size > 1000


def test_a_training_is_watched_and_mended(tmp_path, capsys, monkeypatch):
    compilations, probe = [], jinit.probe

    def counted(*args, **kwargs):
        with count_compilations() as count:
            report = probe(*args, **kwargs)
        compilations.append(count())
        return report

    monkeypatch.setattr(jinit, "probe", counted)
    small = ["--width=64", "--depth=3", "--steps=200", "--probe-every=10"]
    assert watch.main([*small, f"--out={tmp_path}"]) == 0
    record = json.loads((tmp_path / "results.json").read_text())
    rising, bounded = record["rising"], record["bounded"]
    # The finding comes before the loss doubles, and the mended run has none. Rounding
    # decides whether the loss of the other run doubles within these steps.
    assert rising["finding"] and rising["step"] < (rising["doubled"] or 200)
    assert bounded["step"] is None and bounded["losses"][-1] < 0.5
    assert min(rising["losses"][-20:]) > max(bounded["losses"][-20:])
    # The first probe compiles, and those beside the training do not.
    assert len(bounded["probes"]) == 20
    assert compilations[0] > 0 and sum(compilations[-20:]) == 0
    assert "the rate is bounded" in capsys.readouterr().out
    assert (tmp_path / "figure.png").stat().st_size > 1000
