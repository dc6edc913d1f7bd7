"""Orders of norms: BERT (post-norm), DeepNorm, parallel blocks, and latents.

In plain JAX; BERT's kernels are (out, in), as in PyTorch's checkpoints.
"""

import functools

import jax
import jax.numpy as jnp

from tests.support.zoo.truth import dense, floats, known, tokens

WIDTH, HEADS, SIZE, VOCABULARY, LENGTH = 16, 2, 8, 40, 6


def layer_norm(p, x):
    mean, variance = jnp.mean(x, -1, keepdims=True), jnp.var(x, -1, keepdims=True)
    return p["gamma"] * (x - mean) / jnp.sqrt(variance + 1e-12) + p["beta"]


def linear(p, x):
    return jnp.einsum("...i,oi->...o", x, p["weight"]) + p["bias"]


def attention(p, x, context):
    def heads(y):
        return jnp.reshape(y, (*y.shape[:-1], HEADS, SIZE))

    q = heads(linear(p["query"], x))
    k, v = heads(linear(p["key"], context)), heads(linear(p["value"], context))
    # The key is the first operand: an einsum may be written either way round.
    logits = jnp.einsum("bkhd,bqhd->bhqk", k, q) / SIZE**0.5
    y = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(logits), v)
    return linear(p["output"], y.reshape(*x.shape[:-1], WIDTH))


def mlp(p, x):
    return linear(p["down"], jax.nn.gelu(linear(p["up"], x), approximate=False))


def post_norm(p, x, alpha=1.0):
    x = layer_norm(p["norm1"], alpha * x + attention(p["attention"], x, x))
    return layer_norm(p["norm2"], alpha * x + mlp(p["mlp"], x))


def parallel(p, x):
    h = layer_norm(p["norm1"], x)
    return x + attention(p["attention"], h, h) + mlp(p["mlp"], h)


def forward(block, params, ids, types):
    e = params["embeddings"]
    x = e["word"][ids] + jnp.take(e["type"], types, axis=0)
    x = layer_norm(e["norm"], x + e["position"][None, : ids.shape[1]])
    for p in params["layers"]:
        x = block(p, x)
    return linear(params["classifier"], jnp.tanh(linear(params["pooler"], x[:, 0])))


def affine(n, m):
    return {"weight": dense(m, n), "bias": dense(m)}


def norm():
    return {"gamma": dense(WIDTH), "beta": dense(WIDTH)}


def attention_params():
    names = ("query", "key", "value", "output")
    return {name: affine(WIDTH, WIDTH) for name in names}


def layer(norms):
    return {
        **{name: norm() for name in norms},
        "attention": attention_params(),
        "mlp": {"up": affine(WIDTH, 4 * WIDTH), "down": affine(4 * WIDTH, WIDTH)},
    }


def whole(norms):
    return {
        "embeddings": {
            "word": dense(VOCABULARY, WIDTH),
            "type": dense(2, WIDTH),
            "position": dense(12, WIDTH),
            "norm": norm(),
        },
        "layers": [layer(norms), layer(norms)],
        "pooler": affine(WIDTH, WIDTH),
        "classifier": affine(WIDTH, 3),
    }


TABLE = """
embeddings/word         io   .   .  embedding
embeddings/type         io   .   .  embedding
embeddings/position     .    .   .  bias|other|embedding    # sliced, and added
embeddings/norm/gamma   none .   .  scale
embeddings/norm/beta    none .   .  bias
layers/{0,1}/norm1/gamma none .  .  scale
layers/{0,1}/norm1/beta  none .  .  bias
layers/{0,1}/attention/query/weight   oi  16  16  query   # ...i,oi->...o
layers/{0,1}/attention/key/weight     oi  16  16  key
layers/{0,1}/attention/value/weight   oi  16  16  value
layers/{0,1}/attention/output/weight  oi  16  16  attention_output residual_output
layers/{0,1}/attention/{query,key,value,output}/bias none . . bias
layers/{0,1}/mlp/up/weight    oi  16  64
layers/{0,1}/mlp/down/weight  oi  64  16  residual_output
layers/{0,1}/mlp/{up,down}/bias none . . bias
pooler/weight      oi  16  16
classifier/weight  oi  16   3  readout
{pooler,classifier}/bias none . . bias
"""

TWO_NORMS = (
    TABLE
    + """
layers/{0,1}/norm2/gamma none .  .  scale
layers/{0,1}/norm2/beta  none .  .  bias
"""
)


def latent_forward(params, x):
    """A Perceiver: learned latents ask a long input, and then themselves."""
    x = linear(params["embed"], x)
    z = jnp.broadcast_to(params["latents"][None], (len(x), *params["latents"].shape))
    z = z + attention(params["cross"], layer_norm(params["norm1"], z), x)
    h = layer_norm(params["norm2"], z)
    z = z + attention(params["own"], h, h)
    return linear(params["head"], z.mean(axis=1))


# The latents are a parameter, so the first query, LN(latents) W, depends on parameters
# alone; the product is there all the same, and contracts axis 1 of W.
LATENT = """
embed/weight   oi   5  16  input
latents        .    .   .  bias|other|embedding
norm{1,2}/gamma none .  .  scale
norm{1,2}/beta  none .  .  bias
{cross,own}/query/weight   oi  16  16  query
{cross,own}/key/weight     oi  16  16  key
{cross,own}/value/weight   oi  16  16  value
{cross,own}/output/weight  oi  16  16  attention_output residual_output
{cross,own}/{query,key,value,output}/bias none . . bias
head/weight    oi  16   3  readout
{embed,head}/bias none  .   .  bias
"""

LATENT_PARAMS = {
    "embed": affine(5, WIDTH),
    "latents": dense(3, WIDTH),
    "norm1": norm(),
    "cross": attention_params(),
    "norm2": norm(),
    "own": attention_params(),
    "head": affine(WIDTH, 3),
}


def of(block, norms, table, depth):
    model = functools.partial(forward, block)
    ids = tokens(2, LENGTH)
    return known(model, whole(norms), ids, ids, table=table, depth=depth)


TWO = ("norm1", "norm2")
DEEPNORM = functools.partial(post_norm, alpha=(2 * 2) ** 0.25)
MODELS = {
    "bert": lambda: of(post_norm, TWO, TWO_NORMS, 4),
    "deepnorm": lambda: of(DEEPNORM, TWO, TWO_NORMS, 4),
    # Two branches of one sum: x + a + m.
    "parallel blocks": lambda: of(parallel, TWO[:1], TABLE, None),
    "perceiver": lambda: known(
        latent_forward, LATENT_PARAMS, floats(2, 9, 5), table=LATENT, depth=2
    ),
}
