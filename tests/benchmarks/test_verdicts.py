"""The verdicts of `probe` are silent for healthy networks and name sick layers."""

import pytest

from benchmarks import verdicts

pytestmark = pytest.mark.usefixtures("quick_compilation")

ALL = verdicts.CHOSEN | verdicts.CLEAN
FAST = ("mlp, relu", "residual, pre-norm", "policy", "coordinates")
# The aims, over all networks: the measured shares are in benchmarks/README.md.
CAUGHT, RIGHT = 0.9, 0.8


def shares(architectures):
    """Return the false alarms, and the shares that are caught and named."""
    alarms, caught, right = [], [], []
    for name, architecture in architectures.items():
        for way, outcome in verdicts.outcomes_of(architecture).items():
            if way == "healthy":
                alarms += [(name, *finding[:2]) for finding in outcome.findings]
            else:
                caught.append(bool(outcome.findings))
                right.append(outcome.is_right)
    return alarms, sum(caught) / len(caught), sum(right) / len(right)


def test_a_few_architectures():
    alarms, caught, right = shares({name: ALL[name] for name in FAST})
    assert alarms == [] and caught >= CAUGHT and right >= RIGHT


@pytest.mark.slow
@pytest.mark.parametrize("half", [verdicts.CHOSEN, verdicts.CLEAN])
def test_all_architectures(half):
    alarms, caught, right = shares(half)
    assert alarms == [] and caught >= CAUGHT and right >= RIGHT


def test_the_table(tmp_path, capsys):
    assert verdicts.main(["coordinates", f"--docs={tmp_path}"]) == 0
    page = (tmp_path / "diagnosis.md").read_text()
    assert "\n| init x 3 | 1 | 1 | 1 |\n" in page
    assert "\n- wrong fans, set aside: coordinates (function as before)\n" in page
    assert page.index("| wrong fans |") < page.index("| spoiled in all |")
    text = capsys.readouterr().out
    assert "set aside" in text and "init x 3" in text and "healthy" in text
