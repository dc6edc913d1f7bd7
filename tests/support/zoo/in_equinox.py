"""Models in Equinox, whose weights are (out, in); `models` imports the library."""

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

EQUINOX_LAYERS = """
embed/weight  io    .   8  embedding
norm/weight   none  .   .  scale
norm/bias     none  .   .  bias
up/weight     oi    8  16
up/bias       none  .   .  bias
down/layer/weight  oi 16  8  residual_output   # over its norm
down/g        none  .   .  scale|other
down/layer/bias none .  .  bias
head/weight   oi    8   3  readout
head/bias     none  .   .  bias
"""

EQUINOX_CONVOLUTIONS = """
up/weight     oikk 16   .  input convolution   # stride 2: 2 x 2 of 4 x 4 taps
norm/weight   none  .   .  scale
norm/bias     none  .   .  bias
last/weight   oikk 27  27  readout convolution  # 3 channels of 6 in each of 2 groups
{up,last}/bias none .   .  bias
"""


def models() -> dict[str, Model]:
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

    class Layers(eqx.Module):
        embed: eqx.nn.Embedding
        norm: eqx.nn.BatchNorm
        up: eqx.nn.Linear
        down: eqx.nn.WeightNorm
        head: eqx.nn.Linear

        def __init__(self) -> None:
            self.embed = eqx.nn.Embedding(10, 8, key=keys[0])
            self.norm = eqx.nn.BatchNorm(8, "batch", mode="batch")
            self.up = eqx.nn.Linear(8, 16, key=keys[1])
            self.down = eqx.nn.WeightNorm(eqx.nn.Linear(16, 8, key=keys[2]))
            self.head = eqx.nn.Linear(8, 3, key=keys[3])

        def __call__(self, index: jax.Array, state: Any) -> Any:
            x = self.embed(index)
            y, state = self.norm(x, state)
            x = x + self.down(jax.nn.relu(self.up(y)))
            return self.head(x), state

    class Convolutions(eqx.Module):
        up: eqx.nn.ConvTranspose2d
        norm: eqx.nn.GroupNorm
        last: eqx.nn.Conv2d

        def __init__(self) -> None:
            self.up = eqx.nn.ConvTranspose2d(4, 6, 4, 2, 1, key=keys[0])
            self.norm = eqx.nn.GroupNorm(2, 6)
            self.last = eqx.nn.Conv2d(6, 6, 3, groups=2, key=keys[1])

        def __call__(self, image: jax.Array) -> jax.Array:
            return self.last(jax.nn.relu(self.norm(self.up(image))))

    def stateful(model: Any, x: jax.Array, state: Any) -> Any:
        axes = {"in_axes": (0, None), "out_axes": (0, None), "axis_name": "batch"}
        return jax.vmap(model, **axes)(x, state)

    layers, state = eqx.nn.make_with_state(Layers)()
    mlp = eqx.filter_eval_shape(eqx.nn.MLP, 5, 3, 16, 2, key=KEY)
    cell, head = eqx.nn.GRUCell(5, 8, key=keys[0]), eqx.nn.Linear(8, 3, key=keys[1])
    gru = Recurrent(cell, head)
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
        "layers with state": known(
            stateful, layers, tokens(7), state, table=EQUINOX_LAYERS, depth=1
        ),
        "convolutions": known(
            Convolutions(), floats(4, 8, 8), table=EQUINOX_CONVOLUTIONS, depth=0
        ),
        "a GRU": known(batched, gru, floats(2, 6, 5), table=EQUINOX_GRU, depth=0),
        "an ensemble": known(
            ensemble, arrays, floats(7, 5), table=EQUINOX_ENSEMBLE, depth=0
        ),
    }
