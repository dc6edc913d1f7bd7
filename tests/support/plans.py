"""Several tests use these shapes, and these rules for them."""

import jax.numpy as jnp

import jinit
from tests.support.models import Transformer, shapes_of

TOKENS = jnp.zeros((1, 3), int)
SHAPES = shapes_of(Transformer(), TOKENS)
RULES = [
    ("**/embedding", jinit.normal(0.02)),
    ("**/scale", jinit.ones),
    ("**/bias", jinit.zeros),
    ("**/MultiHead*/out/kernel", 0.5 * jinit.lecun(layout="iio")),
    ("**/MultiHead*/*/kernel", jinit.xavier(layout="ioo")),
    ("**/kernel", jinit.he_normal()),
]
KERNELS_AND_ZEROS = [("**/kernel", jinit.he()), ("**", jinit.zeros)]


def stds_of(shapes, rules):
    """Return the standard deviation that a plan gives to each path."""
    return {row["path"]: row["std"] for row in jinit.plan(shapes, rules).rows}
