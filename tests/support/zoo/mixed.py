"""Models between the families: codebooks, token shifts, spectra, two directions."""

import jax
import jax.numpy as jnp

from tests.support.zoo.truth import dense, floats, known, tokens

WIDTH, LENGTH = 8, 6


def norm(x):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def codebook(params, x):
    """Van den Oord et al. 2017: the nearest code takes the place of a vector."""
    z = jax.nn.relu(x @ params["encode"]) @ params["narrow"]
    codes = params["codes"]
    distances = (
        jnp.sum(z**2, -1, keepdims=True)
        - 2 * z @ codes.T
        + jnp.sum(codes**2, axis=-1)[None]
    )
    code = codes[jnp.argmin(distances, axis=-1)]
    code = z + jax.lax.stop_gradient(code - z)
    return jax.nn.relu(code @ params["widen"]) @ params["decode"]


CODEBOOK_PARAMS = {
    "encode": dense(5, 16),
    "narrow": dense(16, 4),
    "codes": dense(32, 4),
    "widen": dense(4, 16),
    "decode": dense(16, 5),
}
# z + (code - z) has the form of a residual addition, without a product on the branch.
CODEBOOK = """
encode  io   5  16  input
narrow  io  16   4
codes   .    .   .  embedding bias?  # looked up; its squares are added
widen   io   4  16
decode  io  16   5  readout
"""


def token_shift(params, ids):
    """RWKV: each token is mixed with the one before; a decay in place of attention."""
    x = params["embed"][ids]

    def shifted(p, name, x):
        before = jnp.pad(x, ((0, 0), (1, 0), (0, 0)))[:, :-1]
        return x * p[name] + before * (1 - p[name])

    for p in params["blocks"]:
        h = norm(x)
        k = jnp.exp(shifted(p, "mix_k", h) @ p["key"])
        v = shifted(p, "mix_v", h) @ p["value"]
        r = jax.nn.sigmoid(shifted(p, "mix_r", h) @ p["receptance"])

        def step(state, now, p=p):
            total, weight = state
            k, v = now
            decay = jnp.exp(-jnp.exp(p["decay"]))
            total, weight = decay * total + k * v, decay * weight + k
            return (total, weight), total / weight

        zeros = jnp.zeros((x.shape[0], WIDTH))
        pairs = jnp.swapaxes(k, 0, 1), jnp.swapaxes(v, 0, 1)
        _, y = jax.lax.scan(step, (zeros, zeros), pairs)
        x = x + (r * jnp.swapaxes(y, 0, 1)) @ p["output"]
        h = norm(x)
        k = jnp.square(jax.nn.relu(shifted(p, "mix_f", h) @ p["up"]))
        x = x + k @ p["down"]
    return norm(x) @ params["head"]


SHIFT_PARAMS = {
    "embed": dense(40, WIDTH),
    "blocks": [
        {
            **{f"mix_{name}": dense(WIDTH) for name in "kvrf"},
            **{
                n: dense(WIDTH, WIDTH) for n in ("key", "value", "receptance", "output")
            },
            "decay": dense(WIDTH),
            "up": dense(WIDTH, 20),
            "down": dense(20, WIDTH),
        }
    ]
    * 2,
    "head": dense(WIDTH, 40),
}
# Nothing passes a softmax, so no key and no value is claimed. r y is a gated unit by
# its form. Mixtures with the token before are entry by entry.
SHIFT = """
embed  io   .   .  embedding
blocks/{0,1}/mix_{k,v,r,f}  none  .  .  scale|other
blocks/{0,1}/decay          none  .  .  scale|other|recurrent
blocks/{0,1}/key         io  8   8  gate? up?
blocks/{0,1}/value       io  8   8  gate? up?
blocks/{0,1}/receptance  io  8   8  gate? up?
blocks/{0,1}/output      io  8   8  residual_output
blocks/{0,1}/up          io  8  20
blocks/{0,1}/down        io 20   8  residual_output
head   io   8  40  readout
"""


def spectrum(params, x):
    """Lee-Thorp et al. 2022 mixes by FFT; Hyena filters by one that is learned."""
    x = x @ params["embed"]
    x = x + jnp.fft.fft2(norm(x), axes=(-2, -1)).real / 8
    filters = jnp.fft.rfft(params["filter"], n=2 * LENGTH, axis=0)
    h = jnp.fft.rfft(norm(x) @ params["in"], n=2 * LENGTH, axis=1)
    h = jnp.fft.irfft(h * filters[None], n=2 * LENGTH, axis=1)[:, :LENGTH]
    x = x + h @ params["out"]
    return x.mean(axis=1) @ params["head"]


SPECTRUM_PARAMS = {
    "embed": dense(5, WIDTH),
    "in": dense(WIDTH, WIDTH),
    "filter": dense(LENGTH, WIDTH),
    "out": dense(WIDTH, WIDTH),
    "head": dense(WIDTH, 3),
}
SPECTRUM = """
embed   io   5  8  input
in      io   8  8
filter  none .  .  other           # a convolution in the domain of frequencies
out     io   8  8  residual_output
head    io   8  3  readout
"""


def gru(p, x, h):
    r, z = jnp.split(jax.nn.sigmoid(x @ p["W"] + h @ p["U"]), 2, axis=-1)
    n = jnp.tanh(x @ p["V"] + (r * h) @ p["R"])
    return (1 - z) * n + z * h


def two_directions(params, ids):
    """A GRU from the left and one from the right, under one vmap, and a decoder."""
    x = params["embed"][ids]

    def run(p, x):
        def step(h, now):
            h = gru(p, now, h)
            return h, h

        return jax.lax.scan(step, jnp.zeros((x.shape[1], WIDTH)), x)[1]

    left = jnp.swapaxes(x, 0, 1)
    both = jax.vmap(run)(params["cells"], jnp.stack([left, left[::-1]]))
    y = jnp.concatenate([both[0], both[1][::-1]], axis=-1)
    return y[-1] @ params["head"]


DIRECTIONS_PARAMS = {
    "embed": dense(40, 5),
    "cells": {
        "W": dense(2, 5, 16),
        "U": dense(2, WIDTH, 16),
        "V": dense(2, 5, WIDTH),
        "R": dense(2, WIDTH, WIDTH),
    },
    "head": dense(16, 3),
}
DIRECTIONS = """
embed    io   .   .  embedding
cells/W  bio  5  16  gate? up?
cells/U  bio  8  16  recurrent gate? up?
cells/V  bio  5   8  gate? up?
cells/R  bio  8   8  recurrent gate? up?
head     io  16   3  readout
"""


def rays(params, points, directions):
    """Mildenhall et al. 2020: Fourier features, a skip by concatenation, two heads."""

    def features(x):
        x = x[..., None] * 2.0 ** jnp.arange(4)
        return jnp.concatenate([jnp.sin(x), jnp.cos(x)], -1).reshape(len(x), -1)

    start = features(points)
    x = start
    for number, p in enumerate(params["layers"]):
        x = jax.nn.relu(x @ p["w"] + p["b"])
        if number == 1:
            x = jnp.concatenate([x, start], axis=-1)
    density = x @ params["density"]
    h = jnp.concatenate([x @ params["feature"], features(directions)], axis=-1)
    return jax.nn.sigmoid(jax.nn.relu(h @ params["view"]) @ params["color"]), density


RAYS_PARAMS = {
    "layers": [
        {"w": dense(24, 16), "b": dense(16)},
        {"w": dense(16, 16), "b": dense(16)},
        {"w": dense(40, 16), "b": dense(16)},
    ],
    "density": dense(16, 1),
    "feature": dense(16, 16),
    "view": dense(40, 8),
    "color": dense(8, 3),
}
# Two matrices read features of the data beside those of a layer before.
RAYS = """
layers/0/w  io  24  16  input
layers/1/w  io  16  16
layers/2/w  io  40  16  input?
layers/{0,1,2}/b none . . bias
density     io  16   1  readout
feature     io  16  16
view        io  40   8  input?
color       io   8   3  readout
"""


def chosen_tokens(params, x):
    """Zhou et al. 2022: experts choose their tokens, by gather, and scatter back."""
    x = x @ params["embed"]
    h = norm(x)
    scores = jax.nn.softmax(h @ params["router"], axis=-1)
    weights, index = jax.lax.top_k(scores.T, 3)
    rows = jnp.take(h, index, axis=0)
    y = jax.nn.relu(jnp.einsum("ecd,edm->ecm", rows, params["up"]))
    y = jnp.einsum("ecm,emd->ecd", y, params["down"]) * weights[..., None]
    x = x + jnp.zeros_like(x).at[index.reshape(-1)].add(y.reshape(-1, WIDTH))
    return x @ params["head"]


CHOSEN_PARAMS = {
    "embed": dense(5, WIDTH),
    "router": dense(WIDTH, 4),
    "up": dense(4, WIDTH, 20),
    "down": dense(4, 20, WIDTH),
    "head": dense(WIDTH, 3),
}
CHOSEN = """
embed   io   5   8  input
router  io   8   4  router
up      bio  8  20  expert
down    bio 20   8  expert residual_output
head    io   8   3  readout
"""


def bilinear(params, x, y):
    """A form of two inputs: each output is x W y."""
    h = jnp.tanh(jnp.einsum("bi,oij,bj->bo", x, params["W"], y))
    return h @ params["head"]


# The letters of axes 1 and 2 are both inputs; the first product contracts one of them.
BILINEAR = """
W     .   .  .  input
head  io  9  3  readout
"""


def relative(params, ids):
    """Shaw et al. 2018: embeddings of distances meet the queries."""
    x = params["embed"][ids]
    h = norm(x)
    q, k, v = h @ params["q"], h @ params["k"], h @ params["v"]
    distance = jnp.arange(LENGTH)[None, :] - jnp.arange(LENGTH)[:, None]
    places = params["places"][jnp.clip(distance, -3, 3) + 3]
    logits = jnp.einsum("btk,bsk->bts", q, k) + jnp.einsum("btk,tsk->bts", q, places)
    y = jax.nn.softmax(logits / WIDTH**0.5, axis=-1) @ v
    return (x + y @ params["o"]) @ params["embed"].T


RELATIVE_PARAMS = {
    "embed": dense(40, WIDTH),
    **{name: dense(WIDTH, WIDTH) for name in "qkvo"},
    "places": dense(7, WIDTH),
}
RELATIVE = """
embed   io  .  .  embedding readout
q       io  8  8  query
k       io  8  8  key
v       io  8  8  value
o       io  8  8  attention_output residual_output
places  .   .  .  embedding? key? other? gate? up?  # q meets rows
"""

X = floats(7, 5)
MODELS = {
    "codebook": lambda: known(codebook, CODEBOOK_PARAMS, X, table=CODEBOOK, depth=0),
    "token shift": lambda: known(
        token_shift, SHIFT_PARAMS, tokens(2, LENGTH), table=SHIFT, depth=4
    ),
    "spectrum": lambda: known(
        spectrum, SPECTRUM_PARAMS, floats(2, LENGTH, 5), table=SPECTRUM, depth=1
    ),
    "two directions": lambda: known(
        two_directions, DIRECTIONS_PARAMS, tokens(2, LENGTH), table=DIRECTIONS, depth=0
    ),
    "rays": lambda: known(
        rays, RAYS_PARAMS, floats(7, 3), floats(7, 3), table=RAYS, depth=0
    ),
    "experts choose": lambda: known(
        chosen_tokens, CHOSEN_PARAMS, X, table=CHOSEN, depth=1
    ),
    "bilinear form": lambda: known(
        bilinear, {"W": dense(9, 5, 4), "head": dense(9, 3)}, X, floats(7, 4),
        table=BILINEAR, depth=0,
    ),
    "relative positions": lambda: known(
        relative, RELATIVE_PARAMS, tokens(2, LENGTH), table=RELATIVE, depth=1
    ),
}  # fmt: skip
