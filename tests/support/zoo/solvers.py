"""Layers that are solved for: fixed points, differential equations, inner loops."""

import jax
import jax.numpy as jnp
from jax.experimental import ode

from tests.support.zoo.truth import dense, floats, known

X = floats(7, 6)
PARAMS = {
    "first": dense(6, 8),
    "square": dense(8, 8),
    "inject": dense(8, 8),
    "last": dense(8, 3),
}
# The kernel of a loop multiplies what the loop carries.
TABLE = """
first   io  6  8  input
square  io  8  8  recurrent? residual_output?
inject  io  8  8  residual_output? recurrent?
last    io  8  3  readout
"""


def cell(p, z, x):
    return jnp.tanh(z @ p["square"] + x @ p["inject"])


def fixed_point(function, start):
    """Iterate until nothing moves; the gradient is that of the solution."""

    @jax.custom_vjp
    def solve(arguments, start):
        def goes_on(state):
            number, old, new = state
            return (number < 20) & (jnp.max(jnp.abs(new - old)) > 1e-4)

        def step(state):
            number, _, z = state
            return number + 1, z, function(arguments, z)

        first = 0, start, function(arguments, start)
        return jax.lax.while_loop(goes_on, step, first)[2]

    def forward(arguments, start):
        z = solve(arguments, start)
        return z, (arguments, z)

    def backward(saved, slope):
        arguments, z = saved
        pull = jax.vjp(lambda a: function(a, z), arguments)[1]
        return *pull(slope), jnp.zeros_like(z)

    solve.defvjp(forward, backward)
    return lambda arguments: solve(arguments, start)


def equilibrium(params, x):
    """Bai et al. 2019: z = f(z, x)."""
    x = x @ params["first"]
    solve = fixed_point(lambda a, z: cell(a[0], z, a[1]), jnp.zeros_like(x))
    return solve((params, x)) @ params["last"]


def flow(params, x):
    """Chen et al. 2018: the state moves along a learned field."""
    x = x @ params["first"]

    def field(z, t, square, inject):
        return jnp.tanh(z @ square + t) @ inject

    path = ode.odeint(
        field, x, jnp.linspace(0.0, 1.0, 3), params["square"], params["inject"]
    )
    return path[-1] @ params["last"]


def steps(params, x):
    """The same by ten steps of Euler: each adds to the state."""
    x = x @ params["first"]

    def step(z, t):
        return z + 0.1 * jnp.tanh(z @ params["square"] + t) @ params["inject"], None

    x, _ = jax.lax.scan(step, x, jnp.linspace(0.0, 0.9, 10))
    return x @ params["last"]


STEPS = """
first   io  6  8  input
square  io  8  8  recurrent?
inject  io  8  8  residual_output
last    io  8  3  readout
"""


MODELS = {
    "equilibrium": lambda: known(equilibrium, PARAMS, X, table=TABLE, depth=None),
    "differential equation": lambda: known(flow, PARAMS, X, table=TABLE, depth=None),
    "steps of Euler": lambda: known(steps, PARAMS, X, table=STEPS, depth=10),
}
