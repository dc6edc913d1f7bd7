"""Gains against closed forms, scipy's quadrature, and JAX's derivatives."""

import functools
import itertools
import json
import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import jinit
from jinit import gain, slope_at_zero, theory
from jinit._scale import activations
from jinit._scale.activations import ACTIVATIONS
from jinit._scale.gains import _jax_function

E = math.e
PHI = stats.norm.cdf
PI = math.pi
SELU, ALPHA = 1.0507009873554805, 1.6732632423543772

# E f^2 and E f'^2 where they are known: METHODS and papers, derived by hand.
CLOSED = [
    ("identity", None, 1.0, 1.0),
    ("relu", None, 0.5, 0.5),
    ("leaky_relu", 0.3, (1 + 0.09) / 2, (1 + 0.09) / 2),
    ("prelu", None, (1 + 0.0625) / 2, (1 + 0.0625) / 2),
    ("gelu", None, 1 / 3 + 0.5 / (3**0.5 * PI), 1 / 3 + 2 / (3 * 3**0.5 * PI)),
    ("elu", None, 1 + E**2 * PHI(-2) - 2 * E**0.5 * PHI(-1), 0.5 + E**2 * PHI(-2)),
    ("selu", None, 1.0, SELU**2 * (0.5 + ALPHA**2 * E**2 * PHI(-2))),
    ("erf", None, 2 / PI * math.asin(2 / 3), 4 / PI / math.sqrt(5)),
    ("sin", None, (1 - math.exp(-2)) / 2, (1 + math.exp(-2)) / 2),
]  # fmt: skip


@pytest.mark.parametrize("name, param, forward, backward", CLOSED)
def test_closed_forms(name, param, forward, backward):
    assert gain(name, param=param) == pytest.approx(forward**-0.5, rel=1e-11)
    found = gain(name, param=param, direction="backward")
    assert found == pytest.approx(backward**-0.5, rel=1e-11)


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_name_agrees_with_scipy(name, direction):
    entry = ACTIVATIONS[name]
    settings = () if entry.param is None else (entry.param,)
    f = entry.f if direction == "forward" else entry.df

    def integrand(z):
        return float(f(np.float64(z), *settings)) ** 2 * stats.norm.pdf(z)

    edges = sorted({-12.0, *entry.kinks, 12.0})
    moment = sum(
        integrate.quad(integrand, a, b, limit=400, epsabs=1e-13)[0]
        for a, b in itertools.pairwise(edges)
    )
    assert gain(name, direction=direction) == pytest.approx(moment**-0.5, rel=1e-9)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_name_is_jax_s_function(name, x64):
    entry = ACTIVATIONS[name]
    settings = () if entry.param is None else (entry.param,)
    function = _jax_function(name, entry.param)
    # Off the kinks, where a derivative is what it is.
    z = np.linspace(-5.03, 7.02, 97)
    np.testing.assert_allclose(
        entry.f(z, *settings), jax.vmap(function)(z), rtol=1e-12, atol=1e-13
    )
    derivative = jax.vmap(jax.grad(function))(z)
    np.testing.assert_allclose(
        entry.df(z, *settings), derivative, rtol=1e-11, atol=1e-12
    )


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(
    "function, name",
    [
        (jax.nn.relu, "relu"),
        (jax.nn.gelu, "gelu_tanh"),
        (functools.partial(jax.nn.gelu, approximate=False), "gelu"),
        (lambda x: x * jax.nn.sigmoid(x), "silu"),
        (lambda x: jnp.where(x > 0, x, 0.01 * x), "leaky_relu"),
        (lambda x: jnp.clip(x, -1, 1), "hard_tanh"),
        (jnp.tanh, "tanh"),
    ],
)
def test_functions_agree_with_names(function, name, direction):
    found = gain(function, direction=direction)
    assert found == pytest.approx(gain(name, direction=direction), rel=1e-8)


def shifted_relu_moment(c):
    """E max(z - c, 0)^2 = (1 + c^2) Phi(-c) - c phi(c)."""
    return (1 + c * c) * PHI(-c) - c * stats.norm.pdf(c)


@pytest.mark.parametrize("c", [0.37, -1.234567, 2.9])
def test_kinks_and_jumps_anywhere(c):
    shifted = lambda x: jnp.maximum(x - c, 0)  # noqa: E731
    expected = shifted_relu_moment(c) ** -0.5
    assert gain(shifted) == pytest.approx(expected, rel=1e-8)
    # f' jumps at c: E f'^2 = Phi(-c).
    assert gain(shifted, direction="backward") == pytest.approx(
        PHI(-c) ** -0.5, rel=1e-8
    )


@pytest.mark.parametrize("w", [1.0, 7.3, 50.0, 300.0])
def test_fast_sines(w):
    moment = (1 - math.exp(-2 * w * w)) / 2
    assert gain(lambda x: jnp.sin(w * x)) == pytest.approx(moment**-0.5, rel=1e-8)


def test_plain_python_and_numpy_functions():
    assert gain(np.tanh) == pytest.approx(gain("tanh"), rel=1e-9)
    assert gain(lambda x: max(x, 0.0)) == pytest.approx(math.sqrt(2), rel=1e-9)
    with pytest.raises(ValueError, match="cannot be differentiated"):
        gain(np.tanh, direction="backward")


def test_a_function_that_computes_in_float32():
    found = gain(lambda x: jnp.tanh(x.astype(jnp.float32)))
    assert found == pytest.approx(gain("tanh"), rel=1e-6)


def test_functions_that_do_not_hash():
    class Scaled:
        __hash__ = None

        def __call__(self, x):
            return 2 * jnp.tanh(x)

    assert gain(Scaled()) == pytest.approx(gain("tanh") / 2, rel=1e-9)


def test_inside_a_program_and_under_x64(x64):
    def program(x):
        return x * gain(lambda z: jnp.tanh(1.5 * z)) * slope_at_zero("gelu")

    outside = gain(lambda z: jnp.tanh(1.5 * z)) * 0.5
    assert float(jax.jit(program)(1.0)) == pytest.approx(outside, rel=1e-12)
    assert float(jax.vmap(program)(jnp.ones(3))[0]) == pytest.approx(outside, rel=1e-12)


def test_gates_take_the_gain_of_their_activation():
    for gate, name in activations.GATES.items():
        assert gain(gate) == gain(name)
        with pytest.raises(ValueError, match="no single backward gain"):
            gain(gate, direction="backward")


def test_torch_convention():
    table = {
        "linear": 1.0, "conv2d": 1.0, "sigmoid": 1.0, "tanh": 5 / 3,
        "relu": 2**0.5, "selu": 0.75, "leaky_relu": (2 / (1 + 1e-4)) ** 0.5,
    }  # fmt: skip
    for name, value in table.items():
        assert gain(name, convention="torch") == value
    assert gain("leaky_relu", param=1.0, convention="torch") == 1.0
    with pytest.raises(ValueError, match="knows only 'linear'.*convention='exact'"):
        gain("gelu", convention="torch")
    with pytest.raises(ValueError, match="knows only"):
        gain(jnp.tanh, convention="torch")


def test_torch_convention_is_torch_s():
    torch = pytest.importorskip("torch", reason="torch is an extra: jinit[bench]")
    for name in ("linear", "conv3d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        expected = torch.nn.init.calculate_gain(name)
        assert gain(name, convention="torch") == pytest.approx(expected, rel=1e-12)


SLOPES = [
    ("relu", 0.0), ("leaky_relu", 1.0), ("identity", 1.0), ("tanh", 1.0),
    ("sigmoid", 0.25), ("gelu", 0.5), ("silu", 0.5), ("elu", 1.0), ("softplus", 0.5),
    (jax.nn.relu, 0.0), (lambda x: jnp.maximum(x, 0), 0.5), (jnp.sin, 1.0),
]  # fmt: skip


@pytest.mark.parametrize("activation, slope", SLOPES)
def test_slope_at_zero(activation, slope):
    assert slope_at_zero(activation) == slope
    assert jax.jit(lambda x: x * slope_at_zero(activation))(2.0) == 2 * slope


ERRORS = [
    (lambda: gain("gleu"), ValueError, "'gleu'.*Did you mean"),
    (lambda: gain(3), TypeError, "a name such as 'relu'"),
    (lambda: gain("relu", param=0.1), ValueError, "takes none; it is for 'leaky_relu'"),
    (lambda: gain(jnp.tanh, param=0.1), ValueError, "functools.partial"),
    (lambda: gain("leaky_relu", param=math.nan), ValueError, "finite"),
    (lambda: gain("celu", param=0), ValueError, "must not be 0"),
    (lambda: gain("relu", direction="up"), ValueError, "`direction` is 'up'"),
    (lambda: gain("relu", convention="keras"), ValueError, "`convention` is 'keras'"),
    (lambda: gain(lambda x: 0 * x), ValueError, "zero for every input"),
    (lambda: gain(jnp.sign, direction="backward"), ValueError, "zero for every input"),
    (lambda: gain(jnp.log), ValueError, "not finite at -"),
    (lambda: gain(lambda x: jnp.exp(x * x)), ValueError, "grows so fast"),
    (lambda: gain(lambda x: jnp.sin(1e6 * x)), ValueError, "oscillates too fast"),
    (
        lambda: gain(np.float32),
        TypeError,
        "is the class float32; it must be a function",
    ),
    (lambda: gain(jax.nn.softmax), ValueError, "scalar to a scalar"),
    (lambda: gain(lambda x: jnp.stack([x, x])), ValueError, r"gives shape \(2,\)"),
    (lambda: slope_at_zero("gleu"), ValueError, "Did you mean"),
    (lambda: slope_at_zero(3), TypeError, "a name such as"),
    (lambda: slope_at_zero(np.tanh), ValueError, "cannot be differentiated"),
    (lambda: slope_at_zero(jnp.sqrt), ValueError, "slope inf at 0"),
]


@pytest.mark.parametrize("call, error, text", ERRORS)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_schemes_use_the_gain_of_the_direction():
    init = jinit.kaiming("tanh", mode="fan_out")
    assert init.std((5, 100)) == pytest.approx(gain("tanh", direction="backward") / 10)


def test_a_slope_is_part_of_a_value():
    leaky = ("leaky_relu", 0.2)
    bound = functools.partial(jax.nn.leaky_relu, negative_slope=0.2)
    shape = 100, 20
    for activation in (leaky, list(leaky), bound):
        assert gain(activation) == gain("leaky_relu", param=0.2)
        assert gain(activation) ** 2 == pytest.approx(2 / 1.04)
        init = jinit.kaiming(activation)
        assert init.std(shape) == pytest.approx((2 / 1.04 / 100) ** 0.5)
        # Equal, hashable, printable, and rebuilt from plain data.
        assert init == jinit.kaiming(leaky) and hash(init) == hash(jinit.kaiming(leaky))
        assert repr(init) == "jinit.kaiming(activation=('leaky_relu', 0.2))"
        config = json.loads(json.dumps(jinit.to_config(init)))
        assert jinit.from_config(config) == init
        assert pickle.loads(pickle.dumps(init)) == init
        assert jinit.lecun(gain=activation) == jinit.lecun(gain=leaky)
        assert jinit.lecun(gain=activation).std(shape) == pytest.approx(init.std(shape))
    assert init != jinit.kaiming(("leaky_relu", 0.3))
    assert gain(leaky, convention="torch") == pytest.approx((2 / 1.04) ** 0.5)
    assert gain(leaky, direction="backward") ** 2 == pytest.approx(2 / 1.04)
    assert slope_at_zero(("elu", 0.5)) == slope_at_zero("elu", param=0.5)
    exact_gelu = functools.partial(jax.nn.gelu, approximate=False)
    assert jinit.kaiming(exact_gelu) == jinit.kaiming("gelu")


def test_a_slope_in_theory():
    at = theory.critical(("leaky_relu", 0.5))
    assert at.sigma_w2 == pytest.approx(2 / 1.25)
    kernel, _ = jinit.critical(("leaky_relu", 0.5))
    assert kernel.std((100, 100)) == pytest.approx((2 / 1.25 / 100) ** 0.5)


@pytest.mark.parametrize("activation, text", [
    (("relu", 0.2), "takes none; it is for 'leaky_relu'"),
    (("leaky_relu",), "a pair must be a name and its parameter"),
    (("leaky_relu", 0.2, 1), "a pair must be a name and its parameter"),
    ((0.2, "leaky_relu"), "a pair must be a name and its parameter"),
    (("leaky_rleu", 0.2), "Did you mean 'leaky_relu'"),
    (("leaky_relu", math.nan), "`param` is nan"),
    (("celu", 0.0), "must not be 0"),
])  # fmt: skip
def test_pairs_that_are_no_activations(activation, text):
    for use in (gain, slope_at_zero, jinit.kaiming, lambda a: jinit.lecun(gain=a)):
        with pytest.raises(ValueError, match=text):
            use(activation)
    with pytest.raises(ValueError, match="takes none"):
        gain(("leaky_relu", 0.2), param=0.2)
