"""Models of Equinox, whose weights are (out, in)."""

import jax
import jax.numpy as jnp
import pytest

import jinit
from tests.support.integration import KEY, Case, Checks, Widths, library, of_equinox

eqx = library("equinox")

X = jax.random.normal(KEY, (64, 8))
SERIES = jax.random.normal(KEY, (32, 10, 4))
IMAGES = jax.random.normal(KEY, (32, 3, 16, 16))


def batched(model, x):
    return jax.vmap(model)(x)


def perceptron(key, width=32):
    return eqx.nn.MLP(8, 4, width, 3, key=key)


class TestPerceptron(Checks):
    case = Case(
        draw=perceptron,
        call=lambda model: (batched, model, X),
        table="""
layers/0/weight      oi    8  32  input
layers/{1,2}/weight  oi   32  32
layers/3/weight      oi   32   4  readout
layers/{0,1,2,3}/bias none .   .  bias
""",
        depth=0,
        spoiled="layers/1/weight",
        widths=Widths(
            make=of_equinox(perceptron, batched),
            sizes=(64, 512),
            x=X,
            target=jnp.sin(X[:, :4]),
            classes={
                "layers/0/weight": "input",
                "layers/1/weight": "hidden",
                "layers/3/weight": "output",
                "layers/1/bias": "vector",
            },
        ),
    )


class Classifier(eqx.Module):
    """The recurrent network of Equinox's documentation: a GRU, and a linear head."""

    cell: eqx.nn.GRUCell
    linear: eqx.nn.Linear
    bias: jax.Array

    def __init__(self, key, width=16):
        keys = jax.random.split(key)
        self.cell = eqx.nn.GRUCell(4, width, key=keys[0])
        self.linear = eqx.nn.Linear(width, 1, use_bias=False, key=keys[1])
        self.bias = jnp.zeros(1)

    def __call__(self, x):
        hidden = jnp.zeros(self.cell.hidden_size)
        out, _ = jax.lax.scan(lambda h, x: (self.cell(x, h), None), hidden, x)
        return self.linear(out) + self.bias


class TestRecurrentClassifier(Checks):
    case = Case(
        draw=Classifier,
        call=lambda model: (batched, model, SERIES),
        # Reset, update and new gates are one matrix each: 3 x 16 outputs.
        table="""
cell/weight_ih  oi    4  48  input gate? up?
cell/weight_hh  oi   16  48  recurrent gate? up?
linear/weight   oi   16   1  readout
""",
        depth=0,
        spoiled="cell/weight_hh",
        widths=Widths(
            make=of_equinox(Classifier, batched),
            sizes=(32, 256),
            x=SERIES,
            target=jnp.sin(SERIES[:, 0, :1]),
            classes={
                "cell/weight_ih": "input",
                "cell/weight_hh": "hidden",
                "linear/weight": "output",
            },
        ),
    )


class Block(eqx.Module):
    norm1: eqx.nn.LayerNorm
    norm2: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    linear1: eqx.nn.Linear
    linear2: eqx.nn.Linear

    def __init__(self, key, width):
        keys = jax.random.split(key, 3)
        self.norm1, self.norm2 = eqx.nn.LayerNorm(width), eqx.nn.LayerNorm(width)
        self.attention = eqx.nn.MultiheadAttention(width // 8, width, key=keys[0])
        self.linear1 = eqx.nn.Linear(width, 2 * width, key=keys[1])
        self.linear2 = eqx.nn.Linear(2 * width, width, key=keys[2])

    def __call__(self, x):
        y = jax.vmap(self.norm1)(x)
        x = x + self.attention(y, y, y)
        y = jax.vmap(self.linear1)(jax.vmap(self.norm2)(x))
        return x + jax.vmap(self.linear2)(jax.nn.gelu(y))


class VisionTransformer(eqx.Module):
    """The vision transformer of Equinox's documentation, without its dropout."""

    patches: eqx.nn.Linear
    positions: jax.Array
    cls_token: jax.Array
    blocks: list[Block]
    head: eqx.nn.Sequential

    def __init__(self, key, width=32):
        keys = jax.random.split(key, 6)
        self.patches = eqx.nn.Linear(4 * 4 * 3, width, key=keys[0])
        self.positions = jax.random.normal(keys[1], (17, width))
        self.cls_token = jax.random.normal(keys[2], (1, width))
        self.blocks = [Block(key, width) for key in keys[3:5]]
        linear = eqx.nn.Linear(width, 10, key=keys[5])
        self.head = eqx.nn.Sequential([eqx.nn.LayerNorm(width), linear])

    def __call__(self, x):
        x = x.reshape(3, 4, 4, 4, 4).transpose(1, 3, 0, 2, 4).reshape(16, 48)
        x = jnp.concatenate([self.cls_token, jax.vmap(self.patches)(x)])
        x = x + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(x[0])


class TestVisionTransformer(Checks):
    case = Case(
        slow=("coordinate_check_is_flat",),
        draw=VisionTransformer,
        call=lambda model: (batched, model, IMAGES),
        table="""
patches/weight  oi   48  32  input
positions       none  .   .  bias
cls_token       none  .   .  other
blocks/{0,1}/attention/query_proj/weight   oi 32 32 query
blocks/{0,1}/attention/key_proj/weight     oi 32 32 key
blocks/{0,1}/attention/value_proj/weight   oi 32 32 value
blocks/{0,1}/attention/output_proj/weight  oi 32 32 attention_output residual_output
blocks/{0,1}/norm{1,2}/weight  none . . scale
blocks/{0,1}/linear1/weight    oi  32  64
blocks/{0,1}/linear2/weight    oi  64  32  residual_output
head/layers/1/weight           oi  32  10  readout
""",
        depth=4,
        spoiled="blocks/1/linear1/weight",
        left=("positions", "cls_token"),
        widths=Widths(
            # Heads keep their size of 8, so their logits need no other scale.
            make=of_equinox(VisionTransformer, batched),
            sizes=(32, 128),
            rate=1e-3,
            x=IMAGES,
            target=jnp.sin(IMAGES[:, 0, 0, :10]),
            classes={
                "patches/weight": "input",
                "positions": "vector",
                "blocks/0/attention/query_proj/weight": "hidden",
                "blocks/0/linear2/weight": "hidden",
                "head/layers/1/weight": "output",
            },
        ),
    )


def test_a_batch_for_a_module_of_one_example_is_told_about_vmap():
    model = eqx.nn.Conv2d(3, 8, 3, key=KEY)
    with pytest.raises(ValueError, match=r"maps one example.*jax.vmap\(model\)\(x\)"):
        jinit.network(model, IMAGES)
