"""Models in libraries that jinit does not depend on, with what is true of them.

Each function imports its library, so that a test may be skipped, with a reason, where
the library is not installed.
"""

import os
from typing import Any

import jax
import jax.numpy as jnp

from tests.support.zoo.truth import Model, floats, known, tokens

KEY = jax.random.key(0)

EQUINOX_MLP = """
layers/0/weight  oi   5  16  input      # weight @ x
layers/1/weight  oi  16  16
layers/2/weight  oi  16   3  readout
layers/{0,1,2}/bias none . . bias
"""

EQUINOX_BLOCK = """
patch/weight       oikk  48  .  input convolution
patch/bias         none   .  .  bias
norm{1,2}/weight   none   .  .  scale
norm{1,2}/bias     none   .  .  bias
attention/query_proj/weight   oi  16  16  query
attention/key_proj/weight     oi  16  16  key
attention/value_proj/weight   oi  16  16  value
attention/output_proj/weight  oi  16  16  attention_output residual_output
mlp/layers/0/weight   oi  16  32
mlp/layers/1/weight   oi  32  16  residual_output
mlp/layers/{0,1}/bias none .   .  bias
head/weight        oi  16   3  readout
head/bias          none .   .  bias
"""

EQUINOX_GRU = """
cell/weight_ih  oi   5  24  input gate? up?
cell/weight_hh  oi   8  24  recurrent gate? up?
cell/bias       none .   .  bias
cell/bias_n     none .   .  bias
head/weight     oi   8   3  readout
head/bias       none .   .  bias
"""

EQUINOX_ENSEMBLE = """
layers/0/weight  boi   5  16  input
layers/1/weight  boi  16   3  readout
layers/{0,1}/bias none .   .  bias
"""


def equinox() -> dict[str, Model]:
    """Return models in Equinox, whose weights are (out, in)."""
    import equinox as eqx

    keys = jax.random.split(KEY, 8)

    class Block(eqx.Module):
        patch: eqx.nn.Conv2d
        norm1: eqx.nn.LayerNorm
        attention: eqx.nn.MultiheadAttention
        norm2: eqx.nn.LayerNorm
        mlp: eqx.nn.MLP
        head: eqx.nn.Linear

        def __init__(self) -> None:
            self.patch = eqx.nn.Conv2d(3, 16, 4, 4, key=keys[0])
            self.norm1 = eqx.nn.LayerNorm(16)
            self.attention = eqx.nn.MultiheadAttention(2, 16, key=keys[1])
            self.norm2 = eqx.nn.LayerNorm(16)
            self.mlp = eqx.nn.MLP(16, 16, 32, 1, jax.nn.gelu, key=keys[2])
            self.head = eqx.nn.Linear(16, 3, key=keys[3])

        def __call__(self, image: jax.Array) -> jax.Array:
            x = self.patch(image).reshape(16, -1).T
            h = jax.vmap(self.norm1)(x)
            x = x + self.attention(h, h, h)
            x = x + jax.vmap(self.mlp)(jax.vmap(self.norm2)(x))
            return self.head(x.mean(axis=0))

    class Recurrent(eqx.Module):
        cell: eqx.nn.GRUCell
        head: eqx.nn.Linear

        def __call__(self, xs: jax.Array) -> jax.Array:
            def step(h: jax.Array, x: jax.Array) -> Any:
                return self.cell(x, h), None

            h, _ = jax.lax.scan(step, jnp.zeros(8), xs)
            return self.head(h)

    mlp = eqx.filter_eval_shape(eqx.nn.MLP, 5, 3, 16, 2, key=KEY)
    gru = Recurrent(eqx.nn.GRUCell(5, 8, key=KEY), eqx.nn.Linear(8, 3, key=KEY))
    members = eqx.filter_vmap(lambda key: eqx.nn.MLP(5, 3, 16, 1, key=key))(keys[:4])
    arrays, static = eqx.partition(members, eqx.is_array)

    def batched(model: Any, x: jax.Array) -> jax.Array:
        return jax.vmap(model)(x)

    def ensemble(arrays: Any, x: jax.Array) -> jax.Array:
        def one(arrays: Any, x: jax.Array) -> jax.Array:
            return jax.vmap(eqx.combine(arrays, static))(x)

        return jax.vmap(one, (0, None))(arrays, x)

    return {
        "one example": known(mlp, floats(5), table=EQUINOX_MLP, depth=0),
        "a batch": known(batched, mlp, floats(7, 5), table=EQUINOX_MLP, depth=0),
        "a block": known(
            batched, Block(), floats(2, 3, 8, 8), table=EQUINOX_BLOCK, depth=2
        ),
        "a GRU": known(batched, gru, floats(2, 6, 5), table=EQUINOX_GRU, depth=0),
        "an ensemble": known(
            ensemble, arrays, floats(7, 5), table=EQUINOX_ENSEMBLE, depth=0
        ),
    }


HAIKU_NET = """
conv2_d/w            kkio 27  72  input convolution
conv2_d_1/w          kkio 72  72  convolution residual_output
{conv2_d,conv2_d_1,linear}/b  none . . bias
batch_norm/scale     none  .   .  scale
batch_norm/offset    none  .   .  bias
linear/w             io    8   3  readout
"""

HAIKU_ATTENTION = """
embed/embeddings             io    .   .  embedding
layer_norm/scale             none  .   .  scale
layer_norm/offset            none  .   .  bias
multi_head_attention/query/w   io  16  16  query
multi_head_attention/key/w     io  16  16  key
multi_head_attention/value/w   io  16  16  value
multi_head_attention/linear/w  io  16  16  attention_output residual_output
multi_head_attention/{query,key,value,linear}/b none . . bias
linear/w                     io   16   3  readout
linear/b                     none  .   .  bias
"""

HAIKU_LSTM = """
lstm/linear/w  io  13  32  recurrent input? gate? up?   # x and h, concatenated
lstm/linear/b  none .   .  bias
linear/w       io   8   3  readout
linear/b       none .   .  bias
"""


def haiku() -> dict[str, Model]:
    """Return models in Haiku."""
    import haiku as hk

    def net(x: jax.Array, train: bool) -> jax.Array:
        x = jax.nn.relu(hk.Conv2D(8, 3)(x))
        y = hk.BatchNorm(True, True, 0.9)(x, train)
        x = x + hk.Conv2D(8, 3)(jax.nn.relu(y))
        return hk.Linear(3)(x.mean(axis=(1, 2)))

    def attention(ids: jax.Array) -> jax.Array:
        x = hk.Embed(40, 16)(ids)
        h = hk.LayerNorm(-1, True, True)(x)
        x = x + hk.MultiHeadAttention(2, 8, w_init_scale=1.0)(h, h, h)
        return hk.Linear(3)(x.mean(axis=1))

    def recurrent(x: jax.Array) -> jax.Array:
        core = hk.LSTM(8)
        start = core.initial_state(x.shape[0])
        y, _ = hk.dynamic_unroll(core, x, start, time_major=False)
        return hk.Linear(3)(y[:, -1])

    image, ids, sequence = floats(2, 8, 8, 3), tokens(2, 6), floats(2, 6, 5)
    stateful = hk.transform_with_state(net)
    weights, state = jax.eval_shape(lambda k, x: stateful.init(k, x, True), KEY, image)
    attentive, cell = hk.transform(attention), hk.transform(recurrent)
    return {
        "a residual net": known(
            stateful, weights, state, image, True, table=HAIKU_NET, depth=1
        ),
        "attention": known(
            attentive, jax.eval_shape(attentive.init, KEY, ids), ids,
            table=HAIKU_ATTENTION, depth=1,
        ),
        "an LSTM": known(
            cell, jax.eval_shape(cell.init, KEY, sequence), sequence,
            table=HAIKU_LSTM, depth=0,
        ),
    }  # fmt: skip


KERAS_NET = """
stem/kernel       kkio  27  72  input convolution
stem/bias         none   .   .  bias
norm/gamma        none   .   .  scale
norm/beta         none   .   .  bias
depthwise/kernel  .      9   9  convolution   # (3, 3, channels, 1)
depthwise/bias    none   .   .  bias
pointwise/kernel  kkio   8   8  convolution residual_output
pointwise/bias    none   .   .  bias
head/kernel       io     8   3  readout
head/bias         none   .   .  bias
"""

KERAS_BLOCK = """
embed/embeddings         io  .   .  embedding
norm{1,2}/gamma          none .  .  scale
norm{1,2}/beta           none .  .  bias
attention/query/kernel             ioo 16  16  query
attention/key/kernel               ioo 16  16  key
attention/value/kernel             ioo 16  16  value
attention/attention_output/kernel  iio 16  16  attention_output residual_output
attention/{query,key,value,attention_output}/bias none . . bias
up/kernel     io  16  32
down/kernel   io  32  16  residual_output
head/kernel   io  16   3  readout
{up,down,head}/bias none . . bias
"""

KERAS_LSTM = """
lstm/lstm_cell/kernel            io   5  32  input gate? up?
lstm/lstm_cell/recurrent_kernel  io   8  32  recurrent gate? up?
lstm/lstm_cell/bias              none .   .  bias
head/kernel                      io   8   3  readout
head/bias                        none .   .  bias
"""


def keras() -> dict[str, Model]:
    """Return models in Keras 3 on JAX."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    layers = keras.layers
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="stem")(image)
    y = layers.BatchNormalization(name="norm")(x)
    y = layers.DepthwiseConv2D(3, padding="same", activation="relu", name="depthwise")(
        y
    )
    x = layers.Add()([x, layers.Conv2D(8, 1, name="pointwise")(y)])
    x = layers.Dropout(0.1)(layers.GlobalAveragePooling2D()(x))
    net = keras.Model(image, layers.Dense(3, name="head")(x))

    ids = keras.Input((6,), dtype="int32")
    x = layers.Embedding(40, 16, name="embed")(ids)
    h = layers.LayerNormalization(name="norm1")(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 8, name="attention")(h, h)])
    h = layers.LayerNormalization(name="norm2")(x)
    h = layers.Dense(32, activation="gelu", name="up")(h)
    x = layers.Add()([x, layers.Dense(16, name="down")(h)])
    x = layers.GlobalAveragePooling1D()(x)
    block = keras.Model(ids, layers.Dense(3, name="head")(x))

    sequence = keras.Input((6, 5))
    x = layers.LSTM(8, name="lstm")(sequence)
    cell = keras.Model(sequence, layers.Dense(3, name="head")(x))
    return {
        "a convolutional net": known(
            net, floats(2, 8, 8, 3), table=KERAS_NET, depth=1, training=True
        ),
        "a block": known(block, tokens(2, 6), table=KERAS_BLOCK, depth=2),
        "an LSTM": known(cell, floats(2, 6, 5), table=KERAS_LSTM, depth=0),
    }


PENZAI = """
first.weights  io   5  16  input
up.weights     io  16  32
down.weights   io  32  16  residual_output
last.weights   io  16   3  readout
"""


def penzai() -> dict[str, Model]:
    """Return a model in penzai, whose axes have names."""
    from penzai import pz

    def linear(name: str, before: str, n: int, after: str, m: int) -> Any:
        return pz.nn.Linear.from_config(
            name, init_base_rng=KEY, input_axes={before: n}, output_axes={after: m}
        )

    model = pz.nn.Sequential(
        [
            linear("first", "x", 5, "features", 16),
            pz.nn.Residual(
                pz.nn.Sequential(
                    [
                        linear("up", "features", 16, "hidden", 32),
                        pz.nn.Elementwise(jax.nn.gelu),
                        linear("down", "hidden", 32, "features", 16),
                    ]
                )
            ),
            linear("last", "features", 16, "y", 3),
        ]
    )
    x = pz.nx.wrap(jnp.ones((7, 5))).tag("batch", "x")
    return {"a perceptron": known(model, x, table=PENZAI, depth=1)}
