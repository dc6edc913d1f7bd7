"""The benchmark at small size: its table, its numbers, its figure."""

import json
import re
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import (
    _cases,
    _model_report,
    _report,
    _timing,
    importing,
    large,
    models,
    probe,
    start_parts,
    sweep,
    tables,
    watch,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_quick(tmp_path, capsys):
    folders = ["--out", str(tmp_path), "--docs", str(tmp_path)]
    assert benchmarks.main(["--quick", "--backend", "cpu", *folders]) == 0
    report = json.loads((tmp_path / "results.json").read_text())
    assert report["environment"]["backend"] == "cpu"
    kinds = {row["what"] for row in report["rows"]}
    assert {"draw", "eager call", "compile", "import"} <= kinds
    for row in report["rows"]:
        assert set(row["seconds"]) > ({"jax"} if "jax" in row["seconds"] else {"jinit"})
        for timing in row["seconds"].values():
            assert 0 < timing["low"] <= timing["median"] <= timing["high"]
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"
    page = (tmp_path / "speed.md").read_text()
    parts = ("draws", "small", "seeds", "compile")
    assert [page.count(f"<!-- part: {name} -->") for name in parts] == [1] * 4
    for cell in (
        "truncated normal, 256 x 256, bfloat16",
        "uniform, 4 seeds of 64 x 64",
    ):
        assert f"\n| {cell} | " in page
    assert "<svg" in (tmp_path / "speed.svg").read_text()
    printed = capsys.readouterr().out
    assert "jax / jinit" in printed and "Memory beside the result" in printed
    for row in report["memory"]:
        size = np.prod(row["shape"]) * jnp.dtype(row["dtype"]).itemsize
        assert row["result"] == size
        assert row["beside"] <= 64 << 20


def test_memory_of_large_draws():
    rows = _cases.memory([(2048, 2048), (16384, 4096)])
    assert {row["result"] for row in rows} == {2**23, 2**24, 2**27, 2**28}
    assert max(row["beside"] for row in rows) <= 64 << 20


def test_a_backend_that_is_not_there():
    platforms = jax.config.jax_platforms
    try:
        with pytest.raises(SystemExit, match="`--backend` is tpu, but JAX uses cpu"):
            benchmarks._choose("tpu")
    finally:
        jax.config.update("jax_platforms", platforms)


def test_calls_take_turns():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    timings = _timing.interleaved(calls, rounds=3)
    assert "".join(order) == "abc" * 4
    assert set(timings) == set("abc")


def test_the_median_is_that_of_the_rounds():
    waits = iter([0.0, 0.001, 0.03, 0.002])
    timing = _timing.interleaved({"x": lambda: time.sleep(next(waits))}, rounds=3)["x"]
    assert 0.002 <= timing.median < 0.02 < timing.high + 0.005


def test_ratio_says_how_many_times_faster():
    row = {"seconds": {"jinit": {"median": 0.5}, "jax": {"median": 2.0}}}
    assert _report.ratio(row, "jax", "jinit") == pytest.approx(4.0)
    assert _report.ratio(row, "torch", "jinit") is None


def test_starting_models(tmp_path, capsys, monkeypatch):
    # In the processes that it starts, as here: the times are not what is tested.
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    folders = ["--out", str(tmp_path), "--docs", str(tmp_path)]
    assert models.main(["--quick", *folders]) == 0
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert {"materialize", "plan", "jit", "eager"} <= {row["how"] for row in rows}
    ours = {(row["model"], row["bytes"]) for row in rows if row["how"] != "torch"}
    # A model, a whole state, and stacked layers; all ways draw the same arrays.
    assert len(ours) == len({row["model"] for row in rows}) == 3
    for row in rows:
        assert row["seconds"] > 0 and row["again"] > 0
        is_one = row["how"] == "draw"
        assert row["largest"] == row["bytes"] if is_one else row["largest"] > 0
        assert is_one or row["largest"] < row["bytes"]
    assert "materialize" in capsys.readouterr().out
    page = (tmp_path / "models.md").read_text()
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + len(rows)
    assert "<svg" in (tmp_path / "models.svg").read_text()


def test_the_asked_bounds_of_starts():
    def row(model, how, seconds, again, **facts):
        about = {"model": model, "how": how, "seconds": seconds, "again": again}
        return about | {"bytes": 10**9, "peak_above_parameters": None} | facts

    small = {"layers": 96, "width": 256, "bytes": 10**8}
    rows = [
        row("96 layers", "materialize", 1.6, 0.2, **small),
        row("large", "materialize", 3.0, 2.6),
        row("large", "draw", 2.5, 2.1),
        row("large", "torch", 2.5, 2.5),
    ]
    met = {bound.what: bound.met for bound in _model_report.bounds(rows)}
    assert met == {
        "96 layers: materialize, seconds": False,
        "large: another key, materialize / draw": True,
        "large: another key, materialize / torch": False,
    }


def test_a_large_model_beside_plain_draws(capsys):
    with jax.numpy_rank_promotion("allow"):
        assert large.main(["--quick", "--rounds=1", "--dtype", "float32"]) == 0
    lines = [line.split("│") for line in capsys.readouterr().out.splitlines()]
    ratios = {cells[1].strip(): float(cells[-2]) for cells in lines if len(cells) > 2}
    assert ratios.pop("jinit.materialize") == 1
    assert {"jinit.random.normal", "jax.jit(jax.random.normal)"} <= ratios.keys()
    assert min(ratios.values()) > 0


def test_the_parts_of_a_start(capsys):
    # The model of the benchmark adds positions to every row.
    with jax.numpy_rank_promotion("allow"):
        assert start_parts.main(["--quick", "--profile"]) == 0
    out = capsys.readouterr().out
    assert "the trace of the forward pass alone" in out and "flax" in out


def test_the_cost_of_a_probe(tmp_path, capsys):
    assert probe.main(["--quick", "probe", "nnx.probe", f"--docs={tmp_path}"]) == 0
    page = (tmp_path / "diagnosis.md").read_text()
    assert (
        len(re.findall(r"^\| (nnx\.)?probe \| .* s \| .* ms \| 1 \| ", page, re.M)) == 2
    )
    rows = re.findall(
        r"^ *(probe|nnx.probe) +([\d.]+) s +([\d.]+) s +([\d.]+) +([\d.]+) ms "
        r"+([\d.]+) ms +(\d) +([\d.]+)", capsys.readouterr().out, re.M
    )  # fmt: skip
    assert {name: int(models) for name, *_, models, _ in rows} == {
        "probe": 1, "nnx.probe": 1,
    }  # fmt: skip
    for _, compilation, first, ratio, one, later, _, passes in rows:
        assert float(ratio) == pytest.approx(float(first) / float(compilation), rel=0.2)
        assert float(passes) == pytest.approx(float(later) / float(one), rel=0.3)
        # A later call compiles nothing.
        assert float(later) < 1e3 * float(first) / 3


def test_the_cost_of_an_import(tmp_path, capsys):
    assert importing.main(["--quick", f"--docs={tmp_path}"]) == 0
    assert "Medians of 1 rounds. Measured: 2" in (tmp_path / "speed.md").read_text()
    printed = capsys.readouterr().out
    milliseconds = {
        name: [float(number) for number in re.findall(r"-?\d+\.\d", line)]
        for name in importing.CODES
        for line in printed.splitlines()
        if line.startswith(f"│ {name} ")
    }
    assert set(milliseconds) == set(importing.CODES)
    # Loading everything takes longer than loading nothing, on any machine.
    inside = {name: times[-1] for name, times in milliseconds.items()}
    assert inside["import jax"] < inside["import jinit"] < inside["every name"]


def test_the_cost_of_a_watch(tmp_path, capsys):
    assert watch.main(["--quick", "perceptron", f"--docs={tmp_path}"]) == 0
    page = (tmp_path / "diagnosis.md").read_text()
    assert "\n| perceptron | adamw | 25,450 | " in page
    row = re.search(
        r"perceptron +([\d,]+) +([\d.]+) ms +([+-][\d.]+%) +([+-][\d.]+%)",
        capsys.readouterr().out,
    )
    # A layer of 784 inputs and 32 units, and one of ten classes.
    assert row and row[1] == "25,450"


def test_seeds_per_second(tmp_path, capsys):
    small = ["--quick", "--seeds=2", "--steps=2"]
    assert sweep.main([*small, f"--docs={tmp_path}"]) == 0
    rows = re.findall(
        r"^\| 2 seeds of 2 steps, devices: \d \| (.*?) \| [\d.]+ \| \**([\d.]+)",
        (tmp_path / "speed.md").read_text(), re.M,
    )  # fmt: skip
    assert dict(rows)["jinit.sweep"] == "1.00" and len(rows) >= 3
    assert "seeds per second" in capsys.readouterr().out


def test_the_time_of_a_table(tmp_path, capsys):
    assert tables.main(["--quick", f"--docs={tmp_path}"]) == 0
    assert "\n| 40 | 0." in (tmp_path / "speed.md").read_text()
    (row,) = re.findall(r"│ 40 +│ ([\d.]+) +│ ([\d.]+) +│", capsys.readouterr().out)
    assert 0 < float(row[0]) < 10 and 0 < float(row[1]) < 10


def test_an_unknown_model_is_an_error(capsys):
    with pytest.raises(SystemExit):
        models.main(["--quick", "--only", "3 layers"])
    assert "no model has '3 layers'" in capsys.readouterr().err
