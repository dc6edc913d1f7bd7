"""Models of Equinox, whose weights are (out, in)."""

import jax
import jax.numpy as jnp

from tests.support.integration import KEY, Case, Checks, Widths, library

eqx = library("equinox")

X = jax.random.normal(KEY, (64, 8))


def perceptron(key, width=32):
    return eqx.nn.MLP(8, 4, width, 3, key=key)


def batched(model, x):
    return jax.vmap(model)(x)


def with_arrays(make, width, params):
    """Return a model with other arrays; functions are no leaves of `eval_shape`."""
    model = eqx.filter_eval_shape(make, KEY, width)
    return eqx.combine(params, model)


class TestPerceptron(Checks):
    case = Case(
        draw=perceptron,
        call=lambda model: (batched, model, X),
        table="""
layers/0/weight      oi    8  32  input
layers/{1,2}/weight  oi   32  32
layers/3/weight      oi   32   4  readout
layers/{0,1,2,3}/bias none .   .  bias
""",
        depth=0,
        spoiled="layers/1/weight",
        widths=Widths(
            make=lambda width: (
                lambda key, x: eqx.filter(perceptron(key, width), eqx.is_array),
                lambda params, x: batched(with_arrays(perceptron, width, params), x),
            ),
            sizes=(64, 512),
            x=X,
            target=jnp.sin(X[:, :4]),
            classes={
                "layers/0/weight": "input",
                "layers/1/weight": "hidden",
                "layers/3/weight": "output",
                "layers/1/bias": "vector",
            },
        ),
    )
