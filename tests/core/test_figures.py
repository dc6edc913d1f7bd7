"""Figures name their layers, mark the sick ones, and lose no value."""

import itertools

import numpy as np
import pytest

from jinit._core import figures
from jinit._core.figures import Line
from jinit._core.results import Finding


def finding(category, path):
    return Finding(category, path, 1.0, "It is so.")


def boxes(labels):
    return [label.get_window_extent() for label in labels]


@pytest.mark.parametrize("count", [1, 3, 12, 96, 400])
def test_names_do_not_overlap_and_sick_layers_are_always_named(count):
    paths = [f"encoder/block_{i}/attention/query" for i in range(count)]
    figure, (axes,) = figures.figure_of(1, count)
    figures.curves(axes, [Line("rms", np.linspace(1, 2, count))], log=True)
    sick = sorted({count // 3, count - 1})
    figures.name_layers(axes, paths, sick)
    figure.draw_without_rendering()
    labels = axes.get_xticklabels()
    edges = boxes(labels)
    assert all(a.x1 <= b.x0 for a, b in itertools.pairwise(edges))
    places = dict(zip(axes.get_xticks(), labels, strict=True))
    for place in sick:
        assert places[place].get_color() == figures.SICK
        # A long path keeps its beginning and its end.
        assert places[place].get_text().endswith("attention/query"[-12:])
    if count <= 96:
        assert len(labels) == count
    assert figure.get_figwidth() <= 18


def test_zero_and_infinity_have_ticks_of_their_own_on_a_logarithmic_axis():
    values = np.array([1.0, 0.0, np.inf, np.nan, 1e-3])
    figure, (axes,) = figures.figure_of(1, len(values))
    figures.curves(axes, [Line("rms", values)], log=True)
    drawn = axes.lines[0].get_ydata()
    figure.draw_without_rendering()
    ticks = [label.get_text() for label in axes.get_yticklabels()]
    places = dict(zip(ticks, axes.get_yticks(), strict=True))
    assert drawn[1] == places["0"] < 1e-3 and drawn[2] == places["inf"] > 1
    assert np.isnan(drawn[3]) and [drawn[0], drawn[4]] == [1.0, 1e-3]
    assert "$10^{-3}$" in ticks


def test_a_line_of_zeros_is_drawn():
    _, (axes,) = figures.figure_of(1, 3)
    figures.curves(axes, [Line("rms", np.zeros(3))], log=True)
    assert (axes.lines[0].get_ydata() > 0).all()


def test_equal_lines_are_one_line_with_both_names():
    one = np.array([1e-12, 2e-12])
    lines = [Line("he", one), Line("lecun", one * 2), Line("again", one * 1.0001)]
    _, (axes,) = figures.figure_of(1, 2)
    figures.curves(axes, lines, log=True)
    assert [line.get_label() for line in axes.lines] == ["he = again", "lecun"]


def test_a_healthy_signal_looks_flat():
    _, (axes,) = figures.figure_of(1, 3)
    figures.curves(axes, [Line("rms", np.array([1.0, 1.2, 0.9]))], log=True)
    low, high = axes.get_ylim()
    assert high / low >= 99


def test_marks_have_a_text_each_and_hide_no_curve():
    values = np.geomspace(1, 1e6, 40)
    figure, (axes,) = figures.figure_of(1, 40)
    figures.curves(axes, [Line("rms", values)], log=True)
    paths = [f"layer_{i}/kernel" for i in range(40)]
    sick = [finding("dead", "layer_3"), finding("signal grows", "layer_39/kernel")]
    marks = figures.marks_of([*sick, finding("zero", "layer_3/kernel")], paths)
    assert marks == {3: "dead, zero", 39: "signal grows"}
    figures.name_layers(axes, paths, list(marks))
    figures.mark(axes, marks)
    figure.draw_without_rendering()
    assert [text.get_text() for text in axes.texts] == ["dead, zero", "signal grows"]
    peak = axes.transData.transform((39, values[-1]))[1]
    assert all(box.y0 > peak for box in boxes(axes.texts))
    assert all(box.x1 < figure.bbox.x1 for box in boxes(axes.texts))


def test_a_title_says_the_first_finding():
    assert figures.headline([], "healthy") == "healthy"
    two = [finding("dead", "up"), finding("zero", "down")]
    assert figures.headline(two[:1], "") == "dead: up"
    assert figures.headline(two, "") == "dead: up, and 1 more finding"


@pytest.mark.parametrize(
    ("path", "place"),
    [("a", 0), ("a/kernel", 0), ("b", 1), ("c/w", 3), ("layers/ab", None), ("x", None)],
)
def test_a_finding_is_placed_at_its_layer_or_the_first_step(path, place):
    paths = ["a", "b[0]", "b[1]", "c", "layers/abc"]
    assert figures.place_of(path, paths) == place


def test_the_legend_stands_beside_the_curves():
    figure, (axes,) = figures.figure_of(1, 5)
    figures.curves(axes, [Line("one", np.ones(5)), Line("two", np.arange(1.0, 6.0))])
    figures.legend(axes)
    figure.draw_without_rendering()
    (box,) = boxes([axes.get_legend()])
    inner = axes.get_window_extent()
    assert box.x0 >= inner.x1 and box.x1 <= figure.bbox.x1
