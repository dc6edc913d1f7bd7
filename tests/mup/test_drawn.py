"""The growth of an initializer's std is measured on arrays at two widths."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from jinit import mup

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(13)


def drawn(width, seed=0, **laws):
    """Return a tree with one leaf for each law, of shape (width, width) or its own."""
    key = jax.random.fold_in(jax.random.fold_in(KEY, seed), width)
    keys = jax.random.split(key, len(laws))
    return {
        name: law(k, shape(width)).astype(jnp.float32)
        for (name, (law, shape)), k in zip(laws.items(), keys, strict=True)
    }


def square(width):
    return width, width


def growth(law, shape=square, widths=(32, 128), seed=0):
    trees = [drawn(width, seed, kernel=(law, shape)) for width in widths]
    p = mup.infer(*trees)
    return p.tensors[0].drawn, p


@pytest.mark.parametrize(
    ("law", "expected"),
    [
        (jinit.normal(0.02), 1),
        (jinit.uniform(0.1), 1),
        (jinit.lecun(), 1 / 2),
        (jinit.he(distribution="uniform"), 1 / 2),
        (jinit.xavier(), 1 / 2),
        (jinit.orthogonal(), 1 / 2),
        (lambda key, shape: jax.random.normal(key, shape) / shape[0], 1 / 4),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_usual_laws_are_found_exactly(law, expected, seed):
    """16,384 and 1,024 entries: an error of 2.3 %, while laws differ by a factor 2."""
    measured, p = growth(law, seed=seed)
    assert measured == expected
    assert not any("std" in text for text in p.remarks)


def test_another_law_is_measured_and_said():
    """Std = width^(-3/4), whose growth 4^(-3/4) is that of no usual law."""
    measured, p = growth(lambda k, s: jax.random.normal(k, s) * s[0] ** -0.75)
    error = (0.5 / 32**2 + 0.5 / 128**2) ** 0.5
    assert abs(np.log(measured / 4**-0.75)) < 5 * error
    assert any("in no usual law: kernel" in text for text in p.remarks)


def test_an_embedding_of_constant_std_is_not_multiplied():
    """Flax's default is 1 / sqrt(features), and normal(1.0) is as common."""

    def tree(width, law):
        key = jax.random.fold_in(KEY, width)
        return {"embed": {"embedding": law(key, (100, width))}}

    by_features = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal", 1, 0)
    for law, factor in ((jinit.normal(1.0), 1), (by_features, 2)):
        base, target = tree(32, law), tree(128, law)
        ratio = mup.infer(base, target).init(target)["embed"]["embedding"]
        ratio = ratio / target["embed"]["embedding"]
        np.testing.assert_allclose(ratio, factor, rtol=1e-6)
        # Shapes alone are taken for Flax's default.
        shapes = jax.eval_shape(lambda law=law: (tree(32, law), tree(128, law)))
        started = mup.infer(*shapes).init(target)
        np.testing.assert_allclose(
            started["embed"]["embedding"], 2 * target["embed"]["embedding"], rtol=1e-6
        )


def test_a_law_that_a_user_names_wins():
    base, target = ({"kernel": jinit.lecun()(KEY, (w, w))} for w in (32, 128))
    p = mup.infer(base, target)
    for laws, factor in (
        (None, 1), ("constant", 0.5), ("fan_in", 1), ([("kernel", "constant")], 0.5),
    ):  # fmt: skip
        ratio = p.init(target, drawn=laws)["kernel"] / target["kernel"]
        np.testing.assert_allclose(ratio, factor, rtol=1e-6)


def test_too_few_numbers_say_so():
    """Four entries have an error of 35 % each: growths of 1 and 1 / 2 look alike."""
    shape = lambda width: (width, 1)  # noqa: E731
    measured, p = growth(jinit.lecun(), shape, (4, 16), seed=1)
    assert measured == 0.5
    assert any("too few numbers" in text and "kernel" in text for text in p.remarks)


@pytest.mark.parametrize(
    "law",
    [jinit.zeros, jinit.ones, lambda k, s: jnp.full(s, jnp.nan)],
)
def test_constants_and_numbers_that_are_not_finite_are_no_draws(law):
    with jax.debug_nans(False):
        measured, p = growth(law)
    assert measured is None and p.init({"kernel": jnp.ones((128, 128))})
    assert np.isfinite(p.init({"kernel": jnp.ones((128, 128))})["kernel"]).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "complex64"])
def test_any_dtype_of_real_or_complex_numbers(dtype):
    def tree(width):
        draw = jax.random.normal(jax.random.fold_in(KEY, width), (width, width))
        return {"kernel": (draw * width**-0.5).astype(dtype)}

    assert mup.infer(tree(32), tree(128)).tensors[0].drawn == 0.5


def test_small_and_large_stds_do_not_overflow():
    for std in (1e-25, 1e25):
        assert growth(lambda k, s, std=std: std * jax.random.normal(k, s))[0] == 1


def test_biases_that_follow_the_inputs_of_their_kernel():
    """PyTorch and Equinox draw a bias with std 1 / sqrt(inputs); muP keeps the std."""

    def tree(width):
        keys = jax.random.split(jax.random.fold_in(KEY, width))
        size = width**-0.5
        return {
            "weight": jax.random.uniform(keys[0], (width, width), minval=-1) * size,
            "bias": jax.random.uniform(keys[1], (width,), minval=-1) * size,
        }

    base, target = tree(128), tree(512)
    started = mup.infer(base, target).init(target)
    np.testing.assert_allclose(started["bias"], 2 * target["bias"], rtol=1e-6)
    np.testing.assert_array_equal(started["weight"], target["weight"])


def test_under_jit_nothing_is_measured():
    @jax.jit
    def started(base, target):
        return mup.infer(base, target).init(target)

    trees = [{"kernel": jinit.normal(1.0)(KEY, (w, w))} for w in (32, 128)]
    np.testing.assert_array_equal(started(*trees)["kernel"], trees[1]["kernel"])


def test_measurements_are_saved_and_equal_shapes_need_none():
    base, target = (drawn(w, kernel=(jinit.normal(1.0), square)) for w in (32, 128))
    p = mup.infer(base, target)
    again = mup.Parametrization.from_dict(p.to_dict())
    assert again == p and again.tensors[0].drawn == 1
    same = mup.infer(base, drawn(32, 1, kernel=(jinit.normal(1.0), square)))
    assert same.is_noop and same.tensors[0].drawn is None
    # Descriptions of version 0.1 know neither measurements nor remarks.
    config = p.to_dict()
    del config["remarks"]
    for tensor in config["tensors"]:
        del tensor["drawn"], tensor["is_folded"]
    assert mup.Parametrization.from_dict(config).tensors[0].drawn is None
