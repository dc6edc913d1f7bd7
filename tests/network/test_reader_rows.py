"""Arrays that are stacked, and taken apart again, are read like any other.

JAX wrote `jnp.stack` and the iteration over an array with older operations until its
version 0.10, and has had an operation of its own for each since then.
"""

import functools

import jax
import jax.numpy as jnp
import pytest

import jinit

X = jnp.ones((4, 8))
SQUARE = jnp.ones((8, 8))


def scanned(stack, params, x):
    def step(h, w):
        return jnp.tanh(h @ w["up"].T) @ w["down"].T, None

    stacked = jax.tree.map(lambda *rows: stack(rows), *params)
    return jax.lax.scan(step, x, stacked)[0]


def rotary(stack, params, x):
    def rotated(y):
        even, odd = y[:, ::2], y[:, 1::2]
        return stack([0.8 * even - 0.6 * odd, 0.6 * even + 0.8 * odd]).reshape(y.shape)

    q, k, v = (x @ params[name] for name in "qkv")
    return x + jax.nn.softmax(rotated(q) @ rotated(k).T) @ v @ params["o"]


def by_hand(rows):
    return jnp.concatenate([row[None] for row in rows])


def facts(net):
    return {
        path: (one.layout, one.fans, one.roles, one.inputs, one.members, one.reason)
        for path, one in net.parameters.items()
    }


LAYER = {"up": jnp.ones((16, 8)), "down": jnp.ones((8, 16))}


@pytest.mark.parametrize(
    ("function", "params"),
    [(scanned, [LAYER] * 3), (rotary, dict.fromkeys("qkvo", SQUARE))],
)
def test_stacks(function, params):
    read = [
        jinit.network(functools.partial(function, stack), params, X)
        for stack in (jnp.stack, by_hand)
    ]
    assert facts(read[0]) == facts(read[1])
    assert not any("other" in one.roles for one in read[0].parameters.values())
    counts = [[layer.count for layer in net.layers] for net in read]
    assert counts[0] == counts[1]


def test_parameters_that_are_taken_apart():
    def model(w, x):
        for one in w:
            x = jnp.tanh(x @ one.T)
        return x

    net = jinit.network(model, jnp.ones((3, 8, 8)), X)
    (one,) = net.parameters.values()
    assert (one.layout, one.fans, one.members) == ("boi", (8, 8), 3)
    assert len(net.layers) == 3


def test_data_that_are_taken_apart():
    def model(params, x):
        q, k, v = jnp.moveaxis((x @ params["qkv"]).reshape(4, 3, 8), 1, 0)
        return x + jax.nn.softmax(q @ k.T) @ v @ params["out"]

    net = jinit.network(model, {"qkv": jnp.ones((8, 24)), "out": SQUARE}, X)
    assert {"query", "key", "value"} <= net.parameters["qkv"].roles
    assert {"attention_output", "residual_output"} <= net.parameters["out"].roles
    assert net.depth == 1


def test_autoinit_goes_through_rows():
    def model(params, x):
        first, second = jnp.stack([x @ params["a"], x @ params["a"]])
        return jnp.concatenate([jax.nn.relu(first), second], -1) @ params["b"]

    x = jax.random.normal(jax.random.key(0), (256, 8))
    params = {"a": jnp.ones((8, 64)), "b": jnp.ones((128, 64))}
    params = jinit.plan(params, [("**", jinit.normal(1.0))]).init(jax.random.key(1))
    params, _ = jinit.autoinit(model, params, batch=x)
    # The two halves of the input of `b` depend on each other, which widens the bound.
    assert 0.7 < float(model(params, x).std()) < 1.4
