"""Recurrent cells: Flax's LSTM and GRU under nn.RNN, and LSTMs by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tests.support.zoo.truth import dense, floats, known, shapes

FEATURES, WIDTH, OUTPUTS = 5, 8, 3
X = floats(2, 6, FEATURES)


class Recurrent(nn.Module):
    cell: type

    @nn.compact
    def __call__(self, x):
        y = nn.RNN(self.cell(WIDTH, name="cell"), name="rnn")(x)
        return nn.Dense(OUTPUTS, name="head")(y[:, -1])


def of(cell, table):
    module = Recurrent(cell)
    return known(module, shapes(module.init, X), X, table=table, depth=0)


# Whether sigmoid(x W + h U) tanh(x V + h W) is a gated unit is a matter of taste.
LSTM = """
cell/i{i,f,g,o}/kernel  io  5  8  input gate? up?
cell/h{i,f,g,o}/kernel  io  8  8  recurrent gate? up?    # h is the carry
cell/h{i,f,g,o}/bias    none .  .  bias
head/kernel  io   8  3  readout
head/bias    none .  .  bias
"""

GRU = """
cell/i{r,z,n}/kernel  io  5  8  input gate? up?
cell/h{r,z,n}/kernel  io  8  8  recurrent gate? up?
cell/i{r,z,n}/bias    none .  .  bias
cell/hn/bias          none .  .  bias
head/kernel  io   8  3  readout
head/bias    none .  .  bias
"""


def cell(gates, c):
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = jax.nn.sigmoid(f + 1) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def scanned(step, params, x):
    start = jnp.zeros((x.shape[0], WIDTH)), jnp.zeros((x.shape[0], WIDTH))
    (h, _), _ = jax.lax.scan(step, start, jnp.swapaxes(x, 0, 1))
    return h @ params["readout"]


def two_kernels(params, x):
    """Gates from x W + h U."""

    def step(carry, now):
        h, c = carry
        h, c = cell(now @ params["W"] + h @ params["U"] + params["b"], c)
        return (h, c), None

    return scanned(step, params, x)


def one_kernel(params, x):
    """Gates from [x, h] W: one kernel is both, as in Haiku's cell."""

    def step(carry, now):
        h, c = carry
        h, c = cell(jnp.concatenate([now, h], -1) @ params["W"] + params["b"], c)
        return (h, c), None

    return scanned(step, params, x)


def ahead(params, x):
    """The inputs of all steps meet their kernel before the scan."""
    inputs = x @ params["W"] + params["b"]

    def step(carry, now):
        h, c = cell(now + carry[0] @ params["U"], carry[1])
        return (h, c), None

    return scanned(step, params, inputs)


TWO = """
W        io   5  32  input gate? up?
U        io   8  32  recurrent gate? up?
b        none .   .  bias
readout  io   8   3  readout
"""

ONE = """
W        io  13  32  recurrent input? gate? up?   # x and h, concatenated
b        none .   .  bias
readout  io   8   3  readout
"""

PARAMS = {
    "W": dense(FEATURES, 4 * WIDTH),
    "U": dense(WIDTH, 4 * WIDTH),
    "b": dense(1, 4 * WIDTH),
    "readout": dense(WIDTH, OUTPUTS),
}
CONCATENATED = {
    "W": dense(FEATURES + WIDTH, 4 * WIDTH),
    "b": PARAMS["b"],
    "readout": PARAMS["readout"],
}
MODELS = {
    "lstm in Flax": lambda: of(nn.LSTMCell, LSTM),
    "optimized lstm in Flax": lambda: of(nn.OptimizedLSTMCell, LSTM),
    "gru in Flax": lambda: of(nn.GRUCell, GRU),
    "lstm, two kernels": lambda: known(two_kernels, PARAMS, X, table=TWO, depth=0),
    "lstm, one kernel": lambda: known(one_kernel, CONCATENATED, X, table=ONE, depth=0),
    "lstm, inputs ahead": lambda: known(ahead, PARAMS, X, table=TWO, depth=0),
}
