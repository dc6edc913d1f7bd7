"""`autoinit`: means and variances by analysis, against networks that are run."""

import chex
import flax.linen as nn
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jinit
from examples import transformer

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(6)


def stds(model, variables, x, **options):
    """The rms of each layer's output, which has mean 0 in expectation."""
    state = {"mutable": ["intermediates", "batch_stats"], **options}
    _, found = model.apply(variables, x, capture_intermediates=True, **state)
    leaves = jax.tree_util.tree_flatten_with_path(found["intermediates"])[0]
    return {
        "/".join(key.key for key in path[:-2]): float(jnp.sqrt(jnp.mean(y**2)))
        for path, y in leaves
    }


def laid(model, x, stats=(0.0, 1.0), **options):
    variables = model.init(KEY, x)
    new, history = jinit.autoinit(model, variables, **{"input_stats": stats, **options})
    return new, history


ACTIVATIONS = [
    nn.relu, nn.silu, jnp.tanh, nn.gelu, jnp.sin, nn.sigmoid, nn.elu, jnp.abs,
    lambda x: x * jnp.tanh(nn.softplus(x)),
    lambda x: jnp.concatenate([nn.relu(x), nn.relu(-x)], -1),
    lambda x: nn.glu(x),
    lambda x: nn.leaky_relu(x, 0.2),
]  # fmt: skip


def test_whatever_the_activation_the_next_layer_has_variance_1():
    """Each after a layer of width 600: the weights' std is that of the mean square."""
    x = jax.random.normal(KEY, (400, 300))
    for activation in ACTIVATIONS:
        model = nn.Sequential([nn.Dense(600), activation, nn.Dense(500)])
        new, history = laid(model, x)
        h = x @ new["params"]["layers_0"]["kernel"]
        square = float(jnp.mean(activation(h) ** 2))
        width = new["params"]["layers_2"]["kernel"].shape[0]
        wanted = 1 / np.sqrt(width * square)
        # Of 240,000 squares whose spread is about their size; x alone has 1 %.
        assert history.rows[1]["weight_std"] == pytest.approx(wanted, rel=0.02)
        kernel = new["params"]["layers_2"]["kernel"]
        assert float(jnp.sqrt(jnp.mean(kernel**2))) == pytest.approx(
            history.rows[1]["weight_std"], rel=1e-5
        )
        out = stds(model, new, x)["layers_2"]
        assert out == pytest.approx(1, rel=0.06)


def test_a_gain_that_ignores_the_mean_fails_the_same_check():
    """1 / n instead of 1 / (n E relu^2), for example, does."""
    x = jax.random.normal(KEY, (400, 300))
    kernel = jinit.lecun()
    model = nn.Sequential([nn.Dense(600), nn.relu, nn.Dense(500, kernel_init=kernel)])
    assert stds(model, model.init(KEY, x), x)["layers_2"] < 0.8


def test_input_statistics_are_numbers_or_arrays():
    x = 3 + 2 * jax.random.normal(KEY, (300, 200))
    model = nn.Sequential([nn.Dense(400)])
    new, history = laid(model, x, (3.0, 4.0))
    assert history.rows[0]["weight_std"] == pytest.approx(1 / np.sqrt(200 * 13))
    assert stds(model, new, x)["layers_0"] == pytest.approx(1, rel=0.05)
    by_entry = (jnp.arange(200.0), jnp.ones(200))
    _, history = laid(model, x, by_entry)
    square = np.mean(np.arange(200.0) ** 2) + 1
    assert history.rows[0]["weight_std"] == pytest.approx(1 / np.sqrt(200 * square))


class Image(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(32, (3, 3), name="a")(x))
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.gelu(nn.Conv(48, (3, 3), (2, 2), name="b")(x))
        x = x + nn.gelu(nn.Conv(48, (3, 3), name="c")(nn.LayerNorm()(x)))
        x = nn.BatchNorm(use_running_average=False)(x)
        x = nn.Conv(40, (1, 1), feature_group_count=8, name="d")(nn.silu(x))
        return nn.Dense(64, name="e")(nn.relu(x).reshape(len(x), -1))


def test_convolutions_pooling_norms_and_branches():
    x = jax.random.normal(KEY, (24, 16, 16, 3))
    model = Image()
    new, history = laid(model, x, batch=x)
    found = stds(model, new, x)
    # "b" meets maxima of neighbours, "c" one branch, whose entries are correlated.
    # A group of "d" sums six terms; 40 sums of squares of so few vary by much.
    rels = {"a": 0.05, "b": 0.15, "c": 0.15, "d": 0.3, "e": 0.2}
    for path, rel in rels.items():
        assert found[path] == pytest.approx(1, rel=rel)
    # What lies on the zeros around an image of 16 x 16 is not counted.
    inside = 27 * (46 / 48) ** 2
    assert history.rows[0]["weight_std"] == pytest.approx(1 / np.sqrt(inside), rel=1e-5)


def test_attention_and_embeddings():
    tokens = jax.random.randint(KEY, (8, 24), 0, 96)
    model = transformer.Transformer(96, 2, 128, 4)
    new, history = laid(model, tokens, batch=tokens)
    found = stds(model, new, tokens)
    for row in history.rows:
        # Tokens that are alike have an average that is larger than that of others.
        assert 0.95 < found[row["path"]] < 1.05
    # What is looked up, and norms, stay as they were.
    old = jax.tree.leaves_with_path(model.init(KEY, tokens)["params"])
    for (path, a), b in zip(old, jax.tree.leaves(new["params"]), strict=True):
        assert path[-1].key == "kernel" or bool((a == b).all())


class Stack(nn.Module):
    axis: int = 0

    @nn.compact
    def __call__(self, x):
        scan = nn.scan(
            lambda layer, x, _: (jnp.tanh(layer(x)), None),
            variable_axes={"params": self.axis}, split_rngs={"params": True}, length=4,
        )  # fmt: skip
        x, _ = scan(nn.Dense(150, name="inner"), x, None)
        return nn.Dense(100, name="head")(x)


@pytest.mark.parametrize("axis", [0, 1])
def test_stacks_are_set_step_by_step(axis):
    x = 0.1 * jax.random.normal(KEY, (200, 150))
    new, history = laid(Stack(axis), x, (0.0, 0.01))
    kernels = jnp.moveaxis(new["params"]["inner"]["kernel"], axis, 0)
    gain = jinit.gain("tanh")
    wanted = [10, gain, gain, gain] / np.sqrt(150)
    rms = jnp.sqrt(jnp.mean(kernels**2, (1, 2)))
    assert np.allclose(rms, wanted, rtol=1e-3)
    assert [row["path"] for row in history.rows][:2] == ["inner[0]", "inner[1]"]


def test_shared_layers_are_set_once_and_known_again():
    class Shared(nn.Module):
        @nn.compact
        def __call__(self, x):
            layer = nn.Dense(300, name="shared")
            return nn.Dense(300, name="head")(nn.relu(layer(nn.relu(layer(x)))))

    x = jax.random.normal(KEY, (300, 300))
    new, _ = laid(Shared(), x)
    assert stds(Shared(), new, x)["head"] == pytest.approx(1, rel=0.1)


def test_its_own_result_stays_and_shapes_are_found():
    x = jnp.zeros((1, 28, 28, 1))

    class Flat(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(4, (3, 3))(x))
            return nn.Dense(10)(x.reshape(len(x), -1))

    variables = Flat().init(KEY, x)
    given, _ = jinit.autoinit(Flat(), variables, batch=x)
    found, _ = jinit.autoinit(Flat(), variables)
    again, _ = jinit.autoinit(Flat(), found)
    for other in (given, again):
        chex.assert_trees_all_close(found, other, rtol=1e-5, atol=1e-8)
    assert not (found["params"]["Dense_0"]["kernel"] ==
                variables["params"]["Dense_0"]["kernel"]).any()  # fmt: skip


def test_nnx_models():
    model = nnx.Sequential(
        nnx.Linear(50, 60, rngs=nnx.Rngs(0)), nnx.relu,
        nnx.BatchNorm(60, rngs=nnx.Rngs(1)), nnx.Dropout(0.5, rngs=nnx.Rngs(2)),
        nnx.Linear(60, 8, rngs=nnx.Rngs(3)),
    )  # fmt: skip
    x = jax.ShapeDtypeStruct((32, 50), jnp.float32)
    new, history = jinit.nnx.autoinit(model, (0.0, 4.0), batch=x)
    assert history.rows[0]["weight_std"] == pytest.approx(1 / np.sqrt(200))
    # After dropout of half, the mean square of normalized entries is 2.
    assert history.rows[1]["weight_std"] == pytest.approx(1 / np.sqrt(120), rel=0.1)
    assert new is not model and new.layers[0].kernel.shape == (50, 60)


# An operation that JAX cannot run, as that of another device.
OPAQUE = jax.extend.core.Primitive("opaque")
OPAQUE.def_abstract_eval(lambda x: x)


class Opaque(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = jnp.cumsum(nn.Dense(8, use_bias=False, name="up")(x), -1)
        return nn.Dense(4, use_bias=False, name="down")(OPAQUE.bind(x))


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.WeightNorm(nn.Dense(4))(x)


ONE = nn.Sequential([nn.Dense(3)])


def run(model, stats=(0.0, 1.0), **options):
    return laid(model, jnp.ones((2, 6)), stats, **options)


def set_opaque():
    shapes = {"up": (6, 8), "down": (8, 4)}
    params = {name: {"kernel": jnp.ones(shape)} for name, shape in shapes.items()}
    return jinit.autoinit(Opaque(), {"params": params}, batch=jnp.ones((2, 6)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: set_opaque(),
            ValueError,
            "the law of opaque is not known, behind up, .*jinit.lsuv",
        ),
        (lambda: run(Normed()), ValueError, "Dense_0 are changed before"),
        (lambda: run(ONE, (0.0, 0.0)), ValueError, "layers_0 cannot be scaled"),
        (
            lambda: run(nn.Sequential([nn.Dense(3, kernel_init=jinit.constant(0.0))])),
            ValueError,
            "layers_0 cannot be scaled",
        ),
        (lambda: run(ONE, input_stats=3.0), TypeError, r"\(mean, variance\)"),
        (lambda: run(ONE, (0.0, -1.0)), ValueError, "variance -1"),
        (lambda: run(ONE, (np.nan, 1.0)), ValueError, "must be finite"),
        (
            lambda: jinit.autoinit(lambda v, x: x / 0 @ v, jnp.ones((3, 3, 3, 3))),
            ValueError,
            "pass `batch`",
        ),
    ],
)  # fmt: skip
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
