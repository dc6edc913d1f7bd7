"""Rates that transfer, at small size: the direction of each claim, with a margin."""

import json
import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks.mup import __main__ as benchmark
from benchmarks.mup import _studies, _transfer
from examples import mup_transfer

pytestmark = pytest.mark.usefixtures("quick_compilation")


def quick(name, images):
    """Return the measurements of a small run, by muP and by the standard."""
    study = _studies.STUDIES[name](True, images)
    result = _transfer.run(study)
    assert isinstance(result.figure, Figure) and len(result.figure.axes) == 2
    json.dumps(result.to_dict(), allow_nan=False)
    return result.measured[study.rule], result.measured["standard"]


@pytest.mark.slow
def test_the_rate_of_a_narrow_transformer_serves_a_wide_one(images):
    ours, standard = quick("transformer", images)
    assert abs(ours["move"]) < 1 and all(ours["inside"])
    assert standard["move"] < -1.2
    assert ours["transferred"][1] < standard["transferred"][1] - 0.1
    assert ours["transferred"][1] < ours["transferred"][0]


@pytest.mark.slow
def test_the_rate_of_a_shallow_network_serves_a_deep_one(images):
    ours, standard = quick("depth", images)
    assert abs(ours["move"]) < 0.7 and all(ours["inside"])
    assert standard["move"] < -1
    assert ours["transferred"][1] < 0.8 * standard["transferred"][1]


def test_the_command_writes_a_table_a_verdict_and_a_figure(tmp_path, capsys):
    assert benchmark.main(["perceptron", "--quick", f"--out={tmp_path}"]) == 0
    report = json.loads((tmp_path / "results.json").read_text())
    assert report["quick"] and report["data"] == "digits"
    record = report["perceptron"]
    ours, standard = (record["measured"][name] for name in ("muP", "standard"))
    assert abs(ours["move"]) < 1 and standard["move"] < -1.5
    assert ours["transferred"][1] < 0.7 * standard["transferred"][1]
    assert ours["score"][0] == standard["score"][0]
    assert record["checks"] and record["seconds"] > 0
    assert (tmp_path / "perceptron.png").read_bytes()[:4] == b"\x89PNG"
    text = capsys.readouterr().out
    assert "muP: at" in text and "standard: the best rate moves" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", _studies.STUDIES)
def test_full_size(name, images):
    result = _transfer.run(_studies.STUDIES[name](False, images))
    assert result.reproduced == "yes", result.outcome


def test_the_smallest_is_trained_alike_with_the_parametrization_and_without(images):
    for make in _studies.STUDIES.values():
        study = make(True, images)
        first, last = (study.infer(size) for size in study.sizes)
        assert first.is_noop and not last.is_noop
        assert study.standard(study.sizes[1]).is_noop


def study_of(images):
    return _studies.perceptron(True, images)._replace(
        exponents=range(-8, -3), sizes=(32, 64, 128)
    )


def losses(centre, study):
    """Of one seed: a parabola in the logarithms, least at a rate of 2^centre."""
    return np.exp([(np.array(study.exponents) - centre) ** 2])


def test_the_best_rate_is_the_least_of_a_parabola(images):
    study = study_of(images)
    least = _transfer.best(study, losses(-5.75, study))
    assert least.exponent == pytest.approx(-5.75) and least.inside
    level = _transfer.best(study, np.ones((1, 5)))
    assert level.exponent == -8 and not level.inside
    assert _transfer.best(study, losses(-3, study))[::2] == (-4, False)
    broken = losses(-6, study)
    broken[:, 3:] = math.inf
    assert _transfer.best(study, broken)[::2] == (-6, True)


@pytest.mark.parametrize(
    "ours, standard, held",
    [
        ((-6, -5.5, -5.4), (-6, -7, -8.5), [True, True]),
        ((-6, -7, -7.1), (-6, -7, -7.4), [False, False]),
        # At the edge of the grid nobody knows where the least is.
        ((-4, -4, -4), (-6, -5, -4), [False, True]),
    ],
)
def test_the_verdict_is_that_of_the_numbers(images, ours, standard, held):
    study = study_of(images)
    measured = {}
    for name, centres in (("muP", ours), ("standard", standard)):
        rows = [{"score": losses(centre, study)} for centre in centres]
        bests = [_transfer.best(study, row["score"]) for row in rows]
        measured[name] = {
            "move": _transfer.moved(bests),
            "inside": [best.inside for best in bests],
            "transferred": _transfer.transferred(study, rows),
        }
    checks = list(_transfer.checks(study, measured).values())
    assert checks[:2] == held


def test_what_diverged_is_infinitely_bad():
    scores = mup_transfer.score([[[1.0, 2.0], [1.0, math.nan]]])
    assert scores.tolist() == [[1.5, math.inf]]


def test_what_cannot_be_used_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["resnet"])
    assert "transformer, depth" in capsys.readouterr().err
    arguments = ["--data=mnist", f"--data-dir={tmp_path}", f"--out={tmp_path}/out"]
    assert benchmark.main(arguments) == 2
    assert "--data-dir" in capsys.readouterr().out


def test_the_example_s_wide_network_takes_the_narrow_one_s_rate(tmp_path, capsys):
    small = ["--narrow=32", "--wide=256", "--steps=50", "--seeds=1"]
    assert mup_transfer.main([*small, f"--out={tmp_path}"]) == 0
    rows = json.loads((tmp_path / "results.json").read_text())
    narrow, mup, standard, tuned = rows
    assert mup["rate"] == standard["rate"] == narrow["rate"] > 3 * tuned["rate"]
    assert mup["loss"] < min(0.8 * standard["loss"], narrow["loss"])
    assert mup["loss"] < 1.4 * tuned["loss"]
    assert mup["runs"] == 1 and tuned["runs"] == len(mup_transfer.EXPONENTS)
    assert "tuned" in capsys.readouterr().out
    assert (tmp_path / "figure.png").stat().st_size > 1000
