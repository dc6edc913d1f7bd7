"""Hyperfan: generated weights have the variance of weights that are drawn."""

import jax
import numpy as np
import pytest

import jinit

KEY = jax.random.key(6)


def generated(init, shape, embedding=32, std=1.0):
    """The weights that a head makes of embeddings of a standard deviation."""
    keys = jax.random.split(KEY, 200)

    def weights(key):
        of_head, of_embedding = jax.random.split(key)
        head = init(of_head, (embedding, int(np.prod(shape))))
        h = std * jax.random.normal(of_embedding, (embedding,))
        return (h @ head).reshape(shape)

    return np.asarray(jax.vmap(weights)(keys), np.float64)


@pytest.mark.parametrize(
    ("make", "numerator", "fan"),
    [
        (jinit.hyperfan_in, 2, 50),
        (jinit.hyperfan_out, 2, 20),
        (lambda s: jinit.hyperfan_in(s, relu=False), 1, 50),
        (lambda s: jinit.hyperfan_in(s, bias=True), 1, 50),
    ],
)
def test_generated_weights_have_he_s_variance(make, numerator, fan):
    w = generated(make((50, 20)), (50, 20))
    # One embedding scales a whole kernel: 200 draws of a chi-squared of 32.
    error = 5 * np.sqrt(2 / 32 / 200)
    assert np.mean(w**2) * fan == pytest.approx(numerator, rel=error)
    assert np.mean(w**2) * (70 - fan) != pytest.approx(numerator, rel=error)


@pytest.mark.parametrize("make", [jinit.hyperfan_in, jinit.hyperfan_out])
def test_the_variance_of_the_embedding_is_made_good(make):
    shape, fan = (3, 3, 4, 8), 9 * (4 if make is jinit.hyperfan_in else 8)
    error = 5 * np.sqrt(2 / 32 / 200)
    w = generated(make(shape, embedding_variance=9.0), shape, std=3.0)
    assert np.mean(w**2) * fan == pytest.approx(2, rel=error)
    # Its standard deviation, or nothing, in place of its variance.
    for wrong in (3.0, 1.0):
        w = generated(make(shape, embedding_variance=wrong), shape, std=3.0)
        assert np.mean(w**2) * fan != pytest.approx(2, rel=error)


def test_a_bias_has_the_other_half_whether_it_is_said_or_not():
    assert jinit.hyperfan_in((20,)).std((32, 20)) ** 2 * 32 == pytest.approx(1)
    said = jinit.hyperfan_in((20,), bias=True)
    assert said.std((32, 20)) == jinit.hyperfan_in((20,)).std((32, 20))


def test_a_generated_relu_layer_keeps_the_signal_with_its_bias():
    x = np.random.default_rng(0).normal(size=(50,))
    w = generated(jinit.hyperfan_in((50, 20), bias=True), (50, 20))
    b = generated(jinit.hyperfan_in((20,), bias=True), (20,))
    z = np.einsum("i,nio->no", x / np.sqrt(np.mean(x**2)), w) + b
    # Half of 2 from the weights, half from the bias: behind relu 1.
    assert np.mean(np.maximum(z, 0) ** 2) == pytest.approx(1, rel=0.15)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: jinit.hyperfan_out((20,)), ValueError, "jinit.zeros"),
        (lambda: jinit.hyperfan_in((3, 0)), ValueError, "generates nothing"),
        (lambda: jinit.hyperfan_in((3, 4), relu=1), TypeError, "True or False"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
