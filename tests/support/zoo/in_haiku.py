"""Models in Haiku. `models` imports the library."""

import jax

from tests.support.zoo.truth import Model, floats, known, tokens

KEY = jax.random.key(0)

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

# Haiku's stack adds an axis of layers in front.
HAIKU_STACK = """
first/w   io    5   8  input
{first,last}/b  none . . bias
__layer_stack_no_per_layer/up/w    bio   8  16
__layer_stack_no_per_layer/down/w  bio  16   8  residual_output
__layer_stack_no_per_layer/{up,down}/b  none . . bias
last/w    io    8   3  readout
"""

HAIKU_LSTM = """
lstm/linear/w  io  13  32  recurrent input? gate? up?   # x and h, concatenated
lstm/linear/b  none .   .  bias
linear/w       io   8   3  readout
linear/b       none .   .  bias
"""


def models() -> dict[str, Model]:
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

    def block(x: jax.Array) -> jax.Array:
        return x + hk.Linear(8, name="down")(jax.nn.gelu(hk.Linear(16, name="up")(x)))

    def stack(x: jax.Array) -> jax.Array:
        x = hk.experimental.layer_stack(4)(block)(hk.Linear(8, name="first")(x))
        return hk.Linear(3, name="last")(x)

    stacked = hk.transform(stack)
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
        "a stack": known(
            stacked, jax.eval_shape(stacked.init, KEY, sequence), sequence,
            table=HAIKU_STACK, depth=4,
        ),
        "an LSTM": known(
            cell, jax.eval_shape(cell.init, KEY, sequence), sequence,
            table=HAIKU_LSTM, depth=0,
        ),
    }  # fmt: skip
