"""Layers inside of calls, loops, caches and other programs."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Mesh, PartitionSpec

from tests.support.zoo.truth import dense, floats, known, tokens

X = floats(8, 6)
PARAMS = {
    "first": dense(6, 8),
    "up": dense(8, 20),
    "down": dense(20, 8),
    "last": dense(8, 3),
}
TABLE = """
first  io   6   8  input
up     io   8  20
down   io  20   8  residual_output
last   io   8   3  readout
"""


def norm(x):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def mlp(p, x):
    return jax.nn.gelu(norm(x) @ p["up"]) @ p["down"]


def around(wrap):
    """Return a residual net whose branch is wrapped."""

    def forward(params, x):
        x = x @ params["first"]
        return (x + wrap(mlp)(params, x)) @ params["last"]

    return forward


def custom_vjp(function):
    """Write the gradient of a whole branch by hand, as fused kernels do."""
    call = jax.custom_vjp(function)

    def forward(p, x):
        return function(p, x), (p, x)

    def backward(saved, slope):
        return jax.vjp(function, *saved)[1](slope)

    call.defvjp(forward, backward)
    return call


def custom_jvp(function):
    call = jax.custom_jvp(function)
    call.defjvp(lambda primals, tangents: jax.jvp(function, primals, tangents))
    return call


def named(function):
    """Keep some values for the pass back, by name."""
    policy = jax.checkpoint_policies.save_only_these_names("h")
    return jax.checkpoint(
        lambda p, x: checkpoint_name(function(p, x), "h"), policy=policy
    )


def sharded(function):
    """Each device has a part of the batch."""
    mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
    rows = PartitionSpec("data")
    specs = {"in_specs": (PartitionSpec(), rows), "out_specs": rows}
    return jax.shard_map(function, mesh=mesh, **specs)


def mapped(function):
    """Run one example at a time."""
    return lambda p, x: jax.lax.map(lambda row: function(p, row), x)


def vectorized(function):
    return jax.vmap(function, in_axes=(None, 0))


def differentiated(function):
    """The branch is a gradient's primal: value_and_grad inside of a model."""

    def run(p, x):
        y, _ = jax.jvp(lambda x: function(p, x), (x,), (jnp.ones_like(x),))
        return y

    return run


def repeated(function):
    """A loop of a number of steps that data gives: opened once."""

    def run(p, x):
        def step(state):
            number, h = state
            return number + 1, jnp.tanh(h @ p["square"])

        h = jax.lax.while_loop(lambda s: s[0] < jnp.max(jnp.abs(x)), step, (0.0, x))[1]
        return function(p, h)

    return run


WRAPPERS = {
    "jit": jax.jit,
    "remat": jax.checkpoint,
    "remat of jit of remat": lambda f: jax.checkpoint(jax.jit(jax.checkpoint(f))),
    "custom_vjp": custom_vjp,
    "custom_jvp": custom_jvp,
    "named values": named,
    "shard_map": sharded,
    "map": mapped,
    "vmap": vectorized,
    "jvp": differentiated,
}


def of(wrap):
    return lambda: known(around(wrap), PARAMS, X, table=TABLE, depth=1)


def blockwise(params, ids):
    """Attention over blocks of keys with a running softmax (Rabe & Staats 2021)."""
    x = params["embed"][ids]
    h = norm(x)
    q, k, v = h @ params["q"], h @ params["k"], h @ params["v"]
    blocks = [jnp.moveaxis(a.reshape(2, 3, 2, 8), 1, 0) for a in (k, v)]

    def step(carry, block):
        most, total, y = carry
        k, v = block
        logits = jnp.einsum("btk,bsk->bts", q, k)
        new = jnp.maximum(most, logits.max(axis=-1))
        e, scale = jnp.exp(logits - new[..., None]), jnp.exp(most - new)
        total = total * scale + e.sum(axis=-1)
        y = y * scale[..., None] + jnp.einsum("bts,bsk->btk", e, v)
        return (new, total, y), None

    start = jnp.full((2, 6), -jnp.inf), jnp.zeros((2, 6)), jnp.zeros((2, 6, 8))
    (_, total, y), _ = jax.lax.scan(step, start, blocks)
    x = x + (y / total[..., None]) @ params["o"]
    return x @ params["embed"].T


# The softmax is spread over the steps of a scan, so that roles of attention may be
# missing; no others may be there.
BLOCKWISE = """
embed  io  .  .  embedding readout
q      io  8  8  query?
k      io  8  8  key?
v      io  8  8  value?
o      io  8  8  residual_output attention_output?
"""
BLOCKWISE_PARAMS = {"embed": dense(40, 8), **{name: dense(8, 8) for name in "qkvo"}}


class Decoder(nn.Module):
    """One token after another, with a cache of keys and values."""

    @nn.compact
    def __call__(self, ids):
        x = nn.Embed(40, 16, name="embed")(ids)
        y = nn.MultiHeadDotProductAttention(2, decode=True, name="attention")(
            nn.LayerNorm(name="norm")(x)
        )
        return nn.Dense(40, name="head")(x + y)


DECODER = """
embed/embedding   io   .   .  embedding
norm/scale        none .   .  scale
norm/bias         none .   .  bias
attention/query/kernel  ioo  16  16  query
attention/key/kernel    ioo  16  16  key
attention/value/kernel  ioo  16  16  value
attention/out/kernel    iio  16  16  attention_output residual_output
attention/{query,key,value,out}/bias none . . bias
head/kernel       io  16  40  readout
head/bias         none .   .  bias
"""


def with_cache():
    module = Decoder()
    key = jax.eval_shape(lambda: jax.random.key(0))
    variables = jax.eval_shape(module.init, key, tokens(2, 9))
    return known(module, variables, tokens(2, 1), table=DECODER, depth=1)


class NnxDecoder(nnx.Module):
    """The same in NNX; the cache lies in the model."""

    def __init__(self, rngs):
        self.embed = nnx.Embed(40, 16, rngs=rngs)
        self.norm = nnx.LayerNorm(16, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 16, decode=True, rngs=rngs)
        self.attention.init_cache((2, 9, 16))
        self.head = nnx.Linear(16, 40, rngs=rngs)

    def __call__(self, ids):
        x = self.embed(ids)
        return self.head(x + self.attention(self.norm(x)))


def nnx_with_cache():
    model = nnx.eval_shape(lambda: NnxDecoder(nnx.Rngs(0)))
    return known(model, tokens(2, 1), table=DECODER, depth=1)


def spectral(params, x, left):
    """Miyato et al. 2018: kernels over their largest singular values, by one step."""
    for name in ("a", "b"):
        w = params[name]
        right = w.T @ left[name]
        right = right / jnp.linalg.norm(right)
        u = w @ right
        sigma = jax.lax.stop_gradient(u / jnp.linalg.norm(u)) @ w @ right
        x = jax.nn.leaky_relu(x @ (w / sigma))
    return x @ params["last"]


SPECTRAL = """
a     io  6   8  input
b     io  8  10  input?     # its norm reads `left`, which is an argument here
last  io 10   3  readout
"""

MODELS = {
    **{f"in {name}": of(wrap) for name, wrap in WRAPPERS.items()},
    "behind a while loop": lambda: known(
        around(repeated), {**PARAMS, "square": dense(8, 8)}, X,
        table=TABLE + "square  io  8  8  recurrent?", depth=None,
    ),
    "blockwise attention": lambda: known(
        blockwise, BLOCKWISE_PARAMS, tokens(2, 6), table=BLOCKWISE, depth=1
    ),
    "a cache in Linen": with_cache,
    "a cache in NNX": nnx_with_cache,
    "spectral norm": lambda: known(
        spectral, {"a": dense(6, 8), "b": dense(8, 10), "last": dense(10, 3)}, X,
        {"a": floats(6), "b": floats(8)}, table=SPECTRAL, depth=0,
    ),
}  # fmt: skip
