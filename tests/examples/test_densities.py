"""The densities of the gallery are those of the draws below them."""

import typing

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest

import jinit
from examples import _densities, _figures, gallery
from jinit._core import figures

X = np.linspace(-8, 8, 160_001)


def has_density(name):
    init, shape = gallery.init_or_none(name), gallery.SHAPES.get(name, gallery.DENSE)
    return bool(init and init.std(shape) and _densities.law_of(name, init))


# Schemes whose law has a formula.
NAMES = list(filter(has_density, jinit.registry))


def test_every_common_law_has_a_density():
    common = {"he", "he_normal", "normal", "orthogonal", "ngpt", "siren", "scaled"}
    assert common <= set(NAMES) and len(NAMES) > 25
    constants = {
        name for name in jinit.registry if jinit.registry[name].law == "constant"
    }
    assert not constants & set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_density_is_that_of_the_draws(name):
    init, shape = gallery.init_or_none(name), gallery.SHAPES.get(name, gallery.DENSE)
    array, std = np.asarray(init(jax.random.key(3), shape)), init.std(shape)
    density = _densities.density(name, init, array, std, X * std)
    cumulative = np.cumsum(density) * (X[1] - X[0]) * std
    np.testing.assert_allclose(cumulative[-1], 1, atol=1e-3)
    # An upsampled kernel repeats its entries, and np.unique sorts.
    drawn = np.unique(array)
    expected = np.interp(drawn, X * std, cumulative)
    n = len(drawn)
    distance = np.abs(expected - (np.arange(n) + 0.5) / n).max()
    # The limit of Kolmogorov and Smirnov at a failure rate of 1e-5.
    assert distance < 2.5 / np.sqrt(n), name


def test_the_examples_have_the_colours_of_the_library():
    assert (*figures.PALETTE, figures.SICK) == _figures.COLORS


class Report(typing.NamedTuple):
    rows: list


def test_the_figure_of_the_diagnosis_says_what_was_measured():
    def run(ratio, loss):
        rows = [{"path": f"Dense_{i}", "rms": ratio**i, "grad_rms": 1.0}
                for i in range(4)]  # fmt: skip
        return {"report": Report(rows), "losses": np.full(30, loss), "accuracy": 0.5}

    runs = {"default": run(0.1, 2.3), "he": run(1.0, 0.125)}
    figure = _figures.diagnosis(runs)
    assert figure.get_suptitle() == (
        "default keeps 1/1,000 of the signal, and the loss ends at 2.30; he keeps the "
        "signal, and the loss ends at 0.12"
    )
    names = [text.get_text() for text in figure.axes[2].texts]
    assert sorted(names) == ["default", "guessing: ln 10", "he"]
    assert figure.get_facecolor()[3] == 0
    plt.close(figure)
