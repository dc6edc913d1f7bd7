"""Schemes draw shapes with symbolic dimensions wherever JAX's initializers do."""

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
    """Return a function of (key, array) as a program for every size."""
    words = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
    array = jax.ShapeDtypeStruct(export.symbolic_shape(*dimensions), np.float32)
    return export.export(jax.jit(function))(words, array).call


def check(inits, dtype, rtol, key):
    draw = exported(lambda k, x: [i(k, x.shape, dtype) for i in inits], "b, c")
    for shape in ((4, 6), (5, 3)):
        drawn = draw(jax.random.key_data(key), np.ones(shape, np.float32))
        for init, array in zip(inits, drawn, strict=True):
            expected = np.asarray(init(key, shape, dtype), np.float32)
            array = np.asarray(array, np.float32)
            np.testing.assert_allclose(array, expected, rtol=rtol, atol=1e-7)


def test_one_program_draws_every_size(key):
    check(list(INITS.values()), "float32", 1e-6, key)
    # The scale of a scheme with fans is traced here, and no cache may keep it.
    check([INITS["he"], INITS["glorot_uniform"]], "bfloat16", 1e-2, key)


@pytest.mark.parametrize(
    "init", [jinit.orthogonal(), jinit.identity(), jinit.transposed(jinit.he())]
)
def test_a_scheme_that_needs_integers_says_so(init):
    with pytest.raises(TypeError, match="dimension b is symbolic"):
        exported(lambda k, x: init(k, x.shape), "b, c")
