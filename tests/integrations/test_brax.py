"""The policy and the value of brax's PPO, as its agents make them by default."""

import jax
import jax.numpy as jnp

from tests.support.integration import KEY, Case, Checks, Widths, library

ppo = library("brax.training.agents.ppo.networks", "brax")

X = jax.random.normal(KEY, (64, 8))


def networks(width=32):
    return ppo.make_ppo_networks(
        8, 3, policy_hidden_layer_sizes=(width,) * 4, value_hidden_layer_sizes=(64,) * 5
    )


def policy(width=32):
    net = networks(width).policy_network
    return (lambda key, _=None: net.init(key)), (lambda p, x: net.apply(None, p, x))


def value():
    net = networks().value_network
    return net.init, (lambda p, x: net.apply(None, p, x))


DRAW_POLICY, POLICY = policy()
DRAW_VALUE, VALUE = value()


class TestPolicy(Checks):
    case = Case(
        draw=DRAW_POLICY,
        call=lambda params: (POLICY, params, X),
        table="""
hidden_0/kernel        io   8  32  input
hidden_{1,2,3}/kernel  io  32  32
hidden_4/kernel        io  32   6  readout   # mean and std of three actions
hidden_{0,1,2,3,4}/bias none . .  bias
""",
        depth=0,
        spoiled="hidden_2/kernel",
        # LeCun's std of sqrt(1 / n) before silu, whose slope at 0 is 1 / 2: the signal
        # falls by two a layer, to 1 / 16 behind four of them.
        verdict=("signal shrinks",),
        widths=Widths(
            make=policy,
            sizes=(64, 512),
            x=X,
            target=jnp.sin(X[:, :6]),
            classes={
                "hidden_0/kernel": "input",
                "hidden_1/kernel": "hidden",
                "hidden_4/kernel": "output",
            },
        ),
    )


class TestValue(Checks):
    case = Case(
        draw=DRAW_VALUE,
        call=lambda params: (VALUE, params, X),
        table="""
hidden_0/kernel          io   8  64  input
hidden_{1,2,3,4}/kernel  io  64  64
hidden_5/kernel          io  64   1  readout
""",
        depth=0,
        spoiled="hidden_3/kernel",
        # As in the policy: five layers of LeCun's before silu, 1 / 32.
        verdict=("signal shrinks",),
        # The policy is checked at several widths.
        widths=None,
    )
