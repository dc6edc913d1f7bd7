"""Kernels that are made of others, or of data, in plain JAX."""

import functools

import jax
import jax.numpy as jnp

from tests.support.zoo.truth import dense, floats, known


def siren(params, x):
    """Sitzmann et al. 2020: sin(30 (x W + b))."""
    *hidden, last = params
    for p in hidden:
        x = jnp.sin(30.0 * (x @ p["w"] + p["b"]))
    return x @ last["w"] + last["b"]


SIREN = """
0/w  io  2  16  input
1/w  io  16 16
2/w  io  16  3  readout
{0,1,2}/b none . . bias
"""


def layer(n, m):
    return {"w": dense(n, m), "b": dense(1, m)}


def weight_norm(params, x):
    """Salimans & Kingma 2016: w = g v / |v|, a norm over the inputs."""
    for p in params[:-1]:
        norm = jnp.sqrt(jnp.sum(p["v"] ** 2, axis=0, keepdims=True))
        x = jax.nn.relu(x @ (p["g"] * p["v"] / norm) + p["b"])
    return x @ params[-1]["w"]


WEIGHT_NORM = """
0/v  io  6   8  input
1/v  io  8  10
{0,1}/g  none . . scale|other
{0,1}/b  none . . bias
2/w  io  10  3  readout
"""


def normed(n, m):
    return {"v": dense(n, m), "g": dense(1, m), "b": dense(1, m)}


def equalized(params, x):
    """Karras et al. 2018: unit weights, divided by sqrt(fan_in) in the layer."""
    first, second = params
    x = jax.nn.leaky_relu(x @ (first * (2.0 / 6) ** 0.5), 0.2)
    return x @ (second / jnp.sqrt(second.shape[0]))


EQUALIZED = """
0  io  6  8  input
1  io  8  3  readout
"""


def lora_merged(params, x):
    """Hu et al. 2021, merged: x (W + B A)."""
    h = jax.nn.relu(x @ params["first"])
    w = params["base"] + 0.5 * params["a"] @ params["b"]
    return jax.nn.relu(h @ w) @ params["last"]


def lora_beside(params, x):
    """The same in two products: x W + (x A) B."""
    h = jax.nn.relu(x @ params["first"])
    h = h @ params["base"] + 0.5 * (h @ params["a"]) @ params["b"]
    return jax.nn.relu(h) @ params["last"]


# By its form h W + (h A) B is a sum with a shortcut W, or two linear maps of one value.
LORA = """
first  io  6  8  input
base   io  8 10
a      io  8  2
b      io  2 10  residual_output?
last   io 10  3  readout
"""


def hypernetwork(params, x, context):
    """The kernel of the first layer is data: it is made from a context."""
    h = jax.nn.relu(context @ params["embed"])
    kernel = (h @ params["generate"]).reshape(len(x), x.shape[-1], 7)
    bias = h @ params["generate_bias"]
    y = jax.nn.relu(jnp.einsum("bi,bio->bo", x, kernel) + bias)
    return y @ params["head"]


HYPER = """
embed          io   4   9  input
generate       io   9  42            # its outputs are the 6 x 7 entries of a kernel
generate_bias  io   9   7
head           io   7   3  readout input?  # x is in the product of two data values
"""


def member(params, x):
    for p in params[:-1]:
        x = jax.nn.tanh(x @ p["w"] + p["b"])
    return x @ params[-1]["w"] + params[-1]["b"]


def ensemble(params, x):
    """Members read the same inputs: the axis of members is batched later only."""
    return jax.vmap(member, (0, None))(params, x)


ENSEMBLE = """
0/w  bio  6   8  input
1/w  bio  8  10
2/w  bio 10   3  readout
{0,1,2}/b none . . bias
"""


def modulated(params, image, style):
    """StyleGAN2: a convolution whose kernel is scaled by a style, and demodulated."""

    def one(image, scales):
        w = params["weight"] * scales[None, None, :, None]
        w = w * jax.lax.rsqrt(jnp.sum(w**2, axis=(0, 1, 2), keepdims=True) + 1e-8)
        return jax.lax.conv_general_dilated(
            image[None], w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )[0]

    image = image @ params["from_rgb"]
    scales = style @ params["affine"] + 1.0
    return jax.nn.leaky_relu(jax.vmap(one)(image, scales)) @ params["to_rgb"]


MODULATED = """
from_rgb  io    3   6  input
affine    io    4   6  input residual_output? gate? up?
weight    kkio 54  72  convolution  # 9 x 6
to_rgb    io    8   3  readout
"""


def one_product(params, x):
    """Multiply and sum: a dot product without one."""
    return jnp.sum(x[:, :, None] * params["w"][None], axis=1)


ONE = """
w  io  6  3  input readout
"""


X = floats(10, 6)
ENSEMBLE_PARAMS = jax.tree.map(
    lambda a: dense(4, *a.shape), [layer(6, 8), layer(8, 10), layer(10, 3)]
)
LORA_PARAMS = {
    "first": dense(6, 8),
    "base": dense(8, 10),
    "a": dense(8, 2),
    "b": dense(2, 10),
    "last": dense(10, 3),
}
HYPER_PARAMS = {
    "embed": dense(4, 9),
    "generate": dense(9, 42),
    "generate_bias": dense(9, 7),
    "head": dense(7, 3),
}
MODULATED_PARAMS = {
    "from_rgb": dense(3, 6),
    "affine": dense(4, 6),
    "weight": dense(3, 3, 6, 8),
    "to_rgb": dense(8, 3),
}
entry = functools.partial
MODELS = {
    "siren": entry(
        known, siren, [layer(2, 16), layer(16, 16), layer(16, 3)], floats(9, 2),
        table=SIREN, depth=0,
    ),
    "weight norm": entry(
        known, weight_norm, [normed(6, 8), normed(8, 10), {"w": dense(10, 3)}], X,
        table=WEIGHT_NORM, depth=0,
    ),
    "equalized learning rate": entry(
        known, equalized, [dense(6, 8), dense(8, 3)], X, table=EQUALIZED, depth=0
    ),
    "lora, merged": entry(known, lora_merged, LORA_PARAMS, X, table=LORA, depth=0),
    "lora, beside": entry(known, lora_beside, LORA_PARAMS, X, table=LORA, depth=None),
    "hypernetwork": entry(
        known, hypernetwork, HYPER_PARAMS, X, floats(10, 4), table=HYPER, depth=0
    ),
    "ensemble": entry(known, ensemble, ENSEMBLE_PARAMS, X, table=ENSEMBLE, depth=0),
    "modulated convolution": entry(
        known, modulated, MODULATED_PARAMS, floats(2, 8, 8, 3), floats(2, 4),
        table=MODULATED, depth=0,
    ),
    "one product": entry(known, one_product, {"w": dense(6, 3)}, X, table=ONE, depth=0),
}  # fmt: skip
