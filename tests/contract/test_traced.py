"""Every maker that takes a number takes a traced one, and draws the same."""

import copy
import pickle

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit

SHAPE = (6, 4)

# name -> a maker of one number, with the shape that it draws.
MAKERS = {
    "normal": (lambda s: jinit.normal(s), SHAPE),
    "uniform": (lambda s: jinit.uniform(s), SHAPE),
    "truncated_normal": (lambda s: jinit.truncated_normal(s), SHAPE),
    "truncated_normal[lower]": (
        lambda s: jinit.truncated_normal(1.0, None, -s), SHAPE),
    "truncated_normal[mean]": (lambda s: jinit.truncated_normal(1.0, mean=s), SHAPE),
    "truncated_normal[absolute]": (
        lambda s: jinit.truncated_normal(s, bounds="absolute"), SHAPE),
    "truncated_normal[after]": (
        lambda s: jinit.truncated_normal(1.0, None, -s, std_is="after"), SHAPE),
    "constant": (lambda s: jinit.constant(s), (3,)),
    "constant[array]": (lambda s: jinit.constant(s * jnp.arange(1.0, 4)), (2, 3)),
    "from_array": (lambda s: jinit.from_array(s * jnp.ones((2, 3))), (2, 3)),
    "variance_scaling": (
        lambda s: jinit.variance_scaling(s, "fan_avg", "truncated_normal"), SHAPE),
    "xavier": (lambda s: jinit.xavier(gain=s, distribution="uniform"), SHAPE),
    "he": (lambda s: jinit.he(gain=s), SHAPE),
    "kaiming": (lambda s: jinit.kaiming("gelu", gain=s), SHAPE),
    "lecun": (lambda s: jinit.lecun(gain=s, distribution="truncated_normal"), SHAPE),
    "small_init": (lambda s: jinit.small_init(gain=s), SHAPE),
    "wang_init": (lambda s: jinit.wang_init(12, gain=s), SHAPE),
    "moe_router": (lambda s: jinit.moe_router(s), SHAPE),
    "siren": (lambda s: jinit.siren(s), SHAPE),
    "fourier_features": (lambda s: jinit.fourier_features(s, radians=True), SHAPE),
    "hyperfan_in": (lambda s: jinit.hyperfan_in((8, 5), embedding_variance=s), SHAPE),
    "orthogonal": (lambda s: jinit.orthogonal(s), SHAPE),
    "scaled_orthogonal": (lambda s: jinit.scaled_orthogonal(s), SHAPE),
    "delta_orthogonal": (lambda s: jinit.delta_orthogonal(s), (3, 4, 6)),
    "looks_linear": (lambda s: jinit.looks_linear(s), SHAPE),
    "identity": (lambda s: jinit.identity(s), (4, 4)),
    "dirac": (lambda s: jinit.dirac(s), (3, 2, 2)),
    "hadamard": (lambda s: jinit.hadamard(s), (4, 4)),
    "sparse": (lambda s: jinit.sparse(0.5, s), SHAPE),
    "chrono": (lambda s: jinit.recurrent.chrono(10 * s, gate="f"), (8,)),
    "unit_forget_bias": (lambda s: jinit.recurrent.unit_forget_bias(value=s), (8,)),
    "mamba_dt_bias": (lambda s: jinit.ssm.mamba_dt_bias(1e-3 * s, 0.1 * s), (6,)),
    "lru_ring": (lambda s: jinit.ssm.lru_ring(0.2 * s, 0.5 * s, part="nu"), (6,)),
    "mimetic_attention": (
        lambda s: jinit.mimetic_attention(alpha_qk=s, part="query"), (6, 2, 2)),
    "constant_bias_from_prior": (
        lambda s: jinit.constant_bias_from_prior(0.1 * s), (3,)),
    "stft": (lambda s: jinit.stft(window=s * jnp.hanning(8), scaling=None), (8, 1, 5)),
    "s * init": (lambda s: s * jinit.he(), SHAPE),
    "s * (s * init)": (lambda s: s * (s * jinit.normal(s)), SHAPE),
    "s * embedding": (lambda s: s * jinit.embedding(padding_row=0), SHAPE),
    "s * ngpt": (lambda s: jinit.ngpt() * s, SHAPE),
    "s * ones": (lambda s: s * jinit.ones, (3,)),
    "stacked": (lambda s: jinit.stacked(jinit.he(gain=s)), (3, 6, 4)),
    "stacked[of index]": (
        lambda s: jinit.stacked(lambda i: s * (i + 1) * jinit.he()), (3, 6, 4)),
    "depth_scaled": (lambda s: jinit.depth_scaled(jinit.he(gain=s)), (3, 6, 4)),
    "blocks": (lambda s: jinit.blocks((jinit.xavier(gain=s), 2)), SHAPE),
    "masked": (
        lambda s: jinit.masked([[True], [False]] * 3, jinit.normal(s), s * jinit.ones),
        SHAPE),
    "padded": (lambda s: jinit.padded(jinit.he(gain=s), 1), SHAPE),
    "transposed": (lambda s: jinit.transposed(jinit.he(gain=s)), SHAPE),
    "with_dtype": (lambda s: jinit.with_dtype(jinit.he(gain=s), "float32"), SHAPE),
    "torch_layout": (
        lambda s: jinit.torch_layout(jinit.he(gain=s, layout="oi")), SHAPE),
}  # fmt: skip

# Two equal laws of different tracers, and laws whose parts are not one law.
NO_STD = {"stacked[of index]"}


@pytest.mark.parametrize("name", MAKERS)
def test_a_traced_number_draws_what_a_number_draws(name, key):
    make, shape = MAKERS[name]

    def drawn(s):
        init = make(s)
        return [init(key, shape, dtype) for dtype in ("float32", "bfloat16")], [
            init.std(shape)
        ]

    step = 0.01
    scales = jnp.array([1.5 - step, 1.5, 1.5 + step])
    # One program has draws and derivatives, of several scales at once.
    both = jax.jit(jax.vmap(lambda s: jax.jvp(drawn, (s,), (1.0,))))
    (((wide, narrow), (std,)), ((slope, narrow_slope), _)) = both(scales)
    np.testing.assert_allclose(wide[1], make(1.5)(key, shape), rtol=1e-5, atol=1e-6)
    expected = make(1.5).std(shape)
    if expected is None or name in NO_STD:
        assert std is None
    else:
        np.testing.assert_allclose(std[1], expected, rtol=1e-5)
    numeric = (np.asarray(wide[2], float) - np.asarray(wide[0], float)) / (2 * step)
    np.testing.assert_allclose(slope[1], numeric, rtol=1e-2, atol=2e-3)
    # In 16 bits the rounding has the derivative of a conversion, not that of its bits.
    assert narrow.dtype == narrow_slope.dtype == jnp.bfloat16
    for rounded, exact in ((narrow, wide), (narrow_slope, slope)):
        near = np.asarray(rounded[1], np.float32), exact[1]
        np.testing.assert_allclose(*near, rtol=2e-2, atol=1e-3)


def test_a_traced_initializer_as_a_value():
    def look(s):
        for make, _ in MAKERS.values():
            init = make(s)
            assert init == init and init != make(s) and hash(init) == hash(init)
            assert copy.copy(init) == init and copy.deepcopy(init) == init
            assert "<" in repr(init)
            if "of index" in repr(init) or "lambda" in repr(init):
                continue
            with pytest.raises((TypeError, ValueError), match="Python number"):
                pickle.dumps(init)
            with pytest.raises(ValueError, match="Python number"):
                jinit.to_config(init)
        assert repr(jinit.he(gain=s)) == "jinit.he(gain=<traced float32>)"
        assert repr(s * jinit.ones) == "<traced float32> * jinit.ones"
        return s

    jax.eval_shape(look, jnp.float32(1.5))


def test_no_cache_keeps_a_tracer(key):
    with jax.checking_leaks():
        for make, shape in MAKERS.values():
            jax.eval_shape(lambda s, m=make, n=shape: m(s)(key, n), jnp.float32(1.5))


@pytest.mark.parametrize("dtype", ["float32", "float16", "float8_e4m3fn"])
def test_the_gradient_of_a_draw_is_the_draw_of_scale_one(dtype, key):
    shape = (8, 8)

    def loss(s, law):
        return jnp.sum(law(s)(key, shape, dtype).astype(np.float32))

    for law in (jinit.normal, jinit.uniform, jinit.truncated_normal, jinit.orthogonal):
        slope = jax.jit(jax.grad(loss), static_argnums=1)(0.7, law)
        unit = np.asarray(law(1.0)(key, shape), np.float32)
        rtol = 1e-5 if dtype == "float32" else 0.05
        np.testing.assert_allclose(slope, unit.sum(), rtol=rtol, atol=rtol * 40)
        assert slope != 0


def test_a_traced_share_of_zeros(key):
    draw = jax.jit(lambda share: jinit.sparse(share)(key, (10, 4)))
    for share in (0.5, 0.9):
        expected = jinit.sparse(share)(key, (10, 4))
        np.testing.assert_allclose(draw(share), expected, rtol=1e-6)


def of_jax(lib, s):
    """Return the initializers of JAX that take a number, by name."""
    qr = {"method": "qr"} if lib is jinit else {}
    modes = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")
    laws = ("normal", "uniform", "truncated_normal")
    scaling = {
        f"{mode} {law}": (lib.variance_scaling(s, mode, law), (30, 20))
        for mode, law in zip((*modes, "fan_in", "fan_in"), laws * 2, strict=True)
    }
    return scaling | {
        "normal": (lib.normal(s), (30, 20)),
        "uniform": (lib.uniform(s), (30, 20)),
        "truncated_normal": (lib.truncated_normal(s), (30, 20)),
        "bounds": (lib.truncated_normal(0.7, None, -s, 1.5 * s), (30, 20)),
        "upper": (lib.truncated_normal(s, None, -1.0, s + 1), (30, 20)),
        "orthogonal": (lib.orthogonal(s, **qr), (30, 20)),
        "delta_orthogonal": (lib.delta_orthogonal(s, **qr), (3, 3, 4, 6)),
        "constant": (lib.constant(s), (3,)),
        "constant array": (lib.constant(jnp.stack([s, 2 * s])), (3, 2)),
    }


def draws_of_jax(lib, key):
    @jax.jit
    def draws(s):
        pairs = of_jax(lib, s).items()
        return {name: init(key, shape) for name, (init, shape) in pairs}

    return draws


def test_the_values_of_jax_under_jit(key):
    theirs = draws_of_jax(jax.nn.initializers, key)
    ours = draws_of_jax(jinit, key)
    for scale in (0.02, 1.0, 3.3333, jnp.bfloat16(1.7)):
        expected = theirs(scale)
        for name, value in ours(scale).items():
            np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_the_gradients_of_jax(key):
    def slopes(lib):
        return jax.jit(jax.jacfwd(draws_of_jax(lib, key)))(1.3)

    expected = slopes(jax.nn.initializers)
    for name, value in slopes(jinit).items():
        np.testing.assert_allclose(value, expected[name], 2e-5, 1e-6, err_msg=name)


def network(lib, wrap):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            kernel = lib.orthogonal(jnp.sqrt(2))
            x = wrap(nn.Dense)(4, kernel_init=kernel)(x)
            gain = lib.variance_scaling(jnp.sqrt(2) / 2, "fan_in", "normal")
            return nn.Dense(1, kernel_init=gain, bias_init=lib.constant(jnp.log(0.5)))(
                jnp.tanh(x)
            )

    return Net()


@pytest.mark.parametrize(
    "wrap", [lambda c: c, nn.jit, nn.remat], ids=["called", "nn.jit", "nn.remat"]
)
def test_numbers_of_jax_inside_compact(wrap, key):
    x = jnp.ones((2, 3))
    model = network(jinit, wrap)
    structure = jax.eval_shape(network(jax.nn.initializers, wrap).init, key, x)
    assert jax.eval_shape(model.init, key, x) == structure
    values = jinit.materialize(model.init)(key, x)
    expected = jax.jit(model.init)(key, x)
    chex.assert_trees_all_close(values, expected, rtol=1e-6, atol=1e-6)
    jax.eval_shape(jax.grad(lambda v: model.apply(v, x).sum()), values)
    jax.eval_shape(jax.vmap(lambda k: model.init(k, x)), jax.random.split(key, 2))


def test_plans(key):
    shapes = {"a": jax.ShapeDtypeStruct((4, 4), np.float32)}
    texts = []

    def init(s):
        plan = jinit.plan(shapes, [("a", s * jinit.he())])
        texts.append(repr(plan))
        with pytest.raises(ValueError, match="leaf 'a'|of 'a'.*Python number"):
            plan.to_config()
        return plan.init(key)

    drawn = jax.jit(init)(2.0)
    expected = jinit.plan(shapes, [("a", 2.0 * jinit.he())]).init(key)
    np.testing.assert_allclose(drawn["a"], expected["a"], rtol=1e-6)
    assert "<traced float32> * jinit.he()" in texts[0]


REFUSED = {
    r"`stddev` is <traced float32\[2\]>": lambda s: jinit.normal(jnp.stack([s, s])),
    "`gain` is <traced complex64>": lambda s: jinit.he(gain=s + 1j),
    "`stddev` is <traced bool>": lambda s: jinit.normal(s > 0),
    "found by a search": lambda s: jinit.truncated_normal(
        s, std_is="after", bounds="absolute"
    ),
    "must be an integer": lambda s: jinit.wang_init(s),
    "array of booleans": lambda s: jinit.masked(s, jinit.ones, jinit.zeros),
}


def test_a_traced_prior_of_classes(key):
    def draw(p, kind="softmax"):
        return jinit.constant_bias_from_prior(p, kind)(key, (3,))

    prior = jnp.array([0.2, 0.3, 0.5])
    np.testing.assert_allclose(jax.jit(draw)(prior), draw(prior), rtol=1e-5)
    with pytest.raises(ValueError, match="must be a vector"):
        jax.eval_shape(draw, 0.5)


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_no_number_is_refused(message):
    with pytest.raises(TypeError, match=message):
        jax.eval_shape(lambda s: [REFUSED[message](s), s][1], jnp.float32(1.5))
