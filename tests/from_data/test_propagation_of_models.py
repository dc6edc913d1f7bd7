"""`autoinit` sets models of all kinds; the outputs of each layer are measured."""

import jax
import jax.numpy as jnp
import pytest
from jax.ad_checkpoint import checkpoint_name

import jinit
from tests.support import signal_models

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(14)


@pytest.fixture(autouse=True)
def _as_the_field_writes():
    with jax.numpy_rank_promotion("allow"):
        yield


def named(function):
    """Return a model whose layers have the names of their parameters."""
    return lambda params, *inputs: function(
        params, lambda name, y: checkpoint_name(y, name), *inputs
    )


def outputs(function, params, x):
    """Return the root mean square of each layer's output."""
    sizes = {}

    def note(name, y):
        sizes[name] = float(jnp.sqrt(jnp.mean(jnp.abs(y) ** 2)))
        return y

    function(params, note, x)
    return sizes


def example(kind):
    """Return an input: tokens of which some are equal, or real numbers."""
    if kind.dtype == jnp.int32:
        return jax.random.randint(KEY, kind.shape, 0, signal_models.VOCABULARY)
    return jax.random.normal(KEY, kind.shape)


@pytest.mark.parametrize("name", signal_models.MODELS)
def test_outputs_of_every_layer_have_variance_1(name):
    function, shapes, kind = signal_models.MODELS[name]
    params, x = signal_models.drawn(shapes, KEY), example(kind)
    new, history = jinit.autoinit(named(function), params, batch=kind)
    layers = {row["path"] for row in history.rows}
    sizes = outputs(function, new, x)
    if name == "one-hot":
        # A table that is multiplied by a one-hot is an embedding, and no layer.
        assert history.left == ("in",)
        sizes.pop("in")
    assert layers == set(sizes)
    for path, size in sizes.items():
        # The narrowest layer has 4 columns of 32 weights, which are scaled together: a
        # column's size is 1 +- 1 / 8, the mean of 4 is 1 +- 1 / 16.
        assert size == pytest.approx(1, abs=0.2), path
    assert all(bool((new[p] == params[p]).all()) for p in params if p not in layers)


def test_tokens_that_are_known_are_taken_as_they_are():
    """An average over one token, 16 times, is 4 times as large as over 16 tokens."""
    function, shapes, kind = signal_models.MODELS["bag"]
    params = signal_models.drawn(shapes, KEY)
    for tokens, size in [(kind, 4), (jnp.ones(kind.shape, jnp.int32), 1)]:
        new, _ = jinit.autoinit(named(function), params, batch=tokens)
        rms = jnp.sqrt(jnp.mean(new["head"] ** 2)) * signal_models.WIDTH**0.5
        assert float(rms) == pytest.approx(size, rel=0.2)


def test_masks_are_taken_as_they_are_or_hide_nothing():
    def model(params, x, mask):
        h = jnp.where(mask, x, 0)
        return checkpoint_name(h @ params["w"], "w")

    params = {"w": jax.random.normal(KEY, (32, 16))}
    kinds = [jax.ShapeDtypeStruct((8, 32), dtype) for dtype in (jnp.float32, jnp.bool)]
    half = jnp.arange(8 * 32).reshape(8, 32) % 2 == 0
    for mask, square in [(kinds[1], 1.0), (half, 0.5)]:
        _, history = jinit.autoinit(model, params, batch=(kinds[0], mask))
        row = history.rows[0]
        assert row["input_variance"] + row["input_mean"] ** 2 == pytest.approx(square)


def test_std_of_a_kernel_is_that_before_its_multiplier():
    function, shapes, kind = signal_models.MODELS["scaled"]
    params = signal_models.drawn(shapes, KEY)
    new, history = jinit.autoinit(named(function), params, batch=kind)
    for row in history.rows:
        std = jnp.sqrt(jnp.mean(new[row["path"]] ** 2))
        assert float(std) == pytest.approx(row["weight_std"], rel=1e-4)


def test_complex_inputs_count_with_both_components():
    def model(params, x):
        # A product of complex numbers has four terms, of which real ones have two.
        return checkpoint_name(jnp.abs(x) @ params["w"], "w")

    params = {"w": jax.random.normal(KEY, (32, 16))}
    batch = jax.ShapeDtypeStruct((64, 32), jnp.complex64)
    _, history = jinit.autoinit(model, params, (0.0, 4.0), batch=batch)
    row = history.rows[0]
    square = row["input_variance"] + row["input_mean"] ** 2
    assert square == pytest.approx(4, rel=0.02)


def test_a_layer_in_a_loop_is_set_at_its_first_step():
    """Data decide when this loop ends, so its steps cannot be counted."""

    def model(params, x):
        h = checkpoint_name(x @ params["a"], "a")
        is_small = lambda h: jnp.abs(h).max() < 1e3  # noqa: E731
        h = jax.lax.while_loop(is_small, lambda h: 30.0 * (h @ params["b"]), 3 * h)
        return checkpoint_name(h / 1e3 @ params["b"], "b")

    params = {name: jax.random.normal(KEY, (64, 64)) for name in "ab"}
    batch = jax.ShapeDtypeStruct((8, 64), jnp.float32)
    new, history = jinit.autoinit(model, params, batch=batch)
    assert [row["path"] for row in history.rows] == ["a", "b"]
    assert history.rows[1]["input_variance"] == pytest.approx(9, rel=0.1)
    assert history.rows[1]["weight_std"] == pytest.approx(1 / 24, rel=0.05)
    assert float(jnp.sqrt(jnp.mean(new["b"] ** 2))) == pytest.approx(1 / 24, rel=0.05)


def test_a_recurrence_that_begins_with_zeros_is_set_at_its_second_step():
    def model(params, x):
        def step(h, x):
            h = checkpoint_name(h @ params["w"], "w")
            h = jnp.tanh(h + checkpoint_name(x @ params["v"], "v"))
            return h, h

        return jax.lax.scan(step, jnp.zeros_like(x[0]), x)[1]

    params = {name: jax.random.normal(KEY, (64, 64)) for name in "vw"}
    batch = jax.ShapeDtypeStruct((5, 8, 64), jnp.float32)
    new, history = jinit.autoinit(model, params, batch=batch)
    std = float(jnp.sqrt(jnp.mean(new["w"] ** 2)))
    assert std == pytest.approx(jinit.gain("tanh") / 8, rel=0.02)
    assert [row["path"] for row in history.rows] == ["v", "w"]
