"""Kernels that are kept, sliced and used in unusual ways. In plain JAX and Linen."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tests.support.zoo.truth import dense, floats, known, shapes

X = floats(7, 6)


def letters(params, x):
    """Einsums in every order of letters."""
    x = jnp.tanh(jnp.einsum("bd,hdk->bhk", x, params["hdk"]))
    x = jnp.tanh(jnp.einsum("kmh,bhk->mb", params["kmh"], x))
    x = jnp.tanh(jnp.einsum("mb,pqm->pbq", x, params["pqm"]))
    return jnp.einsum("cqp,pbq->bc", params["cqp"], x)


LETTERS_PARAMS = {
    "hdk": dense(2, 6, 4),
    "kmh": dense(4, 9, 2),
    "pqm": dense(3, 5, 9),
    "cqp": dense(4, 5, 3),
}
LETTERS = """
hdk  oio   6   8  input
kmh  ioi   8   9
pqm  ooi   9  15
cqp  oii  15   4  readout
"""


def kept(params, x):
    """Kernels kept as vectors, with axes joined, stacked, or as parts of one array."""
    x = jnp.tanh(x @ params["vector"].reshape(6, 8))
    x = jnp.tanh(
        x @ params["joined"].reshape(2, 8, 5).transpose(1, 0, 2).reshape(8, 10)
    )
    left, right = params["halves"][:, :4], params["halves"][:, 4:]
    x = jnp.concatenate([jnp.tanh(x @ left), jnp.sin(x @ right)], axis=-1)
    for number in range(3):
        x = jnp.tanh(x @ params["stack"][number])
    return jax.lax.squeeze(params["odd"], (0,)).T @ x[..., None]


KEPT_PARAMS = {
    "vector": dense(48),
    "joined": dense(16, 5),
    "halves": dense(10, 8),
    "stack": dense(3, 8, 8),
    "odd": dense(1, 8, 4),
}
# The rows of `joined` are inputs and outputs at once, so it has no letter for axis 0.
KEPT = """
vector  .    6   8  input
joined  .    8  10
halves  io  10   .
stack   bio  8   8
odd     .    8   4  readout
"""


def indexed(params, x):
    """A loop takes the kernel of each step by a number, as fori_loop does."""
    x = x @ params["first"]

    def step(number, x):
        kernel = jax.lax.dynamic_index_in_dim(params["stack"], number, keepdims=False)
        return x + jnp.tanh(x @ kernel)

    return jax.lax.fori_loop(0, 3, step, x) @ params["last"]


INDEXED_PARAMS = {"first": dense(6, 8), "stack": dense(3, 8, 8), "last": dense(8, 4)}
INDEXED = """
first  io   6  8  input
stack  bio  8  8  residual_output?
last   io   8  4  readout
"""


def patches(params, image):
    """Patches by reshapes, and a 1x1 convolution as a product, and back."""
    batch = image.shape[0]
    x = image.reshape(batch, 2, 4, 2, 4, 3).transpose(0, 1, 3, 2, 4, 5)
    x = jnp.tanh(x.reshape(batch, 4, 48) @ params["patch"])
    x = jnp.tanh(x @ params["one"].reshape(8, 9))  # kept as (1, 1, 8, 9)
    x = (x @ params["pixels"]).reshape(batch, 2, 2, 4, 4, 3)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 8, 8, 3)


PATCHES_PARAMS = {
    "patch": dense(48, 8),
    "one": dense(1, 1, 8, 9),
    "pixels": dense(9, 48),
}
PATCHES = """
patch   io  48   8  input
one     .    8   9
pixels  io   9  48  readout
"""


def factors(params, x):
    """Low-rank kernels, a shared factor, an outer product."""
    x = jnp.tanh(x @ (params["u"] @ params["v"]))
    x = jnp.tanh((x @ params["down"]) @ params["up"])
    return x @ params["last"]


FACTORS_PARAMS = {
    "u": dense(6, 2),
    "v": dense(2, 8),
    "down": dense(8, 2),
    "up": dense(2, 8),
    "last": dense(8, 4),
}
FACTORS = """
u     io  6  2  input
v     io  2  8  input?    # x meets the product of both
down  io  8  2
up    io  2  8
last  io  8  4  readout
"""


def cast(params, x):
    """Master weights in float32, computation in bfloat16, stops of gradients."""
    x = x.astype(jnp.bfloat16)
    x = jax.nn.relu(x @ params[0].astype(jnp.bfloat16) * 2**0.5)
    frozen = jax.lax.stop_gradient(params[1]).astype(jnp.bfloat16)
    x = jax.nn.relu(x @ frozen).astype(jnp.float32)
    return jnp.matmul(x, params[2], precision="highest") / params[2].shape[0]


CAST = """
0  io  6  8  input
1  io  8  8
2  io  8  4  readout
"""


def splines(params, x):
    """Liu et al. 2024 (KAN): a function for each edge, a sum over inputs and bases."""
    for kernel in params:
        bases = jnp.exp(-((x[..., None] - jnp.linspace(-1, 1, 5)) ** 2))
        x = jnp.einsum("big,oig->bo", bases, kernel)
    return x


SPLINES = """
0  oii  30  8  input     # (out, in, grid)
1  oii  40  4  readout
"""


class General(nn.Module):
    """Linen's general layers."""

    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.DenseGeneral((2, 4), name="split")(x))
        x = nn.tanh(nn.Einsum((2, 4, 9), "bhk,hkm->bm", name="einsum")(x))
        x = nn.tanh(nn.Dense(8, name="dense")(x)).reshape(-1, 2, 4).swapaxes(0, 1)
        x = nn.tanh(nn.DenseGeneral(3, batch_dims=(0,), name="each")(x))
        return nn.DenseGeneral(4, axis=(0, -1), name="joined")(x)


GENERAL = """
split/kernel   ioo   6  8  input
einsum/kernel  iio   8  9
dense/kernel   io    9  8
each/kernel    .     4  3            # one kernel for each of two parts
joined/kernel  iio   6  4  readout
{split,einsum,dense,each,joined}/bias none . . bias
"""


def general():
    return known(General(), shapes(General().init, X), X, table=GENERAL, depth=0)


MODELS = {
    "orders of letters": lambda: known(
        letters, LETTERS_PARAMS, X, table=LETTERS, depth=0
    ),
    "kept kernels": lambda: known(kept, KEPT_PARAMS, X, table=KEPT, depth=0),
    "indexed kernels": lambda: known(
        indexed, INDEXED_PARAMS, X, table=INDEXED, depth=None
    ),
    "patches": lambda: known(
        patches, PATCHES_PARAMS, floats(2, 8, 8, 3), table=PATCHES, depth=0
    ),
    "factors": lambda: known(factors, FACTORS_PARAMS, X, table=FACTORS, depth=None),
    "casts": lambda: known(
        cast, [dense(6, 8), dense(8, 8), dense(8, 4)], X, table=CAST, depth=0
    ),
    "splines": lambda: known(
        splines, [dense(8, 6, 5), dense(4, 8, 5)], X, table=SPLINES, depth=0
    ),
    "general layers": general,
}
