"""The densities of the gallery are those of the draws below them."""

import jax
import numpy as np
import pytest

import jinit
from examples import _densities, _figures, gallery
from jinit._core import figures

X = np.linspace(-8, 8, 160_001)
# Schemes whose law has a formula.
NAMES = [
    name for name in jinit.registry
    if gallery.init_or_none(name) is not None
    and _densities.law_of(name, gallery.init_or_none(name))
]  # fmt: skip


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
