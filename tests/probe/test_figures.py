"""Figures of comparisons and audits say their finding, and explain their bands."""

import numpy as np

from jinit._probe import figures


def rows(sizes):
    rest = {"dead": 0.0, "saturation": 0.0, "cosine": 0.0}
    return [{"path": f"Dense_{i}", "rms": size, "grad_rms": 2 * size, **rest}
            for i, size in enumerate(sizes)]  # fmt: skip


def test_the_title_of_a_comparison_groups_schemes_by_verdict():
    reports = {
        "he": [rows([1, 1.1]), rows([1, 0.9])],
        "kaiming": [rows([1, 1.1]), rows([1, 0.9])],
        "lecun": [rows([1, 0.1]), rows([1, 0.2])],
        "zeros": [rows([0, 0]), rows([0, 0])],
    }
    words = {"he": "healthy", "lecun": "signal shrinks (2/2)", "kaiming": "healthy",
             "zeros": "zero (2/2)"}  # fmt: skip
    figure = figures.of_comparison(reports, dict.fromkeys(reports, ()), words)
    assert figure.get_suptitle() == (
        "Healthy: he, kaiming; signal shrinks (2/2): lecun; zero (2/2): zeros"
    )
    for axes in figure.axes:
        names = [text.get_text() for text in axes.texts]
        assert names == ["he = kaiming", "lecun", "zeros"]
        assert "exactly 0" in [label.get_text() for label in axes.get_yticklabels()]
    below = figure.axes[1].get_xlabel()
    assert "lines: medians of 2 seeds; bands: the least to the largest" in below


def test_a_line_has_one_colour_in_all_panels_of_a_comparison():
    one, other = rows([1, 2]), rows([1, 3])
    for row in other:
        row["grad_rms"] = one[0]["grad_rms"]
    for row in one:
        row["grad_rms"] = one[0]["grad_rms"]
    last = rows([5, 6])
    reports = {"a": [one], "b": [other], "c": [last]}
    figure = figures.of_comparison(
        reports, dict.fromkeys(reports, ()), dict.fromkeys(reports, "healthy")
    )
    colours = [
        {line.get_label(): line.get_color() for line in axes.lines}
        for axes in figure.axes
    ]
    assert "a = b" in colours[1] and colours[0]["c"] == colours[1]["c"]


def test_the_band_of_an_audit_is_explained():
    ratios = (1, 1.5, 9)
    drawn = [{"path": f"{i}/kernel", "ratio": x} for i, x in enumerate(ratios)]
    figure = figures.of_audit([*drawn, {"path": "bias", "ratio": None}], [])
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["2 times", "keeps the signal", "half"]
    assert figure.get_suptitle().replace("\n", " ") == (
        "No finding in 4 parameters: 2 of 3 kernels have 1/2 to 2 times the std that "
        "keeps the signal"
    )
    assert np.isclose(figure.axes[0].lines[0].get_ydata()[2], 9)
