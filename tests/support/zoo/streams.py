"""Unusual streams: two of them, shared layers, skips that are summed or concatenated.

In plain JAX, and nested scans in Linen.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tests.support.zoo.truth import dense, floats, known, shapes


def mlp(p, x):
    return jax.nn.gelu(x @ p["up"]) @ p["down"]


def rms_norm(x):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def reversible(params, x):
    """Gomez et al. 2017: y1 = x1 + f(x2), y2 = x2 + g(y1)."""
    one, two = jnp.split(x @ params["embed"], 2, axis=-1)
    for p in params["blocks"]:
        one = one + mlp(p["f"], rms_norm(two))
        two = two + mlp(p["g"], rms_norm(one))
    return jnp.concatenate([one, two], axis=-1) @ params["head"]


def perceptron(n, m):
    return {"up": dense(n, m), "down": dense(m, n)}


REVERSIBLE_PARAMS = {
    "embed": dense(5, 16),
    "blocks": [{"f": perceptron(8, 20), "g": perceptron(8, 20)}] * 2,
    "head": dense(16, 3),
}
REVERSIBLE = """
embed  io   5  16  input
blocks/{0,1}/{f,g}/up    io   8  20
blocks/{0,1}/{f,g}/down  io  20   8  residual_output
head   io  16   3  readout
"""


def shared(params, x):
    """ALBERT and universal transformers: one block is used three times."""
    x = x @ params["embed"]
    for _ in range(3):
        x = x + mlp(params["block"], rms_norm(x))
    return x @ params["head"]


SHARED_PARAMS = {
    "embed": dense(5, 8),
    "block": perceptron(8, 20),
    "head": dense(8, 3),
}
SHARED = """
embed       io   5   8  input
block/up    io   8  20
block/down  io  20   8  residual_output
head        io   8   3  readout
"""


def convolve(kernel, x, dilation=1):
    padding = [((kernel.shape[0] - 1) * dilation, 0)]
    return jax.lax.conv_general_dilated(
        x, kernel, (1,), padding, rhs_dilation=(dilation,),
        dimension_numbers=("NWC", "WIO", "NWC"),
    )  # fmt: skip


def wavenet(params, x):
    """Van den Oord et al. 2016: gated dilated windows; the skips are summed."""
    x = convolve(params["input"], x)
    skips = []
    for number, p in enumerate(params["layers"]):
        dilation = 2**number
        h = jnp.tanh(convolve(p["filter"], x, dilation))
        h = h * jax.nn.sigmoid(convolve(p["gate"], x, dilation))
        skips.append(convolve(p["skip"], h))
        x = x + convolve(p["residual"], h)
    return jax.nn.relu(sum(skips)) @ params["output"]


WAVENET_PARAMS = {
    "input": dense(2, 1, 8),
    "layers": [
        {
            "filter": dense(2, 8, 8),
            "gate": dense(2, 8, 8),
            "skip": dense(1, 8, 12),
            "residual": dense(1, 8, 8),
        }
    ]
    * 3,
    "output": dense(12, 4),
}

# Both factors are through activations, so neither is the gate of a gated unit.
# A sum of skips has no stream: none of its terms comes from another by linear steps.
# The last addition to the stream feeds nothing, so layer 2's residual is never used.
WAVENET = """
input   kio   2  16  input convolution
layers/{0,1,2}/filter  kio  16  16  convolution gate? up?
layers/{0,1,2}/gate    kio  16  16  convolution gate? up?
layers/{0,1,2}/skip    kio   8  12  convolution
layers/{0,1}/residual  kio   8   8  convolution residual_output
layers/2/residual      .     .   .  other? residual_output? convolution?
output  io   12   4  readout
"""


def dense_net(params, x):
    """Huang et al. 2017: every layer reads all before it; nothing is added."""
    x = x @ params["stem"]
    for kernel in params["layers"]:
        x = jnp.concatenate([x, jax.nn.relu(x) @ kernel], axis=-1)
    return x @ params["head"]


DENSE_NET = """
stem      io   5   8  input
layers/0  io   8   4
layers/1  io  12   4
layers/2  io  16   4
head      io  20   3  readout
"""


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.gelu(nn.Dense(20, name="up")(nn.LayerNorm(name="norm")(x)))
        return x + nn.Dense(x.shape[-1], name="down")(y)


class Nested(nn.Module):
    """Layers in two nested scans, rematerialized, as nn.remat_scan makes them."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8, name="embed")(x)
        x = nn.remat_scan(Block, lengths=(2, 3))(name="layers")(x)
        return nn.Dense(3, name="head")(x)


NESTED = """
embed/kernel  io   5   8  input
layers/norm/scale  none . . scale
layers/norm/bias   none . . bias
layers/up/kernel   bbio  8  20       # two stacked axes
layers/down/kernel bbio 20   8  residual_output
layers/{up,down}/bias none . . bias
head/kernel   io   8   3  readout
{embed,head}/bias none . . bias
"""


def nested():
    module, x = Nested(), floats(7, 5)
    return known(module, shapes(module.init, x), x, table=NESTED, depth=6)


DENSE_PARAMS = {
    "stem": dense(5, 8),
    "layers": [dense(8, 4), dense(12, 4), dense(16, 4)],
    "head": dense(20, 3),
}
X = floats(7, 5)
MODELS = {
    "reversible": lambda: known(
        reversible, REVERSIBLE_PARAMS, X, table=REVERSIBLE, depth=4
    ),
    "shared block": lambda: known(shared, SHARED_PARAMS, X, table=SHARED, depth=3),
    "wavenet": lambda: known(
        wavenet, WAVENET_PARAMS, floats(2, 9, 1), table=WAVENET, depth=2
    ),
    "densenet": lambda: known(dense_net, DENSE_PARAMS, X, table=DENSE_NET, depth=0),
    "nested scans": nested,
}
