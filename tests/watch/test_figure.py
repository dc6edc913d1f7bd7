"""The figure of a watch has a mark for each size, no lines, and the finding on top."""

import numpy as np

from jinit._core.results import Finding
from jinit._watch.figure import figure_of


def row(path, weight, gradient, update):
    ratio = update / weight if weight else None
    return {"path": path, "weight_rms": weight, "grad_rms": gradient,
            "update_rms": update, "update_ratio": ratio}  # fmt: skip


ROWS = [row("a/bias", 0.0, 1e-3, 1e-3), row("a/kernel", 0.1, 1e-2, 0.02),
        row("b/kernel", 0.2, 0.0, 0.0)]  # fmt: skip


def test_sizes_are_marks_with_readable_names():
    figure = figure_of(ROWS, [], 30)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["weights", "gradients", "updates"]
    for axes in figure.axes:
        marks = [line for line in axes.lines if line.get_label()[0] != "_"]
        assert {line.get_linestyle() for line in marks} == {"None"}
    assert figure.get_suptitle() == (
        "No finding in 3 tensors after 30 steps: an update is at most 0.2 of its weight"
    )
    # A tensor without a weight has no ratio, and an update of 0 stands at the foot.
    ratios = figure.axes[1].lines[0]
    ticks = dict(zip([x.get_text() for x in figure.axes[1].get_yticklabels()],
                     figure.axes[1].get_yticks(), strict=True))  # fmt: skip
    assert np.isnan(ratios.get_ydata()[0])
    assert ratios.get_ydata()[2] == ticks["exactly 0"]
    # The limit of what is usual is drawn, and says what it is.
    assert figure.axes[1].texts[0].get_text().startswith("fast: above 0.1")


def test_the_sick_tensor_is_marked_and_the_title_says_why():
    message = "b/kernel: the last 30 gradients were 0. Look for a cut in the graph."
    figure = figure_of(ROWS, [Finding("no_gradient", "b/kernel", 0.0, message)], 30)
    assert figure.get_suptitle() == "b/kernel: the last 30 gradients were 0"
    assert [text.get_text() for text in figure.axes[0].texts] == ["no gradient"]
