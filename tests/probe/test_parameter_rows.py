"""`probe`: the rows of parameters."""

import jax.numpy as jnp

import jinit


def test_zeros_with_a_gradient_have_no_ratio():
    def biased(variables, x):
        return x @ variables["w"] + variables["b"][None]

    variables = {"w": jnp.ones((3, 2)), "b": jnp.zeros(2)}
    report = jinit.probe(biased, variables, jnp.eye(3), loss=lambda y: (y**2).sum())
    ratios = {row["path"]: row["grad_ratio"] for row in report.parameters}
    assert ratios["b"] is None and ratios["w"] > 0
