"""Models of Keras on JAX: an application, and layers put together."""

import os

import jax
import numpy as np

import jinit
from tests.support.integration import KEY, Case, Checks, library

os.environ["KERAS_BACKEND"] = "jax"
keras = library("keras")

IMAGES = jax.random.normal(KEY, (32, 32, 32, 3))
TOKENS = jax.random.randint(KEY, (16, 12), 0, 50)


class KerasChecks(Checks):
    """Keras draws when a model is built, from a seed of its own and not from a key."""

    case: Case = None

    def test_materialize_gives_the_eager_bits(self):
        """What draws from no key cannot be replayed, but Keras's initializers can."""
        glorot = keras.initializers.GlorotUniform(seed=3)

        def draw():
            return keras.ops.convert_to_tensor(glorot((64, 32)))

        np.testing.assert_array_equal(jinit.materialize(draw)(), draw())


def mobilenet(_):
    keras.utils.set_random_seed(14)
    return keras.applications.MobileNet(
        (32, 32, 3), alpha=0.25, weights=None, classes=10, dropout=0.0
    )


class TestMobileNet(KerasChecks):
    case = Case(
        slow=("he_keeps_the_signal", "autoinit_sets_every_layer"),
        draw=mobilenet,
        call=lambda model: (model, IMAGES),
        options={"training": True},
        # Howard et al. 2017. A depthwise kernel is (3, 3, channels, 1).
        table="""
conv1/kernel       kkio  27  72  input convolution
conv1_bn/gamma     none   .   .  scale
conv1_bn/beta      none   .   .  bias
conv_dw_{1,2,3,4,5,6,7,8,9,10,11,12,13}/kernel  kkoo  9  9  convolution
conv_pw_1/kernel   kkio   8  16  convolution
conv_pw_7/kernel   kkio  128 128  convolution
conv_pw_13/kernel  kkio  256 256  convolution
conv_preds/kernel  kkio  256  10  convolution readout
conv_preds/bias    none   .   .  bias
""",
        depth=0,
        spoiled="conv_pw_7/kernel",
    )


def transformer(_):
    keras.utils.set_random_seed(14)
    layers = keras.layers
    ids = keras.Input((12,), dtype="int32")
    x = layers.Embedding(50, 32, name="embed")(ids)
    for i in range(2):
        h = layers.LayerNormalization(name=f"norm{i}_1")(x)
        h = layers.MultiHeadAttention(4, 8, name=f"attention{i}")(h, h)
        x = layers.Add()([x, h])
        h = layers.LayerNormalization(name=f"norm{i}_2")(x)
        h = layers.Dense(64, activation="gelu", name=f"up{i}")(h)
        x = layers.Add()([x, layers.Dense(32, name=f"down{i}")(h)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization(name="norm")(x))
    return keras.Model(ids, layers.Dense(10, name="head")(x))


class TestTransformer(KerasChecks):
    case = Case(
        draw=transformer,
        call=lambda model: (model, TOKENS),
        table="""
embed/embeddings  io . . embedding
norm{0,1}_{1,2}/gamma             none .  .  scale
attention{0,1}/query/kernel       ioo 32 32  query
attention{0,1}/key/kernel         ioo 32 32  key
attention{0,1}/value/kernel       ioo 32 32  value
attention{0,1}/attention_output/kernel iio 32 32  attention_output residual_output
up{0,1}/kernel    io  32  64
down{0,1}/kernel  io  64  32  residual_output
head/kernel       io  32  10  readout
""",
        depth=4,
        spoiled="up1/kernel",
        left=("embed/embeddings",),
    )
