"""Models in Keras 3 on JAX. `models` imports the library."""

import os

from tests.support.zoo.truth import Model, floats, known, tokens

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

KERAS_WINDOWS = """
up/kernel                   kkoi 12   .  input convolution  # 2 x 2 of 4 x 4 taps
both/depthwise_kernel       .     9  18  convolution        # two outputs a channel
both/pointwise_kernel       kkio 12   8  convolution
{up,both}/bias              none  .   .  bias
gru/gru_cell/kernel         io    8  15  gate? up?
gru/gru_cell/recurrent_kernel  io 5  15  recurrent gate? up?
gru/gru_cell/bias           none  .   .  bias
head/kernel                 io    5   3  readout
head/bias                   none  .   .  bias
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


def models() -> dict[str, Model]:
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

    small = keras.Input((4, 4, 3))
    x = layers.Conv2DTranspose(6, 4, 2, padding="same", name="up")(small)
    x = layers.SeparableConv2D(8, 3, depth_multiplier=2, name="both")(x)
    x = layers.GRU(5, name="gru")(layers.Reshape((-1, 8))(x))
    windows = keras.Model(small, layers.Dense(3, name="head")(x))

    sequence = keras.Input((6, 5))
    x = layers.LSTM(8, name="lstm")(sequence)
    cell = keras.Model(sequence, layers.Dense(3, name="head")(x))
    return {
        "a convolutional net": known(
            net, floats(2, 8, 8, 3), table=KERAS_NET, depth=1, training=True
        ),
        "a block": known(block, tokens(2, 6), table=KERAS_BLOCK, depth=2),
        "windows": known(windows, floats(2, 4, 4, 3), table=KERAS_WINDOWS, depth=0),
        "an LSTM": known(cell, floats(2, 6, 5), table=KERAS_LSTM, depth=0),
    }
