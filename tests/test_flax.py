"""jinit inside Flax: Linen and NNX layers, and their own initializers replaced."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jinit
from tests import laws
from tests.cases import CASES

MAKERS = [jinit.xavier, jinit.he, jinit.kaiming, jinit.lecun, jinit.he_normal]


@pytest.mark.parametrize("maker", MAKERS)
def test_linen_layers(maker, key):
    init = maker()

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(32, (3, 3), kernel_init=init, bias_init=jinit.zeros)(x)
            x = x.reshape(x.shape[0], -1)
            return nn.Dense(64, kernel_init=init, param_dtype=jnp.bfloat16)(x)

    params = Network().init(key, jnp.ones((2, 8, 8, 16)))["params"]
    conv, dense = params["Conv_0"]["kernel"], params["Dense_0"]["kernel"]
    assert conv.shape == (3, 3, 16, 32) and dense.dtype == jnp.bfloat16
    for kernel in (conv, dense):
        kurtosis = 2.366 if maker is jinit.he_normal else 3.0
        laws.assert_moments(kernel, 0.0, init.std(kernel.shape), kurtosis)
    assert not params["Conv_0"]["bias"].any()


@pytest.mark.parametrize("maker", MAKERS)
def test_nnx_layers(maker):
    init = maker()
    layer = nnx.Linear(300, 200, kernel_init=init, rngs=nnx.Rngs(0))
    kurtosis = 2.366 if maker is jinit.he_normal else 3.0
    laws.assert_moments(layer.kernel[...], 0.0, init.std((300, 200)), kurtosis)
    conv = nnx.Conv(16, 32, (3, 3), kernel_init=init, rngs=nnx.Rngs(0))
    laws.assert_moments(conv.kernel[...], 0.0, init.std((3, 3, 16, 32)), kurtosis)


def test_flax_defaults_have_the_same_values(key):
    x = jnp.ones((1, 30))
    theirs = nn.Dense(20).init(key, x)["params"]["kernel"]
    ours = nn.Dense(20, kernel_init=jinit.lecun_normal()).init(key, x)["params"][
        "kernel"
    ]
    np.testing.assert_array_equal(
        ours, jax.jit(nn.Dense(20).init)(key, x)["params"]["kernel"]
    )
    np.testing.assert_array_max_ulp(np.asarray(ours), np.asarray(theirs), maxulp=1)


def test_attention_meets_a_flattened_kernel(key):
    """DenseGeneral flattens to two axes first: there "io" is right, and no other."""
    attention = nn.MultiHeadDotProductAttention(
        num_heads=8, kernel_init=jinit.lecun(layout="io")
    )
    x = jnp.ones((1, 5, 512))
    params = attention.init(key, x)["params"]
    query = params["query"]["kernel"]
    assert query.shape == (512, 8, 64)
    laws.assert_moments(query, 0.0, 512**-0.5, 3.0)
    wrong = nn.MultiHeadDotProductAttention(
        num_heads=8, kernel_init=jinit.lecun(layout="ioo")
    )
    with pytest.raises(ValueError, match="flattened to two axes"):
        wrong.init(key, x)


def test_einsum_wants_its_fans_said(key):
    """nn.Einsum hands over the raw kernel, whose default axes are wrong."""
    equation, shape = "abc,cde->abde", (256, 8, 32)
    fan_in, fan_out = jinit.fans_from_einsum(equation, shape)
    layer = nn.Einsum(
        shape, equation, kernel_init=jinit.lecun(fan_in=fan_in), use_bias=False
    )
    kernel = layer.init(key, jnp.ones((1, 2, 256)))["params"]["kernel"]
    laws.assert_moments(kernel, 0.0, 1 / 16, 3.0)


def test_scanned_layers_are_a_batch(key):
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return nn.Dense(64, kernel_init=jinit.he())(x), None

    scanned = nn.scan(
        Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=5
    )
    kernel = scanned().init(key, jnp.ones((3, 64)), None)["params"]["Dense_0"]["kernel"]
    assert kernel.shape == (5, 64, 64)
    laws.assert_moments(kernel, 0.0, (2 / 64) ** 0.5, 3.0)
    assert (kernel[0] != kernel[1]).all()


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_module_that_holds_one_is_a_static_argument(name):
    traces = []

    def run(module, x):
        traces.append(None)
        return x

    jitted = jax.jit(run, static_argnums=0)
    for _ in range(2):
        jitted(nn.Dense(3, kernel_init=eval(repr(CASES[name].init))), jnp.ones(3))
    assert len(traces) == 1


def test_a_seed_sweep_of_a_model(key):
    model = nn.Dense(50, kernel_init=jinit.he())
    keys = jax.random.split(key, 6)
    x = jnp.ones((1, 40))
    sweep = jax.jit(jax.vmap(lambda k: model.init(k, x)))(keys)["params"]["kernel"]
    one = model.init(keys[3], x)["params"]["kernel"]
    np.testing.assert_array_equal(sweep[3], one)
