"""A model in penzai, whose axes have names. `models` imports the library."""

from typing import Any

import jax
import jax.numpy as jnp

from tests.support.zoo.truth import Model, known

KEY = jax.random.key(0)

PENZAI = """
first.weights  io   5  16  input
up.weights     io  16  32
down.weights   io  32  16  residual_output
last.weights   io  16   3  readout
"""


def models() -> dict[str, Model]:
    """Return a model in penzai, whose axes have names."""
    from penzai import pz

    def linear(name: str, before: str, n: int, after: str, m: int) -> Any:
        return pz.nn.Linear.from_config(
            name, init_base_rng=KEY, input_axes={before: n}, output_axes={after: m}
        )

    model = pz.nn.Sequential(
        [
            linear("first", "x", 5, "features", 16),
            pz.nn.Residual(
                pz.nn.Sequential(
                    [
                        linear("up", "features", 16, "hidden", 32),
                        pz.nn.Elementwise(jax.nn.gelu),
                        linear("down", "hidden", 32, "features", 16),
                    ]
                )
            ),
            linear("last", "features", 16, "y", 3),
        ]
    )
    x = pz.nx.wrap(jnp.ones((7, 5))).tag("batch", "x")
    return {"a perceptron": known(model, x, table=PENZAI, depth=1)}
