"""Several outputs, graphs, and attention that is not the common one. In plain JAX."""

import jax
import jax.numpy as jnp

from tests.support.zoo.truth import dense, floats, known

WIDTH, HEADS, SIZE, LENGTH = 16, 2, 8, 8


def actor_critic(params, x):
    for p in params["torso"]:
        x = jnp.tanh(x @ p["w"] + p["b"])
    logits = x @ params["actor"]["w"] + params["actor"]["b"]
    value = x @ params["critic"]["w"] + params["critic"]["b"]
    return jax.nn.log_softmax(logits), jnp.squeeze(value, axis=-1)


def layer(n, m):
    return {"w": dense(n, m), "b": dense(m)}


ACTOR_CRITIC_PARAMS = {
    "torso": [layer(5, 16), layer(16, 16)],
    "actor": layer(16, 4),
    "critic": layer(16, 1),
}
ACTOR_CRITIC = """
torso/0/w  io   5  16  input
torso/1/w  io  16  16
actor/w    io  16   4  readout
critic/w   io  16   1  readout
{torso/0,torso/1,actor,critic}/b none . . bias
"""


def autoencoder(params, x, noise):
    """Kingma & Welling 2014: z = mean + exp(log_std) noise."""
    h = jax.nn.relu(x @ params["encode"])
    mean, log_std = h @ params["mean"], h @ params["log_std"]
    z = mean + jnp.exp(log_std) * noise
    return jax.nn.relu(z @ params["decode"]) @ params["output"], mean, log_std


AUTOENCODER_PARAMS = {
    "encode": dense(5, 16),
    "mean": dense(16, 3),
    "log_std": dense(16, 3),
    "decode": dense(3, 16),
    "output": dense(16, 5),
}
# The mean is an output and feeds a matrix. `decode` reads z, in which there is noise.
AUTOENCODER = """
encode   io   5  16  input
mean     io  16   3  readout?
log_std  io  16   3  readout?
decode   io   3  16  input?
output   io  16   5  readout
"""


def graph_convolutions(params, x, adjacency):
    """Kipf & Welling 2017: A relu(A x W) V, with a normalized adjacency of data."""
    degree = jax.lax.rsqrt(jnp.sum(adjacency, axis=1))
    a = adjacency * degree[:, None] * degree[None, :]
    h = jax.nn.relu(a @ (x @ params[0]))
    return a @ (h @ params[1])


GRAPH = """
0  io   5  16  input
1  io  16   3  readout
"""


def norm(scale, x):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * scale


def multi_query(p, x):
    """Shazeer 2019: all queries share one key and one value."""
    q = jnp.einsum("btd,dhk->bhtk", x, p["q"])
    k, v = x @ p["kv"][0], x @ p["kv"][1]
    logits = jnp.einsum("bhtk,bsk->bhts", q, k) / SIZE**0.5
    y = jnp.einsum("bhts,bsk->bhtk", jax.nn.softmax(logits), v)
    return jnp.einsum("bhtk,hkd->btd", y, p["o"])


def linear_attention(p, x):
    """Katharopoulos et al. 2020: no softmax, so nothing is claimed of q, k and v."""
    q, k, v = (jnp.einsum("btd,dhk->bthk", x, p[name]) for name in "qkv")
    q, k = jax.nn.elu(q) + 1, jax.nn.elu(k) + 1
    memory = jnp.einsum("bthk,bthm->bhkm", k, v)
    total = jnp.einsum("bthk,bhk->bth", q, k.sum(axis=1))
    y = jnp.einsum("bthk,bhkm->bthm", q, memory) / total[..., None]
    return jnp.einsum("bthk,hkd->btd", y, p["o"])


def windows(p, x):
    """Liu et al. 2021: shifted windows, biases from a table that constants look up."""
    x = jnp.roll(x, -2, axis=1)
    batch, length, width = x.shape
    x = x.reshape(-1, 4, width)
    qkv = (x @ p["qkv"]).reshape(-1, 4, 3, HEADS, SIZE).transpose(2, 0, 3, 1, 4)
    q, k, v = qkv[0], qkv[1], qkv[2]
    places = jnp.arange(4)[:, None] - jnp.arange(4)[None, :] + 3
    bias = p["table"][places.reshape(-1)].reshape(4, 4, HEADS).transpose(2, 0, 1)
    logits = (q * SIZE**-0.5) @ k.swapaxes(-2, -1) + bias[None]
    y = (jax.nn.softmax(logits, axis=-1) @ v).transpose(0, 2, 1, 3)
    y = y.reshape(-1, 4, width) @ p["o"]
    return jnp.roll(y.reshape(batch, length, width), 2, axis=1)


def one_block(attention):
    def forward(params, x):
        x = x @ params["embed"]
        x = x + attention(params["attention"], norm(params["scale"], x))
        return x @ params["head"]

    return forward


def params(**attention):
    return {
        "embed": dense(5, WIDTH),
        "scale": dense(WIDTH),
        "attention": attention,
        "head": dense(WIDTH, 3),
    }


ENDS = """
embed  io   5  16  input
scale  none .   .  scale
head   io  16   3  readout
"""
HEAD = dense(WIDTH, HEADS, SIZE)
OUT = dense(HEADS, SIZE, WIDTH)

# The two parts of `kv` are slices along axis 0: keys, then values.
MULTI_QUERY = (
    ENDS
    + """
attention/q   ioo  16  16  query
attention/kv  .    16   .  key value
attention/o   iio  16  16  attention_output residual_output
"""
)
LINEAR = (
    ENDS
    + """
attention/{q,k}  ioo  16  16  gate? up?
attention/v      ioo  16  16  gate? up?
attention/o      iio  16  16  residual_output
"""
)
WINDOWS = (
    ENDS
    + """
attention/qkv    io  16  48  query key value
attention/table  .    .   .  bias|embedding|other
attention/o      io  16  16  attention_output residual_output
"""
)

X = floats(7, 5)
SEQUENCES = floats(2, LENGTH, 5)
MODELS = {
    "actor and critic": lambda: known(
        actor_critic, ACTOR_CRITIC_PARAMS, X, table=ACTOR_CRITIC, depth=0
    ),
    "variational autoencoder": lambda: known(
        autoencoder, AUTOENCODER_PARAMS, X, floats(7, 3), table=AUTOENCODER, depth=0
    ),
    "graph convolutions": lambda: known(
        graph_convolutions, [dense(5, 16), dense(16, 3)], X, floats(7, 7),
        table=GRAPH, depth=0,
    ),
    "multi-query attention": lambda: known(
        one_block(multi_query), params(q=HEAD, kv=dense(2, WIDTH, SIZE), o=OUT),
        SEQUENCES, table=MULTI_QUERY, depth=1,
    ),
    "linear attention": lambda: known(
        one_block(linear_attention), params(q=HEAD, k=HEAD, v=HEAD, o=OUT),
        SEQUENCES, table=LINEAR, depth=1,
    ),
    "shifted windows": lambda: known(
        one_block(windows),
        params(
            qkv=dense(WIDTH, 3 * WIDTH), table=dense(7, HEADS), o=dense(WIDTH, WIDTH)
        ),
        SEQUENCES, table=WINDOWS, depth=1,
    ),
}  # fmt: skip
