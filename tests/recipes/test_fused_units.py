"""A kernel with gate and up in one is refused, and the error shows working rules."""

import re

import jax
import jax.numpy as jnp
import pytest

import jinit
from jinit import recipes
from tests.support.networks import floats

SIZE, INNER = 16, 24
X = floats(2, 5, SIZE)


def layer(p, x):
    q, k, v = x @ p["q"], x @ p["k"], x @ p["v"]
    x = x + jax.nn.softmax(q @ k.mT) @ v @ p["o"]
    gate, up = jnp.split(x @ p["both"], 2, axis=-1)
    return x + (jax.nn.silu(gate) * up) @ p["down"]


def params(*before):
    square = dict.fromkeys("qkvo", floats(*before, SIZE, SIZE))
    both, down = floats(*before, SIZE, 2 * INNER), floats(*before, INNER, SIZE)
    return square | {"both": both, "down": down}


def separate():
    def model(p, x):
        return layer(p[1], layer(p[0], x))

    return jinit.network(model, [params()] * 2, X)


def scanned():
    def model(p, x):
        return jax.lax.scan(lambda x, one: (layer(one, x), None), x, p)[0]

    return jinit.network(model, params(2), X)


def followed(net, recipe, kernels=2):
    """Return the plan with the rules that the errors show, and nothing else."""
    rules = []
    for _ in range(kernels):
        with pytest.raises(ValueError, match="both halves of a gated unit") as raised:
            jinit.plan(net, [*rules, *recipe])
        shown = re.search(r"recipe's: (\(.*\))\. The gate", str(raised.value))
        rules.append(eval(shown[1], {"jinit": jinit}))
    return jinit.plan(net, [*rules, *recipe])


def test_the_rules_of_the_error_work(key):
    drawn = followed(separate(), recipes.llama3()).init(key)
    for index, one in enumerate(drawn):
        gate, up = jnp.split(one["both"], 2, axis=-1)
        # 4 standard errors of the std of n normal numbers.
        bound = 4 / (2 * gate.size) ** 0.5
        assert float(gate.std()) == pytest.approx(0.02, rel=bound)
        expected = 0.02 / (2 * (index + 1)) ** 0.5
        assert float(up.std()) == pytest.approx(expected, rel=bound)


def test_the_rules_of_the_error_work_for_scanned_layers(key):
    both = followed(scanned(), recipes.llama3(), 1).init(key)["both"]
    for index in range(2):
        up = both[index, :, INNER:]
        expected = 0.02 / (2 * (index + 1)) ** 0.5
        assert float(up.std()) == pytest.approx(expected, rel=4 / (2 * up.size) ** 0.5)


def test_a_pattern_does_not_say_which_half_is_which():
    error = "(?s)both halves.*leave `up` out: \\('0/both', jinit.blocks"
    for recipe in (recipes.llama3, recipes.deepseek_v3):
        with pytest.raises(ValueError, match=error):
            jinit.plan(separate(), recipe(up="**/both"))


def test_olmo_shows_its_own_laws(key):
    one = followed(separate(), recipes.olmo(method="llama")).init(key)[0]["both"]
    # 1 / sqrt(2 L) for 2 layers; 0.9866 is the std of what is cut at 3 sigma.
    for half, factor in zip(jnp.split(one, 2, axis=-1), (1, 0.5), strict=True):
        expected = 0.9866 * 0.02 * factor
        bound = 4 / (2 * half.size) ** 0.5
        assert float(half.std()) == pytest.approx(expected, rel=bound)
