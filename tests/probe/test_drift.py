"""The title of a probe's figure says how fast a signal drifts, and from where on."""

import numpy as np
import pytest

from jinit._core.results import Finding
from jinit._probe import drift
from jinit._probe.figures import of_report

NAMES = [f"Dense_{i}" for i in range(10)]


def rows(sizes):
    """Return the rows of layers, each with a relu behind it that halves its size."""
    result = []
    for name, size in zip(NAMES, sizes, strict=False):
        result += [
            {"path": name, "rms": size},
            {"path": f"relu_{name}", "rms": size / 2},
        ]
    rest = dict.fromkeys(("grad_rms", "dead", "saturation", "cosine"), 0.5)
    return [{**rest, **row} for row in result]


KERNELS = [{"path": f"params/{name}/kernel", "shape": (4, 4)} for name in NAMES]


@pytest.mark.parametrize(
    ("logs", "category", "sentence"),
    [
        (
            [0, 0, 0, -1, -2, -3, -4], "signal shrinks",
            "The signal halves in every layer from Dense_3 on (rms 1 to 0.062)",
        ),
        (
            [0, -1, -2, -3.1, -4], "signal shrinks",
            "The signal halves in every layer (rms 1 to 0.062)",
        ),
        ([0, 1, 2, 3], "signal grows",
         "The signal doubles in every layer (rms 1 to 8)"),
        (
            [0, 0, 0, 2, 4, 6], "signal grows",
            "The signal grows by a factor of 4 in every layer from Dense_3 on "
            "(rms 1 to 64)",
        ),
        # The layers do not show what the finding says.
        ([0, 1, 2, 3], "signal shrinks", ""),
        ([0, 1], "signal grows", ""),
    ],
)  # fmt: skip
def test_the_sentence_has_the_factor_and_the_first_layer(logs, category, sentence):
    sizes = np.exp2(logs)
    assert drift.sentence(rows(sizes), KERNELS, category) == sentence


def test_noise_is_no_bend():
    noise = np.random.default_rng(0).normal(0, 0.1, 10)
    sizes = np.exp2(-np.arange(10) + noise)
    assert " from " not in drift.sentence(rows(sizes), KERNELS, "signal shrinks")


def test_a_layer_without_a_kernel_does_not_count_as_one():
    sizes = np.exp2(-np.arange(5.0))
    text = drift.sentence(rows(sizes), [], "signal shrinks")
    # Without the parameters, the two rows of a layer halve it and keep it in turn.
    assert text.startswith("The signal shrinks by a factor of 1.5 in every layer")


def test_the_figure_has_the_sentence_the_mark_and_the_names():
    one = Finding("signal shrinks", "Dense_3", 0.5, "the signal shrinks. Try he().")
    figure = of_report(rows(np.exp2([0, 0, 0, -1, -2, -3])), [one], KERNELS)
    assert figure.get_suptitle().startswith(
        "The signal halves in every layer from Dense_3"
    )
    assert [text.get_text() for text in figure.axes[0].texts] == ["signal shrinks"]
    names = {text.get_text() for text in figure.axes[2].texts}
    assert names == {"dead units = entries at the largest value = cosine of two inputs"}
    healthy = of_report(rows([1.0, 0.5]), [])
    assert healthy.get_suptitle() == (
        "No finding: the rms of the output is 0.25 to 1 in all 4 rows"
    )
