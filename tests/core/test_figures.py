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
    zero, infinity = (places[name] for name in figures.NAMES)
    assert drawn[1] == zero < 1e-3 and drawn[2] == infinity > 1
    assert np.isnan(drawn[3]) and [drawn[0], drawn[4]] == [1.0, 1e-3]
    assert "$10^{-3}$" in ticks
    # Hollow triangles point to both.
    triangles = {line.get_marker(): line.get_ydata()[0] for line in axes.lines[1:3]}
    assert triangles == {"v": zero, "^": infinity}


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
    message = "up reads 0.5 (usual: 1 (or 2)), where 1 is usual. up is first. Try he()."
    two = [Finding("dead", "up", 0.5, message), finding("zero", "down")]
    sentence = "up reads 0.5, where 1 is usual"
    assert figures.headline(two[:1], "") == sentence
    assert figures.headline(two, "") == f"{sentence} (and 1 more finding)"
    assert figures.headline(two, "", "It halves") == "It halves (and 1 more finding)"
    # A sentence begins with a capital letter, and a path keeps its own.
    assert figures.statement(Finding("x", "a", 1.0, "the end is 1.5.")) == (
        "The end is 1.5"
    )
    long = Finding("x", "", 1.0, f"Two layers differ: {'very ' * 60}much.")
    assert figures.statement(long) == "Two layers differ"


@pytest.mark.parametrize(
    ("path", "place"),
    [("a", 0), ("a/kernel", 0), ("b", 1), ("c/w", 3), ("layers/ab", None), ("x", None)],
)
def test_a_finding_is_placed_at_its_layer_or_the_first_step(path, place):
    paths = ["a", "b[0]", "b[1]", "c", "layers/abc"]
    assert figures.place_of(path, paths) == place


@pytest.mark.parametrize("ends", [(1, 1, 1, 1), (1, 9, 5, 5.1), (3,), (1, np.nan)])
def test_names_stand_beside_the_ends_of_curves_and_do_not_overlap(ends):
    figure, (axes,) = figures.figure_of(1, 5)
    values = [
        np.array([1.0, 2.0, 3.0, 2.0 + number, x]) for number, x in enumerate(ends)
    ]
    names = [f"curve {number}" for number in range(len(ends))]
    figures.curves(axes, [Line(*pair) for pair in zip(names, values, strict=True)])
    figures.label_ends(axes)
    figure.draw_without_rendering()
    assert [text.get_text() for text in axes.texts] == names
    edges = boxes_of_words(axes.texts)
    for one, other in itertools.combinations(edges, 2):
        assert one.y1 <= other.y0 or other.y1 <= one.y0
    inner = axes.get_window_extent()
    assert all(box.x0 >= inner.x1 and box.x1 <= figure.bbox.x1 for box in edges)
    assert all(box.y0 >= inner.y0 - 4 and box.y1 <= inner.y1 + 4 for box in edges)
    # The names are in the order of the ends.
    for (one, low), (other, high) in itertools.permutations(
        zip(ends, edges, strict=True), 2
    ):
        assert not (one < other) or low.y0 < high.y0


def test_a_name_of_a_curve_that_leaves_its_panel_stands_at_the_edge():
    figure, (axes,) = figures.figure_of(1, 5)
    figures.curves(axes, [Line("curve", np.array([1.0, 2.0, 3.0, 4.0, 1e9]))])
    axes.set_ylim(1, 10)
    figures.label_ends(axes)
    # A line to the last point left no room for the panel, and Matplotlib warned.
    figure.draw_without_rendering()
    (text,) = axes.texts
    assert text.xy[1] == pytest.approx(10)
    assert axes.get_position().width > 0.5


def boxes_of_words(texts):
    """Return the boxes of annotations without their lines."""
    from matplotlib.text import Text

    return [Text.get_window_extent(text) for text in texts]


def test_more_names_than_have_room_are_a_legend_beside_the_curves():
    _, (axes,) = figures.figure_of(1, 5)
    names = [f"curve {number}" for number in range(40)]
    figures.curves(axes, [Line(name, np.arange(5) * len(name) + i)
                          for i, name in enumerate(names)])  # fmt: skip
    figures.label_ends(axes)
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == names and not axes.texts


def test_a_legend_of_marks_stands_beside_them_and_zeros_have_a_place():
    figure, (axes,) = figures.figure_of(1, 3)
    columns = {"weights": np.array([1.0, 0.5, np.nan]), "updates": np.zeros(3)}
    figures.dots(axes, columns, (0.1,))
    figures.legend(axes)
    figure.draw_without_rendering()
    (box,) = boxes([axes.get_legend()])
    inner = axes.get_window_extent()
    assert box.x0 >= inner.x1 and box.x1 <= figure.bbox.x1
    # Tensors have no order, so no line joins them.
    assert {line.get_linestyle() for line in axes.lines[:2]} == {"None"}
    places = dict(zip([x.get_text() for x in axes.get_yticklabels()],
                      axes.get_yticks(), strict=True))  # fmt: skip
    assert 0 < places["exactly 0"] < 0.1 < axes.get_ylim()[1]
    assert (axes.lines[-2].get_ydata() == places["exactly 0"]).all()


@pytest.mark.parametrize(("low", "high"), [(1.4, 2.3), (0.9, 9.5), (1e-9, 1e9)])
def test_ticks_of_a_logarithmic_axis_are_short_numbers(low, high):
    _, (axes,) = figures.figure_of(1, 1)
    axes.set(yscale="log", ylim=(low, high))
    figures.log_ticks(axes)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) >= 3 and all(len(x.strip("$")) <= 8 for x in labels)
    assert all(low * 0.99 <= x <= high * 1.01 for x in axes.get_yticks())


def luminance(color):
    channels = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    low, high = channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
    return np.where(channels <= 0.04045, low, high)


# Viénot, Brettel and Mollon 1999: what is left of (r, g, b) without the long or the
# middle cones, in linear RGB.
SIGHTS = {
    "usual": np.eye(3),
    "protanope": [[0.1124, 0.8876, 0], [0.1124, 0.8876, 0], [0.0040, -0.0040, 1]],
    "deuteranope": [[0.2928, 0.7072, 0], [0.2928, 0.7072, 0], [-0.0223, 0.0223, 1]],
}


@pytest.mark.parametrize("sight", SIGHTS)
def test_colours_can_be_told_apart_and_are_seen_on_white_and_on_black(sight):
    colours = {name: luminance(name) for name in (*figures.PALETTE, figures.SICK)}
    for one, other in itertools.combinations(colours.values(), 2):
        apart = np.asarray(SIGHTS[sight]) @ (one - other)
        # 0.1 of the range of a linear channel.
        assert np.abs(apart).max() > 0.1, (one, other)
    for color in colours.values():
        bright = color @ (0.2126, 0.7152, 0.0722)
        on_white, on_black = 1.05 / (bright + 0.05), (bright + 0.05) / 0.05
        assert on_white > 2.2 and on_black > 3.9


def test_a_figure_of_a_dark_style_has_light_ink():
    import matplotlib as mpl

    with mpl.rc_context({"text.color": "white", "axes.facecolor": "black"}):
        figure, (axes,) = figures.figure_of(1, 2)
        figures.curves(axes, [Line("one", np.ones(2)), Line("two", np.arange(2.0))])
        figures.mark(axes, {1: "dead"})
        figures.title(figure, "It is so")
        figures.label_ends(axes)
    assert figure._suptitle.get_color() == "white"
    names = [text for text in axes.texts if text.get_text() in ("one", "two")]
    assert [text.get_color() for text in names] == ["white", "white"]
    (mark,) = [text for text in axes.texts if text.get_text() == "dead"]
    assert mark.get_bbox_patch().get_facecolor()[:3] == (0, 0, 0)
    # A panel without a colour has no box: with an alpha of its own it would be black.
    axes.set_facecolor("none")
    assert figures.boxed(axes) is None
