"""jinit inside Flax: Linen and NNX layers, and their own initializers replaced."""

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jinit
from tests.support import laws
from tests.support.cases import CASES

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
    fan_in, _ = jinit.fans_from_einsum(equation, shape)
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


@pytest.mark.parametrize("init, std", [
    (jinit.blocks((jinit.he(), 8), axis=0), (2 / 256) ** 0.5),
    (jinit.blocks((jinit.xavier(), 8), axis=0), (2 / 320) ** 0.5),
    # The copies count as inputs without blocks.
    (jinit.he(), (2 / 2048) ** 0.5),
])  # fmt: skip
def test_copies_of_a_dense_general(init, std, key):
    x = jnp.ones((8, 2, 256))
    linen = nn.DenseGeneral(64, batch_dims=(0,), kernel_init=init).init(key, x)
    general = nnx.LinearGeneral(
        256, 64, batch_axis={0: 8}, kernel_init=init, rngs=nnx.Rngs(0)
    )
    for kernel in (linen["params"]["kernel"], general.kernel[...]):
        assert kernel.shape == (8, 256, 64)
        laws.assert_law(kernel, laws.normal(std))
        assert len({float(copy.std()) for copy in kernel}) == 8
    planned = jinit.plan(
        linen, [("**/kernel", jinit.he(layout="bio")), ("**", jinit.ones)]
    )
    laws.assert_law(
        planned.init(key)["params"]["kernel"], laws.normal((2 / 256) ** 0.5)
    )


class Inner(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, bias_init=jinit.normal(1.0))(x)


class Normalized(nn.Module):
    """The model has layers of all kinds of WeightNorm, or the same ones without."""

    wrap: bool = True

    @nn.compact
    def __call__(self, x):
        def wrapped(layer, **settings):
            return nn.WeightNorm(layer, **settings) if self.wrap else layer

        dense = nn.Dense(6, kernel_init=jinit.he(), name="dense")
        x = wrapped(dense)(x)
        square = nn.Dense(6, kernel_init=jinit.he(), name="square", use_bias=False)
        x = wrapped(square, name="named")(x)
        conv = nn.Conv(4, (3,), kernel_init=jinit.he(), name="conv")
        x = wrapped(conv, param_dtype="bfloat16")(x)
        return wrapped(Inner(name="inner"), variable_filter=None)(x)


def test_weight_norm_starts_as_the_model_without_it(key):
    x = jax.random.normal(jax.random.key(1), (5, 7, 6))
    rules = [("**/kernel", jinit.he()), ("**/bias", jinit.normal()), ("**", jinit.ones)]
    # Flax's init would return kernels of norm 1.
    drawn = jinit.plan(jax.eval_shape(Normalized().init, key, x), rules).init(key)
    layers = ("dense", "square", "conv", "inner")
    plain = {"params": {name: drawn["params"][name] for name in layers}}
    for params in (
        jinit.weight_norm_scales(drawn),
        {"params": jax.jit(jinit.weight_norm_scales)(drawn["params"])},
        jinit.weight_norm_scales(flax.core.freeze(drawn)),
    ):
        mine = Normalized().apply(params, x)
        theirs = Normalized(wrap=False).apply(plain, x)
        # The convolution's scales are rounded to bfloat16.
        np.testing.assert_allclose(mine, theirs, rtol=0.05, atol=0.05)
        g = params["params"]["WeightNorm_0"]["dense/kernel/scale"]
        v = np.asarray(drawn["params"]["dense"]["kernel"])
        np.testing.assert_allclose(g, np.linalg.norm(v, axis=0), rtol=1e-6)
    # Without it the scales are 1, and the outputs others.
    assert not np.allclose(Normalized().apply(drawn, x), theirs, rtol=0.05, atol=0.05)


def test_weight_norm_by_other_axes(key):
    x = jnp.ones((2, 6))
    for axes, sizes in ((None, ()), (0, (6,)), ((0, 1), (6, 4)), ((1, 0), (6, 4))):
        model = nn.WeightNorm(nn.Dense(4, kernel_init=jinit.he()), feature_axes=axes)
        shapes = jax.eval_shape(model.init, key, x)
        rules = [("**/kernel", jinit.he()), ("**", jinit.ones)]
        params = jinit.plan(shapes, rules).init(key)
        params = jinit.weight_norm_scales(params, feature_axes=axes)["params"]
        kernel = params["layer_instance"]["kernel"]
        others = tuple({0, 1} - set(np.atleast_1d([] if axes is None else axes)))
        norms = jnp.sqrt(jnp.sum(kernel**2, tuple(map(int, others))))
        assert params["layer_instance/kernel/scale"].shape == sizes
        np.testing.assert_allclose(
            params["layer_instance/kernel/scale"], norms, rtol=1e-6
        )


def test_weight_norm_of_trees_that_do_not_fit(key):
    x = jnp.ones((2, 6))
    params = nn.WeightNorm(nn.Dense(4)).init(key, x)["params"]
    with pytest.raises(ValueError, match="would have shape .6,., and it has shape"):
        jinit.weight_norm_scales(params, feature_axes=0)
    with pytest.raises(ValueError, match="no scale of a flax.linen.WeightNorm"):
        jinit.weight_norm_scales(nn.Dense(4).init(key, x))
    with pytest.raises(ValueError, match="and 0 of these; pass the whole tree"):
        jinit.weight_norm_scales({"layer_instance/kernel/scale": jnp.ones(4)})
    zero = jax.tree.map(jnp.zeros_like, params)
    scales = jinit.weight_norm_scales(zero)["layer_instance/kernel/scale"]
    assert scales.tolist() == [0] * 4
    huge = jax.tree.map(lambda p: jnp.full_like(p, 1e30), params)
    scales = jinit.weight_norm_scales(huge)["layer_instance/kernel/scale"]
    np.testing.assert_allclose(scales, 1e30 * 6**0.5, rtol=1e-6)
