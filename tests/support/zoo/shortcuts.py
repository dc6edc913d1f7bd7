"""Residual additions of many forms. In plain JAX."""

import jax
import jax.numpy as jnp

from tests.support.zoo.truth import dense, floats, known

WIDTH, HIDDEN = 8, 20


def norm(x):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def mlp(p, x):
    return jnp.square(jax.nn.relu(x @ p["up"])) @ p["down"]


def model(block):
    def forward(params, x, *others):
        x = x @ params["embed"]
        for p in params["blocks"]:
            x = block(p, x, *others)
        return norm(x) @ params["head"]

    return forward


def params(**more):
    block = {"up": dense(WIDTH, HIDDEN), "down": dense(HIDDEN, WIDTH), **more}
    return {"embed": dense(5, WIDTH), "blocks": [block] * 2, "head": dense(WIDTH, 3)}


TABLE = """
embed  io   5   8  input
blocks/{0,1}/up    io   8  20
blocks/{0,1}/down  io  20   8  residual_output
head   io   8   3  readout
"""


def sandwich(p, x):
    """Gemma 2: a norm before and behind the branch."""
    return x + norm(mlp(p, norm(x))) * (1 + p["scale"])


def rezero(p, x):
    """Bachlechner et al. 2020: a learned number, at first 0."""
    return x + p["alpha"] * mlp(p, x)


def drop_path(p, x, keep):
    """Huang et al. 2016: whole branches are dropped, by data that stands for draws."""
    return x + jnp.where(keep[:, None], mlp(p, norm(x)) / 0.9, 0.0)


def skipped(p, x, keep):
    """The same by a choice between the stream and the sum."""
    return jnp.where(keep[:, None], x + mlp(p, norm(x)), x)


def scattered(p, x):
    return x.at[:].add(mlp(p, norm(x)))


def subtracted(p, x):
    return x - mlp(p, norm(x))


def mixed(p, x):
    """A convex sum by learned numbers, as in speedruns of GPT-2."""
    return p["lambdas"][0] * x + p["lambdas"][1] * mlp(p, norm(x))


def gated(p, x):
    """Srivastava et al. 2015: x (1 - t) + h t, with t from the stream."""
    t = jax.nn.sigmoid(x @ p["carry"])
    return x * (1 - t) + mlp(p, x) * t


def conditional(p, x, keep):
    return jax.lax.cond(keep[0], lambda x: x + mlp(p, norm(x)), lambda x: x, x)


def macaron(p, x):
    """Conformer: half of a branch."""
    return x + 0.5 * mlp(p, norm(x))


def padded(params, x):
    """ResNet's option A: the shortcut skips places, and has zeros for new channels."""

    def convolve(kernel, x, stride=1):
        return jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    x = convolve(params["stem"], x)
    y = convolve(params["conv2"], jax.nn.relu(convolve(params["conv1"], x, 2)))
    shortcut = jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (4, 4)))
    x = jax.nn.relu(shortcut + y)
    y = convolve(params["conv4"], jax.nn.relu(convolve(params["conv3"], x, 2)))
    pooled = jax.lax.reduce_window(
        x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
    )
    return (pooled / 4 + y).mean(axis=(1, 2)) @ params["head"]


PADDED_PARAMS = {
    "stem": dense(3, 3, 3, 8),
    "conv1": dense(3, 3, 8, 16),
    "conv2": dense(3, 3, 16, 16),
    "conv3": dense(3, 3, 16, 16),
    "conv4": dense(3, 3, 16, 16),
    "head": dense(16, 4),
}
PADDED = """
stem   kkio   27   72  input convolution
conv1  kkio   72    .  convolution
conv2  kkio  144  144  convolution residual_output
conv3  kkio  144    .  convolution
conv4  kkio  144  144  convolution residual_output   # behind an average pool
head   io     16    4  readout
"""


def residual_values(params, x):
    """Values are mixed with those of the first block, and streams with the first."""
    x = norm(x @ params["embed"])
    start, values = x, None
    for p in params["blocks"]:
        x = p["lambdas"][0] * x + p["lambdas"][1] * start
        h = norm(x)
        v = h @ p["v"]
        values = v if values is None else values
        v = p["lambdas"][2] * v + p["lambdas"][3] * values
        q, k = norm(h @ p["q"]), norm(h @ p["k"])
        x = x + jax.nn.softmax(12.0 * q @ jnp.swapaxes(k, 1, 2)) @ v @ p["o"]
        x = x + mlp(p, norm(x))
    return 30.0 * jnp.tanh(norm(x) @ params["head"] / 30.0)


VALUES = (
    TABLE
    + """
blocks/{0,1}/q  io  8  8  query
blocks/{0,1}/k  io  8  8  key
blocks/{0,1}/v  io  8  8  value residual_output?
blocks/{0,1}/o  io  8  8  attention_output residual_output
blocks/{0,1}/lambdas  .  .  .  scale|other
"""
)

SCALE = "blocks/{0,1}/%s  .  .  .  scale|other"
X, KEEP = floats(7, 5), floats(7)
SQUARES = {name: dense(WIDTH, WIDTH) for name in "qkvo"}


def of(block, *others, table=TABLE, depth=2, **more):
    return lambda: known(
        model(block), params(**more), X, *others, table=table, depth=depth
    )


BOOLEANS = jax.ShapeDtypeStruct((7,), bool)
MODELS = {
    "sandwich norms": of(
        sandwich, table=TABLE + SCALE % "scale", scale=dense(WIDTH)
    ),
    "rezero": of(rezero, table=TABLE + SCALE % "alpha", alpha=dense()),
    "drop path": of(drop_path, BOOLEANS),
    "skipped branches": of(skipped, BOOLEANS),
    "scattered sum": of(scattered),
    "difference": of(subtracted),
    "learned mixtures": of(mixed, table=TABLE + SCALE % "lambdas", lambdas=dense(2)),
    # By a factor (1 - t) that depends on the stream the sum is no plain residual one.
    "highway": of(
        gated,
        table=TABLE.replace("residual_output", "residual_output? gate? up?")
        + "blocks/{0,1}/carry io 8 8 gate? up? residual_output?",
        depth=None,
        carry=dense(WIDTH, WIDTH),
    ),
    "conditional branches": of(conditional, BOOLEANS),
    "half branches": of(macaron),
    "shortcuts without parameters": lambda: known(
        padded, PADDED_PARAMS, floats(2, 8, 8, 3), table=PADDED, depth=2
    ),
    # The sums of streams with the first stream have no product on them.
    "residual values": lambda: known(
        residual_values, params(**SQUARES, lambdas=dense(4)), floats(2, 6, 5),
        table=VALUES, depth=None,
    ),
}  # fmt: skip
