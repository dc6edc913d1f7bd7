"""Advice for GELU and SiLU follows a measurement, and looks at what is there."""

import flax.linen as nn
import jax
import pytest

import jinit

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (32, 64))


def deep(activation, depth=30, norm=False):
    def make(init):
        layers = []
        for _ in range(depth):
            layers += [nn.Dense(64, kernel_init=init), activation]
            layers += [nn.LayerNorm()] * norm
        return nn.Sequential(layers)

    return make


def cure(activation, init):
    model = deep(activation)(init)
    verdict = jinit.probe(model, model.init(KEY, X), X).verdict
    (message,) = (one.message for one in verdict if one.category == "signal shrinks")
    return message.partition("Try ")[2]


@pytest.mark.parametrize("activation", [nn.gelu, nn.silu])
def test_nobody_who_has_he_is_told_to_try_he(activation):
    text = cure(activation, jinit.he())
    assert text.startswith("lsuv(), which") and "is near that of he()" in text


@pytest.mark.parametrize(
    ("activation", "best"),
    [
        (nn.gelu, "he(), orthogonal(gain('gelu')) or lsuv(): on digits"),
        (lambda x: nn.gelu(x, approximate=False), "he(), orthogonal(gain('gelu'))"),
        (nn.silu, "he() or lsuv(): on digits"),
    ],
)
def test_others_are_told_what_trained_best(activation, best):
    text = cure(activation, jinit.lecun())
    assert text.startswith(best) and "data_dependent()" in text.partition("trained")[2]
    # The layers are drawn by lecun(), so they keep the size of what they read.
    assert "The gain is" in text


def test_relu_is_advised_as_before():
    assert cure(nn.relu, jinit.lecun()).startswith("he(): the layers have a gain")


def relu_layers(between):
    """Return a network that changes the signal between its layers, without weights."""

    def model(p, x):
        for name in sorted(p):
            x = jax.nn.relu(between(x) @ p[name])
        return x

    return model


def params(init):
    return {f"w{i:02}": init(jax.random.fold_in(KEY, i), (64, 64)) for i in range(20)}


def test_weights_of_he_behind_a_padding_are_told_to_measure():
    def model(p, x):
        return jax.lax.scan(layer, x, p["hidden"])[0]

    def layer(x, kernel):
        axes = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=axes
        )
        return jax.nn.relu(x), None

    # Of the nine places of a window 25 / 4 lie on an image of 4 x 4.
    kernels = jinit.stacked(jinit.he())(KEY, (20, 3, 3, 8, 8))
    images = jax.random.normal(KEY, (16, 4, 4, 8))
    verdict = jinit.probe(model, {"hidden": kernels}, images).verdict
    (message,) = (one.message for one in verdict if one.category == "signal shrinks")
    assert "Try lsuv(), which measures: the kernels have the std of he()" in message


@pytest.mark.parametrize("scheme", ["lecun", "he"])
def test_a_sum_between_the_layers_is_not_answered_with_larger_weights(scheme):
    def with_neighbours(x):
        return x + sum(jax.numpy.roll(x, i, axis=0) for i in (1, 2, 3))

    weights = params(jinit.get(scheme))
    verdict = jinit.probe(relu_layers(with_neighbours), weights, X).verdict
    (message,) = (one.message for one in verdict if one.category == "signal grows")
    assert "Try lsuv()" in message and "Try he()" not in message


def test_a_comparison_of_a_deep_gelu_network_says_the_order():
    schemes = ["he", "lecun"]
    result = jinit.compare(deep(nn.gelu, 6), schemes, X, KEY)
    (note,) = result.notes
    assert "had learned most from he(), orthogonal(gain('gelu')) and lsuv()" in note
    assert f"- note: {note}" in str(result)
    for make in (deep(nn.relu, 6), deep(nn.gelu, 2), deep(nn.gelu, 6, norm=True)):
        assert jinit.compare(make, schemes, X, KEY).notes == ()
