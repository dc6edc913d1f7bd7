"""Published results at small size: the direction of each claim, with a margin."""

import json
import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks.papers import __main__ as papers
from benchmarks.papers._result import Result, panels, plain

GUESS = math.log(10)


def quick(name, images):
    """The result of a small run, whose verdict agrees with its checks."""
    result = papers.experiment(name, True, images)
    assert isinstance(result.figure, Figure) and result.figure.axes
    json.dumps(result.to_dict(), allow_nan=False)
    return result


def test_he_trains_thirty_relu_layers_and_xavier_does_not(images):
    deep = quick("he_vs_xavier", images).measured["30 layers"]
    assert deep["he"]["loss"] < 1.2
    assert deep["xavier"]["loss"] == pytest.approx(GUESS, abs=0.02)
    # Of equal draws Xavier keeps 1 / sqrt(2) a layer; the first has fans 64 and 64.
    lost = deep["xavier"]["left"] - deep["he"]["left"]
    assert lost == pytest.approx(-15, abs=0.01)
    assert abs(deep["he"]["left"]) < 3


def assert_glorot_s_variances_by_layer(found):
    assert 2.7 < 1 / found["standard"]["factor"] < 3.5
    assert 0.8 < found["normalized"]["factor"] < 1.1
    assert 0.45 < found["standard"]["singular"] < 0.5
    assert 0.78 < found["normalized"]["singular"] < 8 / (3 * math.pi) + 0.01
    for scheme in found.values():
        assert 0.8 < scheme["level"] < 1.25


def test_deeper_networks_train_where_xi_c_is_larger(images):
    result = quick("edge_of_chaos", images)
    deepest = dict(
        zip(result.measured["sigma_w2"], result.measured["deepest"], strict=True)
    )
    assert deepest[1.0] < deepest[1.76] and deepest[4.0] < deepest[1.76]
    assert result.measured["correlation"] > 0.7


def test_spectra_follow_the_law_and_only_orthogonal_tanh_comes_to_isometry(images):
    rows = quick("isometry", images).measured["spectra"]
    assert max(row["off"] for row in rows) < 1
    gaussian, orthogonal = (
        [r["variance"] for r in rows
         if (r["activation"], r["weights"]) == ("relu", weights)]
        for weights in ("gaussian", "orthogonal")
    )  # fmt: skip
    assert all(a > 1.5 * b for a, b in zip(gaussian, orthogonal, strict=True))
    tanh = [row["variance"] for row in rows if row["activation"] == "tanh"]
    assert tanh[0] > 5 * tanh[1] > 25 * tanh[2] and tanh[2] < 0.05
    assert min(orthogonal) > 3


@pytest.mark.slow
def test_delta_orthogonal_convolutions_train_deep(images):
    loss = quick("delta_orthogonal", images).measured["loss"]
    assert loss["delta-orthogonal"] < 1.9
    assert loss["he"] > GUESS - 0.15 and loss["xavier"] > GUESS - 0.15


# By default tests/recipes/test_training.py has the claims of Fixup and DeepNorm.
@pytest.mark.slow
def test_a_step_changes_fixup_by_as_much_at_any_depth(images):
    found = quick("fixup", images).measured
    assert found["spread"] < 1.5
    assert 0.7 < found["growth"] < 1.2
    assert found["change"]["he"][1] > 1e6 * found["change"]["he"][0]


@pytest.mark.slow
def test_a_step_changes_deepnorm_by_as_much_at_any_depth(images):
    found = quick("deepnorm", images).measured
    assert found["spread"] < 1.3 and found["growth"] > 2
    ours, plain = (found["change"][name] for name in ("deepnorm", "post-LN"))
    assert 5 * max(ours) < min(plain)


def test_lsuv_holds_fifty_silu_layers_that_drift_without(images):
    found = quick("lsuv", images).measured
    assert abs(found["lsuv"] - 1).max() < 0.05
    assert abs(np.log10(found["gain"][:, -1])).max() > 1.5


def test_a_looks_linear_network_is_linear_and_trains(images):
    found = quick("looks_linear", images).measured
    assert found["nonlinearity"]["looks linear"] < 1e-5
    assert found["nonlinearity"]["he"] > 0.3
    assert found["loss"]["looks linear"] < 0.6 < 1.5 < found["loss"]["he"]


def test_sines_fit_an_image_that_relus_do_not(images):
    found = quick("siren", images).measured
    assert found["siren"]["psnr"] > 30 > 26 > found["relu"]["psnr"] > 10


def test_chrono_learns_to_copy_and_zero_biases_do_not(images):
    loss = quick("chrono", images).measured["loss"]
    assert loss["chrono"] < 1.4 < 1.9 < loss["zero"]


def test_batch_norm_multiplies_the_squared_gradient_whatever_the_kernels_are(images):
    found = quick("batch_norm", images).measured
    law = math.pi / (math.pi - 1)
    factors = found["factor"]
    assert factors["batch norm"] == pytest.approx(law, abs=0.06)
    tripled = factors["batch norm, kernels x 3"]
    assert tripled == pytest.approx(factors["batch norm"], rel=1e-3)
    assert factors["no norm"] == pytest.approx(1, abs=0.06)


def test_the_last_gradient_falls_with_depth_in_pre_norm_alone(images):
    slopes = quick("pre_norm", images).measured["slope"]
    assert slopes["pre-norm"] == pytest.approx(-0.5, abs=0.1)
    assert slopes["post-norm"] == pytest.approx(0, abs=0.1)


def test_attention_alone_comes_to_rank_one_by_the_third_power(images):
    found = quick("rank_collapse", images).measured
    assert abs(found["power"] - 3).max() < 0.05
    # Each layer loses more decades than the layers before it.
    assert (np.diff(found["ratio of logarithms"]) > 0).all()
    assert found["distance"]["attention alone"][:, 6].max() < 1e-13
    assert found["distance"]["with shortcuts"].min() > 0.5


def test_batch_norm_gives_the_branch_of_block_l_a_share_of_1_over_l_plus_1(images):
    shares = quick("branch_share", images).measured["shares"]
    ours = shares["batch norm"].mean(axis=0)
    law = 1 / (np.arange(len(ours)) + 2)
    assert abs(ours / law - 1).max() < 0.15
    assert shares["no norm"].mean() == pytest.approx(0.5, abs=0.05)


def test_orthogonal_linear_networks_learn_as_fast_at_any_depth(images):
    steps = quick("deep_linear", images).measured["steps"]
    shallow, deep = steps["orthogonal"]
    assert deep < 1.5 * shallow
    shallow, deep = steps["gaussian"]
    assert deep > 2 * shallow


def test_a_t5_head_of_std_1_starts_ten_times_above_guessing(images):
    loss = quick("t5_head", images).measured["loss"]
    # 4 standard errors of the logits of 64 labels, of std 27.7 and 1.
    assert loss["std 1"] == pytest.approx(114.4, abs=15)
    assert loss["jinit.recipes.t5"] == pytest.approx(math.log(32128) + 0.5, abs=0.5)


def test_heads_die_in_bfloat16_and_not_in_float32(images):
    result = quick("dead_heads", images)
    assert result.reproduced == "yes"
    dead = {name: counts.sum() for name, counts in result.measured["dead"].items()}
    # 96,000 heads: 375 in 256, 750 in 128, and 0.01 in 2^23, within 4 of their stds.
    assert dead["torch's draw"] == pytest.approx(375, abs=78)
    assert dead["jax.random's draw"] == pytest.approx(750, abs=110)
    assert dead["float32 first"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", papers.NAMES)
def test_full_size(name, images):
    """What is known not to reproduce in full stays known."""
    in_part = {
        "delta_orthogonal": ["Xavier's kernels do not train"],
        "looks_linear": ["He's network does not train"],
    }
    checks = papers.experiment(name, False, images).checks
    assert [c for c, held in checks.items() if not held] == in_part.get(name, [])


def test_the_verdict_is_that_of_the_checks():
    figure, _ = panels(["t"], ["x"], ["y"])
    verdicts = {
        (True, True): "yes", (True, False): "partly", (False, False): "no",
    }  # fmt: skip
    for held, verdict in verdicts.items():
        checks = {str(i): value for i, value in enumerate(held)}
        result = Result("p", "c", "f", {}, checks, figure)
        assert result.reproduced == result.to_dict()["reproduced"] == verdict


def test_what_is_not_finite_is_none_in_the_record():
    assert plain({"a": (math.inf, np.array([1.0, np.nan])), 2: np.float32(3)}) == {
        "a": [None, [1.0, None]], "2": 3.0,
    }  # fmt: skip


def test_the_command_writes_a_table_a_summary_and_figures(tmp_path, capsys):
    folders = [f"--out={tmp_path}", f"--docs={tmp_path}"]
    assert papers.main(["glorot", "--quick", *folders]) == 0
    report = json.loads((tmp_path / "results.json").read_text())
    assert report["quick"] and report["data"] == "digits"
    record = report["experiments"]["glorot"]
    assert record["reproduced"] == "yes" and record["seconds"] > 0
    assert_glorot_s_variances_by_layer(record["measured"])
    assert (tmp_path / "glorot.png").read_bytes()[:4] == b"\x89PNG"
    summary = (tmp_path / "summary.md").read_text()
    assert record["found"] in summary and "(glorot.png)" in summary
    text = capsys.readouterr().out
    assert "Bengio" in text and "yes" in text
    page = (tmp_path / "papers.md").read_text()
    assert f" {record['found']} | yes | a |" in page
    assert "Reproduced: 1 yes, of 1." in page


def test_an_experiment_that_cannot_run_is_reported(tmp_path, capsys, monkeypatch):
    def broken(name, quick, images):
        raise ValueError("no such thing")

    monkeypatch.setattr(papers, "experiment", broken)
    assert papers.main(["siren", "--quick", f"--out={tmp_path}"]) == 1
    record = json.loads((tmp_path / "results.json").read_text())["experiments"]["siren"]
    assert record == {"error": "ValueError: no such thing", "reproduced": "not run"}
    assert "no such thing" in capsys.readouterr().out


def test_what_cannot_be_used_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        papers.main(["schoenholz"])
    assert "edge_of_chaos" in capsys.readouterr().err
    arguments = ["--data=mnist", f"--data-dir={tmp_path}", f"--out={tmp_path}/out"]
    assert papers.main(arguments) == 2
    assert "--data-dir" in capsys.readouterr().out
