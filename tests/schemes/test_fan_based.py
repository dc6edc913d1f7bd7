"""The article's schemes: formulas, fans, gains, and what they are for."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from tests.support import laws

SHAPE = (300, 500)
# By hand, from the formulas of the papers.
FORMULAS = [
    (jinit.xavier(), SHAPE, math.sqrt(2 / 800)),
    (jinit.xavier(gain=2.0), SHAPE, 2 * math.sqrt(2 / 800)),
    (jinit.xavier(gain="relu"), SHAPE, math.sqrt(2) * math.sqrt(2 / 800)),
    (jinit.xavier(gain=jnp.tanh), SHAPE, 1.5925374197 * math.sqrt(2 / 800)),
    (jinit.xavier(layout="kkio"), (3, 3, 16, 32), math.sqrt(2 / (9 * 48))),
    (jinit.xavier(layout="oikk"), (32, 16, 3, 3), math.sqrt(2 / (9 * 48))),
    (jinit.xavier(layout="ioo"), (512, 8, 64), math.sqrt(2 / 1024)),
    (jinit.xavier(groups=128), (3, 3, 1, 128), math.sqrt(2 / 18)),
    (jinit.xavier(fan_in=7, fan_out=9), (5,), math.sqrt(2 / 16)),
    (jinit.xavier(fan_out=100), (300, 500), math.sqrt(2 / 400)),
    (jinit.he(), SHAPE, math.sqrt(2 / 300)),
    (jinit.he(mode="fan_out"), SHAPE, math.sqrt(2 / 500)),
    (jinit.he(mode="fan_avg"), SHAPE, math.sqrt(2 / 400)),
    (jinit.he(mode="fan_geo_avg"), SHAPE, math.sqrt(2 / math.sqrt(150_000))),
    (jinit.he(fan_in=50), (7,), 0.2),
    (jinit.he(layout="bio"), (12, 300, 500), math.sqrt(2 / 300)),
    (jinit.he(in_axis=1, out_axis=0), SHAPE, math.sqrt(2 / 500)),
    (jinit.lecun(), SHAPE, math.sqrt(1 / 300)),
    (jinit.lecun(gain="gelu"), SHAPE, 1.5335304412 * math.sqrt(1 / 300)),
    (jinit.kaiming(), SHAPE, math.sqrt(2 / 300)),
    (jinit.kaiming("tanh"), SHAPE, 1.5925374197 / math.sqrt(300)),
    (jinit.kaiming("tanh", mode="fan_out"), SHAPE, 1.4674135915 / math.sqrt(500)),
    (jinit.kaiming(jax.nn.silu), SHAPE, 1.6765324703 / math.sqrt(300)),
    (jinit.kaiming("tanh", rule="slope_at_zero"), SHAPE, math.sqrt(2 / 301)),
    (jinit.kaiming("gelu", rule="slope_at_zero"), SHAPE, math.sqrt(2 / 300.5)),
    (jinit.kaiming("relu", rule="slope_at_zero"), SHAPE, math.sqrt(2 / 300)),
]


@pytest.mark.parametrize("init, shape, std", FORMULAS, ids=lambda v: str(v))
def test_formula(init, shape, std):
    assert init.std(shape) == pytest.approx(std, rel=1e-7)


@pytest.mark.parametrize("distribution", ["normal", "truncated_normal", "uniform"])
@pytest.mark.parametrize("maker", [jinit.xavier, jinit.he, jinit.kaiming, jinit.lecun])
def test_every_distribution_has_the_std(maker, distribution, key):
    init = maker(distribution=distribution)
    std = init.std(SHAPE)
    law = {
        "normal": laws.normal(std),
        "truncated_normal": laws.truncated(std),
        "uniform": laws.uniform(-std * 3**0.5, std * 3**0.5),
    }[distribution]
    laws.assert_law(init(key, SHAPE), law)
    with pytest.raises(AssertionError):
        # The law of the transposed kernel, whose fans are swapped or its fan wrong.
        wrong = init.std(SHAPE[::-1]) if maker is not jinit.xavier else std * 1.1
        laws.assert_moments(init(key, SHAPE), 0.0, wrong, 3.0)


@pytest.mark.parametrize("distribution", ["normal", "truncated_normal", "uniform"])
def test_complex_draws_have_the_variance(distribution, key):
    x = np.asarray(jinit.lecun(distribution=distribution)(key, SHAPE, "complex64"))
    power = np.abs(x.astype(np.complex128)) ** 2
    error = power.std() / math.sqrt(power.size)
    assert abs(power.mean() - 1 / 300) < 5 * error
    assert abs(x.mean()) < 5 * math.sqrt(1 / 300 / x.size)


def test_jax_s_complex_truncated_law_is_too_wide(key):
    """Its correction lacks a division by the mass; jinit's short names have it."""
    x = np.asarray(jinit.lecun_normal()(key, SHAPE, "complex64"))
    power = np.abs(x.astype(np.complex128)) ** 2
    error = power.std() / math.sqrt(power.size)
    assert abs(power.mean() - 1 / (1 - math.exp(-4)) / 300) < 5 * error
    assert abs(power.mean() - 1 / 300) > 5 * error


def test_the_two_rules_of_kaiming_agree_for_relu(key):
    for activation in ("relu", jax.nn.relu):
        gain = jinit.kaiming(activation)
        slope = jinit.kaiming(activation, rule="slope_at_zero")
        for fan in range(1, 400):
            assert gain.std((fan, 3)) == slope.std((fan, 3)) == jinit.he().std((fan, 3))
        np.testing.assert_array_equal(gain(key, SHAPE), slope(key, SHAPE))


def test_the_rules_differ_by_gain_over_root_two_for_others():
    ratio = jinit.kaiming("silu").std((4096, 8)) / jinit.kaiming(
        "silu", rule="slope_at_zero"
    ).std((4096, 8))
    assert ratio == pytest.approx(jinit.gain("silu") / math.sqrt(2), rel=1e-3)


def test_a_batch_axis_draws_each_copy_with_its_own_fans(key):
    stack = jinit.he(layout="bio")(key, (6, 300, 50))
    for layer in stack:
        laws.assert_law(layer, laws.normal(math.sqrt(2 / 300)))


@pytest.mark.parametrize("name", ["relu", "gelu", "silu", "tanh", "elu"])
def test_kaiming_keeps_the_signal_of_one_layer(name, key):
    """Behind a unit Gaussian, E[(f(z) W)^2] is 1: that is what the gain is for."""
    width, rows = 2000, 400
    f = {"tanh": jnp.tanh}.get(name) or getattr(jax.nn, name)
    z = jax.random.normal(key, (rows, width))
    w = jinit.kaiming(f)(jax.random.fold_in(key, 1), (width, width))
    out = np.asarray(f(z) @ w, np.float64)
    # Rows share W, units share z: the means of either are independent samples.
    per_unit = (out**2).mean(axis=0)
    spread = per_unit.std() / math.sqrt(width) + (out**2).mean(
        axis=1
    ).std() / math.sqrt(rows)
    assert abs((out**2).mean() - 1) < 5 * spread


def test_thirty_relu_layers(key):
    """He keeps the size of the signal; Xavier loses 2^-15 of it (He et al., 2015)."""
    width, depth = 512, 30

    def rms(init):
        h = jax.random.normal(key, (64, width))
        for i in range(depth):
            h = jax.nn.relu(h @ init(jax.random.fold_in(key, i), (width, width)))
        # After relu half of the mean square of the pre-activations is left.
        return math.log2(float(jnp.sqrt(2 * jnp.mean(h**2))))

    # Hanin and Rolnick 2018: log of the mean square has variance about 5 depth / width.
    spread = 5 * math.sqrt(5 * depth / width) / 2 / math.log(2)
    assert abs(rms(jinit.he())) < spread
    # Xavier loses a factor of two of the mean square in each layer.
    assert abs(rms(jinit.xavier()) + depth / 2) < spread


def test_empty_fans_give_empty_arrays(key):
    for init in (jinit.xavier(), jinit.he(), jinit.kaiming("tanh"), jinit.he_normal()):
        assert init(key, (0, 5)).shape == (0, 5)
        assert init(key, (5, 0)).shape == (5, 0)
    assert jinit.he().std((0, 5)) is None


def test_explicit_fans_serve_any_shape(key):
    assert jinit.lecun(fan_in=64)(key, (10,)).shape == (10,)
    assert jinit.xavier(fan_in=3, fan_out=4)(key, ()).shape == ()


BAD = [
    (lambda: jinit.he(mode="fan_inn"), ValueError, "'fan_inn'.*Did you mean 'fan_in'"),
    (lambda: jinit.he(distribution="gauss"), ValueError, "`distribution` is 'gauss'"),
    (lambda: jinit.kaiming("gleu"), ValueError, "mean .*'gelu'"),
    (lambda: jinit.kaiming(rule="slope"), ValueError, "'slope_at_zero'"),
    (lambda: jinit.kaiming(3), TypeError, "a name such as 'relu'"),
    (lambda: jinit.xavier(gain=-1.0), ValueError, "`gain` is -1.0.*at least 0"),
    (lambda: jinit.xavier(gain=math.nan), ValueError, "finite"),
    (lambda: jinit.xavier(gain="rleu"), ValueError, "Did you mean 'relu'"),
    (lambda: jinit.he(fan_in=0), ValueError, "`fan_in` is 0; it must be 1 or more"),
    (lambda: jinit.he(fan_in=2.5), TypeError, "`fan_in` is 2.5"),
    (lambda: jinit.he(gian=2), TypeError, "gian"),
    (lambda: jinit.he(in_axis="i"), TypeError, "`in_axis` is 'i'"),
    (lambda: jinit.variance_scaling(-1, "fan_in", "normal"), ValueError, "at least 0"),
    (lambda: jinit.variance_scaling(math.nan, "fan_in", "normal"), ValueError, "nan"),
    (lambda: jinit.variance_scaling("2", "fan_in", "normal"), TypeError, "real number"),
    (lambda: jinit.variance_scaling(1, "in", "normal"), ValueError, "`mode` is 'in'"),
    (lambda: jinit.variance_scaling(1, "fan_in", "nrmal"), ValueError, "mean 'normal'"),
    (lambda: jinit.normal(-1), ValueError, "`stddev` is -1.*at least 0"),
    (
        lambda: jinit.truncated_normal(1, None, 2, -2),
        ValueError,
        "`lower` must be less",
    ),
    (
        lambda: jinit.normal(dtype="float99"),
        TypeError,
        "'float99', which names no type",
    ),
    (lambda: jinit.constant("a"), TypeError, "number or an array of numbers"),
    (lambda: jinit.orthogonal(method="svd"), ValueError, "`method` is 'svd'"),
    (lambda: jinit.xavier() * "2", TypeError, "`factor` is '2'"),
    (lambda: jinit.get("xaver"), ValueError, "Did you mean 'xavier'"),
    (
        lambda: jinit.get(jinit.he(), mode="fan_out"),
        TypeError,
        r"no settings: \['mode'\]",
    ),
    (lambda: jinit.from_config({"nam": "he"}), ValueError, "must have a 'name'"),
    (lambda: jinit.from_config("he"), TypeError, "a dict with a 'name'"),
    (
        lambda: jinit.to_config(jax.nn.initializers.he_normal()),
        TypeError,
        "jinit's own",
    ),
    (lambda: jinit.to_config(jinit.kaiming(lambda x: x)), ValueError, "cannot name"),
]

BAD_CALLS = [
    (lambda k: jinit.he()(k, (5,)), ValueError, "too few to tell inputs from outputs"),
    (lambda k: jinit.he_normal()(k, (5,)), ValueError, "too few"),
    (lambda k: jinit.he_normal()(k, ()), ValueError, "too few"),
    (lambda k: jinit.he(layout="kkio")(k, (3, 5)), ValueError, "DenseGeneral"),
    (lambda k: jinit.he(layout="ix")(k, (3, 5)), ValueError, "'x' has no meaning"),
    (lambda k: jinit.he(in_axis=0, out_axis=0)(k, (3, 5)), ValueError, "name axis 0"),
    (lambda k: jinit.he(in_axis=4)(k, (3, 5)), ValueError, r"has 2 axes.*\[-2, 1\]"),
    (lambda k: jinit.he_normal(in_axis=4)(k, (3, 5)), ValueError, "has 2 axes"),
    (lambda k: jinit.he(groups=3)(k, (3, 5)), ValueError, "does not divide the 5"),
    (lambda k: jinit.he()(k, (3, 5), "int32"), TypeError, "`dtype` is int32"),
    (lambda k: jinit.uniform()(k, (3,), "complex64"), TypeError, "a real one"),
    (lambda k: jinit.he()(jax.random.split(k), (3, 5)), ValueError, "batch of keys"),
    (lambda k: jinit.he()(7, (3, 5)), TypeError, "`key` is 7"),
    (lambda k: jinit.he()(k, (3, -5)), ValueError, "dimension -5 is negative"),
    (lambda k: jinit.he()(k, (3, 5.0)), TypeError, "5.0 is not an integer"),
    (lambda k: jinit.he()(k, (3, True)), TypeError, "True is not an integer"),
    (lambda k: jinit.orthogonal()(k, (3,)), ValueError, "needs at least two"),
    (lambda k: jinit.orthogonal(1.0, 5)(k, (3, 4)), ValueError, "`column_axis` is 5"),
    (lambda k: jinit.delta_orthogonal()(k, (3, 4)), ValueError, "3, 4 or 5 axes"),
    (lambda k: jinit.constant((1, 2, 3))(k, (2,)), ValueError, "does not broadcast"),
]  # fmt: skip


@pytest.mark.parametrize("make, error, text", BAD)
def test_a_wrong_setting_is_the_maker_s_error(make, error, text):
    with pytest.raises(error, match=text):
        make()


@pytest.mark.parametrize("call, error, text", BAD_CALLS)
def test_a_wrong_shape_or_key_is_the_call_s_error(call, error, text, key):
    with pytest.raises(error, match=text):
        call(key)


def test_scaled_uniform_is_torch_s_default(key):
    assert jinit.scaled_uniform().std((300, 7)) == pytest.approx(1 / 30)
    w = jinit.scaled_uniform()(key, (300, 400))
    limit = 300**-0.5
    laws.assert_law(w, laws.uniform(-limit, limit))
    with pytest.raises(AssertionError):  # the fan of the other side
        laws.assert_law(w, laws.uniform(-(400**-0.5), 400**-0.5))
    with pytest.raises(ValueError, match="fan"):
        jinit.scaled_uniform()(key, (300,))
    b = jinit.scaled_uniform(fan_in=300)(key, (50_000,))
    laws.assert_law(b, laws.uniform(-limit, limit))
