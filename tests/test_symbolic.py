"""Shapes with the symbolic dimensions of `jax.export`, where JAX's initializers go."""

import jax
import numpy as np
import pytest
from jax import export

import jinit

INITS = {
    "zeros": jinit.zeros,
    "constant": jinit.constant([1.0]),
    "normal": jinit.normal(),
    "uniform": jinit.uniform(),
    "truncated_normal": jinit.truncated_normal(),
    "he_normal": jinit.he_normal(),
    "glorot_uniform": jinit.glorot_uniform(),
    "variance_scaling": jinit.variance_scaling(2.0, "fan_geo_avg", "normal"),
    "he": jinit.he(),
    "he[fan_geo_avg]": jinit.he(mode="fan_geo_avg"),
    "lecun": jinit.lecun(distribution="uniform"),
    "scaled": 0.5 * jinit.he(),
}


def exported(function, *dimensions):
    """A function of (key, array) as a program for every size of the dimensions."""
    words = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
    array = jax.ShapeDtypeStruct(export.symbolic_shape(*dimensions), np.float32)
    return export.export(jax.jit(function))(words, array).call


def test_one_program_draws_every_size(key):
    # The laws of fans are traced numbers here, which no cache may keep: so twice.
    for dtype in ("float32", "bfloat16"):
        draw = exported(
            lambda k, x, dtype=dtype: {
                name: init(k, x.shape, dtype) for name, init in INITS.items()
            },
            "b, c",
        )
        for shape in ((4, 6), (5, 3)):
            words = jax.random.key_data(key)
            drawn = draw(words, np.ones(shape, np.float32))
            for name, init in INITS.items():
                values = [np.asarray(x, np.float32) for x in (
                    drawn[name], init(key, shape, dtype))]  # fmt: skip
                rtol = 1e-6 if dtype == "float32" else 1e-2
                np.testing.assert_allclose(*values, rtol=rtol, atol=1e-7)


@pytest.mark.parametrize(
    "init", [jinit.orthogonal(), jinit.identity(), jinit.transposed(jinit.he())]
)
def test_a_scheme_that_needs_integers_says_so(init):
    with pytest.raises(TypeError, match="dimension b is symbolic"):
        exported(lambda k, x: init(k, x.shape), "b, c")
