"""Schemes of transformers, adapters and hypernetworks, each by its paper's claim."""

import pickle

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats

import jinit
from tests.support import laws

KEY = jax.random.key(6)


def drawn(init, shape, dtype=None):
    return np.asarray(init(KEY, shape, dtype), np.float64)


def test_small_init_and_wang_init_have_the_published_stds():
    assert jinit.small_init().std((768, 3072)) == pytest.approx(0.02282177, abs=1e-8)
    assert jinit.small_init(width=768).std((3072, 768)) == pytest.approx(0.02282177)
    assert jinit.wang_init(12).std((3072, 768)) == pytest.approx(0.00601407, abs=1e-8)
    out = jinit.wang_init(12, layout="iio")
    assert out.std((12, 64, 768)) == jinit.wang_init(12, width=768).std((5,))
    laws.assert_law(drawn(out, (10, 20, 600)), laws.normal(2 / (12 * 600**0.5)))
    with pytest.raises(AssertionError):  # the width that is read, not written
        laws.assert_law(drawn(out, (10, 20, 600)), laws.normal(2 / (12 * 200**0.5)))
    # small_init's is Xavier's law of the layer d -> 4 d.
    assert jinit.small_init().std((64, 9)) == jinit.xavier().std((64, 256))


def test_moe_router_scales_the_variance():
    laws.assert_law(
        drawn(jinit.moe_router(), (400, 500)), laws.truncated(0.1**0.5 / 20)
    )
    with pytest.raises(AssertionError):  # 0.1 as a factor of the std
        laws.assert_law(drawn(jinit.moe_router(), (400, 500)), laws.truncated(0.1 / 20))
    experts = jinit.moe_router(layout="bio")
    assert experts.std((16, 400, 7)) == pytest.approx(0.1**0.5 / 20)


@pytest.mark.parametrize(
    ("depth", "value"), [(1, 0.1), (18, 0.1), (19, 1e-5), (24, 1e-5), (25, 1e-6)]
)
def test_layer_scale(depth, value):
    assert drawn(jinit.layer_scale(depth), (3,)) == pytest.approx(value)
    # The table of one layer more differs where a step ends.
    later = drawn(jinit.layer_scale(depth + 1), (3,))
    assert (later == pytest.approx(value)) == (depth not in (18, 24))


@pytest.mark.parametrize(("axis", "shape"), [(-1, (500, 16)), (0, (16, 500)),
                                             ((0, 1), (4, 4, 500))])  # fmt: skip
def test_ngpt_is_uniform_on_the_sphere(axis, shape):
    init = jinit.ngpt(axis)
    w = drawn(init, shape)
    np.testing.assert_allclose(np.sum(w**2, axis=axis), 1, rtol=1e-5)
    law = stats.beta(7.5, 7.5, loc=-1, scale=2)
    one = np.moveaxis(w, -1, 0)[:, 0] if axis != -1 else w[:, 0]
    assert stats.kstest(one.reshape(500, -1)[:, 0], law.cdf).pvalue > laws.FAILURE_RATE
    assert init.std(shape) == pytest.approx(0.25)
    bf16 = drawn(init, shape, "bfloat16")
    np.testing.assert_allclose(np.sum(bf16**2, axis=axis), 1, rtol=2e-2)


def assert_on_the_sphere(w):
    """Norm 1, and in three dimensions each coordinate uniform (Archimedes)."""
    np.testing.assert_allclose(np.sum(np.square(w), -1), 1, rtol=1e-5)
    laws.assert_law(w[:, 0], laws.uniform(-1, 1))


def test_ngpt_is_not_any_law_of_norm_1():
    assert_on_the_sphere(drawn(jinit.ngpt(), (20000, 3)))
    cube = drawn(jinit.scaled(jinit.uniform(), 2.0), (20000, 3)) - 1
    for wrong in (
        drawn(jinit.normal(3**-0.5), (20000, 3)),
        cube / np.linalg.norm(cube, axis=1, keepdims=True),
        drawn(jinit.ngpt(axis=0), (20000, 3)),
    ):
        with pytest.raises(AssertionError):
            assert_on_the_sphere(wrong)


def test_ngpt_of_one_number_is_a_sign():
    w = drawn(jinit.ngpt(), (50, 1))
    np.testing.assert_allclose(abs(w), 1, rtol=1e-6)
    assert set(np.sign(w).ravel()) == {-1.0, 1.0}


def nearest(target, rank):
    """The best approximation of a rank, in float64."""
    u, s, vt = np.linalg.svd(target)
    return (u[:, :rank] * s[:rank]) @ vt[:rank]


def test_mimetic_products_are_the_targets():
    qk, vo = jinit.mimetic_attention()
    q, k = (np.asarray(w, np.float64) for w in qk(KEY, (64, 4, 16)))
    v, o = (np.asarray(w, np.float64) for w in vo(KEY, (64, 4, 16)))
    assert q.shape == k.shape == v.shape == (64, 4, 16) and o.shape == (4, 16, 64)
    # Value and out: of full rank, so the target itself, 0.4 Z - 0.4.
    product = np.einsum("dhk,hke->de", v, o)
    z = (product + 0.4 * np.eye(64)) / 0.4 * 8
    laws.assert_law(z, laws.normal(1.0))
    with pytest.raises(AssertionError):  # the diagonal of the other sign
        laws.assert_law((product - 0.4 * np.eye(64)) / 0.4 * 8, laws.normal(1.0))
    # Query and key: head by head, of rank 16, and each head another draw.
    for head in range(4):
        product = q[:, head] @ k[:, head].T
        assert np.linalg.matrix_rank(product, tol=1e-4) == 16
        balance = np.linalg.norm(q[:, head]) / np.linalg.norm(k[:, head])
        assert balance == pytest.approx(1, rel=1e-4)
        # An identity keeps 16 of 64 directions, of singular values 1.3 and above.
        assert np.linalg.svd(product, compute_uv=False)[15] > 0.9
        assert 0.7 * 16 * 0.8 < np.trace(product) < 64
    assert abs(q[:, 0] @ k[:, 0].T - q[:, 1] @ k[:, 1].T).max() > 0.1


def test_mimetic_query_and_key_are_the_nearest_of_their_rank():
    one = jinit.mimetic_attention()[0]
    full = [np.asarray(w, np.float64)[:, 0] for w in one(KEY, (24, 1, 24))]
    part = [np.asarray(w, np.float64)[:, 0] for w in one(KEY, (24, 1, 6))]
    target = full[0] @ full[1].T
    np.testing.assert_allclose(part[0] @ part[1].T, nearest(target, 6), atol=1e-4)
    wide = [np.asarray(w)[:, 0] for w in one(KEY, (24, 1, 30))]
    np.testing.assert_allclose(wide[0] @ wide[1].T, target, atol=1e-4)


@pytest.mark.parametrize("alpha, beta", [(0.7, 0.7), (0.2, -0.3)])
def test_noise_of_query_and_key_is_of_variance_1_over_d_and_of_each_head(alpha, beta):
    d = 96
    pair = jinit.mimetic_attention(alpha_qk=alpha, beta_qk=beta)[0]
    q, k = (np.asarray(w, np.float64) for w in pair(KEY, (d, 2, d)))
    heads = np.einsum("dhk,ehk->hde", q, k)
    z = (heads - beta * np.eye(d)) / alpha * d**0.5
    for head in z:
        laws.assert_law(head, laws.normal(1.0))
    # Independent heads: their correlation over d^2 entries has the error 1 / d.
    assert abs(np.corrcoef(z[0].ravel(), z[1].ravel())[0, 1]) < laws.SIGMAS / d
    assert abs(np.corrcoef(z[0].ravel(), z[0].ravel())[0, 1]) > laws.SIGMAS / d
    with pytest.raises(AssertionError):  # entries of variance 1, not 1 / d
        laws.assert_law(z[0] / d**0.5, laws.normal(1.0))
    with pytest.raises(AssertionError):  # the diagonal left in
        laws.assert_law(heads[0] / alpha * d**0.5, laws.normal(1.0))


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_a_pair_is_a_value(dtype):
    for pair in jinit.mimetic_attention(beta_qk=0.5, alpha_vo=0.3, dtype=dtype):
        rebuilt = eval(repr(pair), {"jinit": jinit})
        assert rebuilt == pair and hash(rebuilt) == hash(pair)
        assert pickle.loads(pickle.dumps(pair)) == pair
    qk, vo = jinit.mimetic_attention()
    assert qk != vo and eval(repr(vo), {"jinit": jinit}) != qk


def test_a_tree_with_a_kernel_at_its_top_has_no_attention_there():
    attention = nn.MultiHeadDotProductAttention(num_heads=2)
    tree = attention.init(KEY, jnp.ones((1, 3, 8)))["params"]
    kernel = jnp.ones((3, 3))
    placed = jinit.place_mimetic_attention({**tree, "kernel": kernel}, KEY)
    assert placed["kernel"] is kernel
    assert (placed["query"]["kernel"] != tree["query"]["kernel"]).any()
    with pytest.raises(ValueError, match="no attention"):
        jinit.place_mimetic_attention({"kernel": kernel}, KEY)


def test_parts_of_a_pair_fit():
    qk, vo = jinit.mimetic_attention()
    for pair, names, shapes in (
        (qk, ("query", "key"), [(8, 2, 4)] * 2),
        (vo, ("value", "out"), [(8, 2, 4), (2, 4, 8)]),
    ):
        for kernel, name, shape in zip(
            pair(KEY, (8, 2, 4)), names, shapes, strict=True
        ):
            alone = jinit.mimetic_attention(part=name)(KEY, shape)
            np.testing.assert_allclose(alone, kernel, atol=1e-5)
    assert jinit.mimetic_attention() == jinit.mimetic_attention()
    with pytest.raises(ValueError, match="place_mimetic_attention"):
        qk(KEY, (8, 8))


def test_a_mimetic_transformer_starts_by_looking_at_like_tokens():
    model = nn.MultiHeadDotProductAttention(num_heads=2)
    x = jax.random.normal(KEY, (1, 12, 32))
    params = model.init(KEY, x)

    def on_the_diagonal(params):
        q, k = (
            jnp.einsum("btd,dhk->bthk", x, params["params"][name]["kernel"])
            for name in ("query", "key")
        )
        weights = jax.nn.softmax(jnp.einsum("bthk,bshk->bhts", q, k) / 4, -1)
        return float(jnp.trace(weights.mean((0, 1))) / 12)

    placed = jinit.place_mimetic_attention(params, KEY)
    assert on_the_diagonal(placed) > 0.5 > 0.2 > on_the_diagonal(params)
    assert model.apply(placed, x).shape == x.shape
    assert placed["params"]["query"]["bias"] is params["params"]["query"]["bias"]


def test_mimetic_attention_in_nnx_and_by_pattern():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.first, self.second = (
                nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs) for _ in range(2)
            )

    graph, state, rest = nnx.split(Model(nnx.Rngs(0)), nnx.Param, ...)
    placed = jinit.place_mimetic_attention(state, KEY, pattern="second/**")
    merged = nnx.merge(graph, placed, rest)
    old, new = (
        m.first.query.kernel[...] for m in (nnx.merge(graph, state, rest), merged)
    )
    np.testing.assert_array_equal(old, new)
    assert merged.second(jnp.ones((1, 3, 8))).shape == (1, 3, 8)
    product = jnp.einsum(
        "dhk,hke->de", merged.second.value.kernel[...], merged.second.out.kernel[...]
    )
    assert float(jnp.trace(product)) < -1
    with pytest.raises(ValueError, match="no attention"):
        jinit.place_mimetic_attention(state, KEY, pattern="third/**")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("split", [jinit.pissa, jinit.olora])
def test_adapters_leave_the_weight_as_it_is(split, dtype):
    w = jax.random.normal(KEY, (3, 24, 16)).astype(dtype)
    a, b, residual = jax.jit(split, static_argnums=1)(w, 4)
    assert a.shape == (3, 24, 4) and b.shape == (3, 4, 16) and a.dtype == dtype
    effective = residual.astype("float32") + jnp.matmul(
        a.astype("float32"), b.astype("float32"), precision="highest"
    )
    tolerance = 1e-5 if dtype == "float32" else 1e-2
    np.testing.assert_allclose(effective, w.astype("float32"), atol=tolerance)
    # With the adapter's factor left out the weight changes.
    a, b, residual = split(w, 4, scale=0.5)
    wide = [x.astype("float32") for x in (a, b, residual)]
    np.testing.assert_allclose(
        wide[2] + 0.5 * wide[0] @ wide[1], w.astype("float32"), atol=2 * tolerance
    )
    assert abs(wide[2] + wide[0] @ wide[1] - w.astype("float32")).max() > 0.1


def test_pissa_takes_the_largest_singular_values():
    w = jax.random.normal(KEY, (24, 16))
    a, b, residual = jinit.pissa(w, 4)
    s = np.linalg.svd(w, compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(residual, 2), s[4], rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(a, axis=0) ** 2, s[:4], rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(b, axis=1) ** 2, s[:4], rtol=1e-4)


def test_lora_starts_as_the_model():
    a, b = jinit.lora()
    laws.assert_law(drawn(a, (300, 200)), laws.uniform(-(300**-0.5), 300**-0.5))
    assert not drawn(b, (8, 20)).any()
    assert jinit.lora(jinit.lecun())[0] == jinit.lecun()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: jinit.pissa(jnp.ones((4, 3)), 4), ValueError, "from 1 to 3"),
        (lambda: jinit.pissa(jnp.ones(4), 1), TypeError, r"\(\.\., in, out\)"),
        (lambda: jinit.olora(jnp.ones((4, 3), int), 1), TypeError, "floating"),
        (lambda: jinit.olora(jnp.full((4, 3), jnp.nan), 1), ValueError, "not finite"),
        (lambda: jinit.lora(3), TypeError, "init"),
        (lambda: jinit.wang_init(0), ValueError, "num_layers"),
        (lambda: jinit.moe_router(0), ValueError, "greater than 0"),
        (lambda: jinit.layer_scale(2.5), TypeError, "`depth` is 2.5"),
        (lambda: jinit.layer_scale(None), TypeError, "`depth` is None"),
        (lambda: jinit.layer_scale(0), ValueError, "`depth` is 0"),
        (lambda: jinit.hyperfan_out((20,)), ValueError, "jinit.zeros"),
        (lambda: jinit.hyperfan_in((3, 0)), ValueError, "generates nothing"),
        (lambda: jinit.hyperfan_in((3, 4), relu=1), TypeError, "True or False"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


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


def test_whitened_patches_are_white():
    rng = np.random.default_rng(1)
    images = rng.normal(size=(40, 12, 12, 2)) @ np.array([[1.0, 0.8], [0.0, 0.3]])
    images += np.roll(images, 1, axis=1)
    init = jinit.whitening_conv(images, window=(2, 2), eps=0.0)
    kernel = init(KEY, (2, 2, 2, 16))
    y, _ = nn.Conv(
        16, (2, 2), padding="VALID", use_bias=False, kernel_init=lambda *_: kernel
    ).init_with_output(KEY, jnp.asarray(images, "float32"))
    flat = np.asarray(y, np.float64).reshape(-1, 16)
    moments = flat.T @ flat / len(flat)
    np.testing.assert_allclose(moments[:8, :8], np.eye(8), atol=1e-3)
    np.testing.assert_array_equal(flat[:, 8:], -flat[:, :8])
    patches = rng.normal(size=(30, 2, 2, 1))
    assert jinit.whitening_conv(patches)(KEY, (2, 2, 1, 8)).shape == (2, 2, 1, 8)


@pytest.mark.parametrize(
    ("patches", "options", "message"),
    [
        (np.ones((3, 2, 2, 1)), {}, "takes at least 4"),
        (np.ones((9, 2, 2)), {}, "four axes"),
        (np.full((9, 2, 2, 1), np.nan), {}, "not finite"),
        (np.ones((9, 2, 2, 1)), {"window": (3, 1)}, "larger than the images"),
        (np.zeros((9, 2, 2, 1)), {"eps": 0.0}, "positive eps"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_whitening_errors(patches, options, message):
    with pytest.raises(ValueError, match=message):
        jinit.whitening_conv(patches, **options)
