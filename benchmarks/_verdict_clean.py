"""These healthy architectures were not used to choose limits of verdicts.

So their false alarms, in benchmarks.verdicts, are an honest estimate. `drop` is the
number of the block that loses its norm.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from benchmarks._verdict_zoo import (
    CLASSES,
    GPT2,
    HE,
    MLP,
    Architecture,
    batch_norm,
    group_norm,
    of,
)

LECUN = nn.initializers.lecun_normal()
ZEROS = nn.initializers.zeros


def _norm_of(module: Any, number: int, make: Any = nn.LayerNorm) -> Any:
    """Return the norm of a block, or the identity if the norm is dropped."""
    dropped = number == module.drop
    return (lambda x: x) if dropped else make(name=f"norm_{number}")


class Mobile(nn.Module):
    """A Mobile has inverted residuals of Sandler et al. (2018), depthwise inside."""

    drop: int = -1

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.relu6(batch_norm()(nn.Conv(16, (3, 3), use_bias=False)(x)))
        for i in range(4):
            y = nn.Conv(64, (1, 1), kernel_init=HE, use_bias=False)(x)
            y = nn.relu6(_norm_of(self, i, batch_norm)(y))
            y = nn.Conv(64, (3, 3), feature_group_count=64, use_bias=False)(y)
            y = nn.relu6(batch_norm()(y))
            x += batch_norm()(nn.Conv(16, (1, 1), use_bias=False)(y))
        return nn.Dense(CLASSES)(x.mean((1, 2)))


class Dense(nn.Module):
    """A Dense is a dense net: each block reads all blocks before it."""

    drop: int = -1

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Conv(16, (3, 3), kernel_init=HE)(x)
        for i in range(5):
            y = nn.relu(_norm_of(self, i, batch_norm)(x))
            x = jnp.concatenate([x, nn.Conv(8, (3, 3), kernel_init=HE)(y)], -1)
        return nn.Dense(CLASSES)(nn.relu(batch_norm()(x)).mean((1, 2)))


class Squeeze(nn.Module):
    """A Squeeze has residual blocks with the channel gates of Hu et al. (2018)."""

    drop: int = -1

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Conv(16, (3, 3), kernel_init=HE)(x)
        for i in range(4):
            y = nn.silu(_norm_of(self, i, group_norm)(x))
            y = nn.Conv(16, (3, 3), kernel_init=HE)(y)
            y = nn.Conv(16, (3, 3), kernel_init=HE)(nn.silu(group_norm()(y)))
            gate = nn.silu(nn.Dense(4)(y.mean((1, 2), keepdims=True)))
            x += y * nn.sigmoid(nn.Dense(16)(gate))
        return nn.Dense(CLASSES)(nn.silu(group_norm()(x)).mean((1, 2)))


class Wave(nn.Module):
    """A Wave has gated, dilated convolutions and a sum of skips, without norms."""

    drop: int = -1

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Dense(32)(x)
        skips = jnp.zeros(())
        for i in range(4):
            options: dict[str, Any] = {"kernel_dilation": 2**i, "padding": "CAUSAL"}
            y = nn.tanh(nn.Conv(32, (2,), **options)(x))
            y *= nn.sigmoid(nn.Conv(32, (2,), **options)(x))
            skips = skips + nn.Dense(32)(y)
            x += nn.Dense(32)(y)
        return nn.Dense(CLASSES)(nn.relu(nn.Dense(32, kernel_init=HE)(nn.relu(skips))))


class Translator(nn.Module):
    """A Translator has an encoder and a decoder that attends to it, with RMS norms."""

    drop: int = -1

    @nn.compact
    def __call__(self, tokens: Any) -> Any:
        embed = nn.Embed(64, 32)
        x, y = embed(tokens), embed(jnp.roll(tokens, 1, 1))
        for _ in range(2):
            h = nn.RMSNorm()(x)
            x += nn.MultiHeadDotProductAttention(4, use_bias=False)(h)
            x += self.mlp(nn.RMSNorm()(x))
        x = nn.RMSNorm()(x)
        mask = nn.make_causal_mask(tokens)
        for i in range(4):
            h = _norm_of(self, i, nn.RMSNorm)(y)
            y += nn.MultiHeadDotProductAttention(4, use_bias=False)(h, mask=mask)
            h = nn.RMSNorm()(y)
            y += nn.MultiHeadDotProductAttention(4, use_bias=False)(h, x)
            y += self.mlp(nn.RMSNorm()(y))
        return nn.Dense(CLASSES, use_bias=False)(nn.RMSNorm()(y))

    def mlp(self, x: Any) -> Any:
        """Return the output of a perceptron with a gated GELU, as in T5 v1.1."""
        h = nn.gelu(nn.Dense(64, use_bias=False)(x)) * nn.Dense(64, use_bias=False)(x)
        return nn.Dense(32, use_bias=False)(h)


class Parallel(nn.Module):
    """A Parallel has attention with normed queries and keys, beside a perceptron."""

    drop: int = -1

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Dense(48)(x) + self.param("positions", GPT2, (x.shape[1], 48))[None]
        for i in range(4):
            h = _norm_of(self, i)(x)
            attend = nn.MultiHeadDotProductAttention(4, normalize_qk=True)
            x += attend(h) + nn.Dense(48)(nn.gelu(nn.Dense(96)(h)))
        return nn.Dense(CLASSES)(nn.LayerNorm()(x).mean(1))


class Diffusion(nn.Module):
    """A Diffusion is a transformer whose norms a condition modulates, at first by 0."""

    drop: int = -1

    @nn.compact
    def __call__(self, x: Any) -> Any:
        width, size = 32, x.shape[-1]
        time = jnp.linspace(0, 1, len(x))[:, None] * 2.0 ** jnp.arange(8)[None]
        time = jnp.concatenate([jnp.sin(time), jnp.cos(time)], -1)
        c = nn.Dense(width)(nn.silu(nn.Dense(width, kernel_init=GPT2)(time)))
        x = nn.Dense(width)(x)
        for _ in range(3):
            numbers = nn.Dense(6 * width, kernel_init=ZEROS)(nn.silu(c))[:, None]
            parts = jnp.split(numbers, 6, -1)
            h = self.shifted(x, *parts[:2])
            x += parts[2] * nn.MultiHeadDotProductAttention(4)(h)
            h = nn.Dense(4 * width)(self.shifted(x, *parts[3:5]))
            x += parts[5] * nn.Dense(width)(nn.gelu(h))
        numbers = nn.Dense(2 * width, kernel_init=ZEROS)(nn.silu(c))[:, None]
        h = self.shifted(x, *jnp.split(numbers, 2, -1))
        return nn.Dense(size, kernel_init=ZEROS)(h)

    def shifted(self, x: Any, shift: Any, scale: Any) -> Any:
        """Return normed values, scaled and shifted."""
        h = nn.LayerNorm(use_scale=False, use_bias=False)(x)
        return h * (1 + scale) + shift


class Perceiver(nn.Module):
    """Learned queries attend to a series, and then to each other."""

    drop: int = -1

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.LayerNorm()(nn.Dense(32)(x))
        queries = self.param("queries", GPT2, (6, 32))
        z = jnp.broadcast_to(queries, (len(x), 6, 32))
        z += nn.MultiHeadDotProductAttention(4)(nn.LayerNorm()(z), x)
        for i in range(3):
            z += nn.MultiHeadDotProductAttention(4)(_norm_of(self, i)(z))
            z += nn.Dense(32)(nn.gelu(nn.Dense(64)(nn.LayerNorm()(z))))
        return nn.Dense(CLASSES)(nn.LayerNorm()(z).mean(1))


class Graph(nn.Module):
    """A Graph sends messages along the edges of a ring, with residual sums."""

    drop: int = -1

    @nn.compact
    def __call__(self, x: Any) -> Any:
        count = x.shape[1]
        edges = jnp.eye(count) + jnp.roll(jnp.eye(count), 1, 0)
        edges = (edges + edges.T) / 4
        x = nn.Dense(32)(x)
        for i in range(4):
            h = nn.Dense(64, kernel_init=HE)(_norm_of(self, i)(x))
            h = jnp.einsum("nm,bmd->bnd", edges, nn.relu(h))
            x += nn.Dense(32)(h)
        return nn.Dense(CLASSES)(nn.LayerNorm()(x).mean(1))


class Generator(nn.Module):
    """A Generator has transposed convolutions, batch norms and a tanh."""

    drop: int = -1

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Dense(4 * 4 * 32, kernel_init=GPT2)(x).reshape(-1, 4, 4, 32)
        x = nn.relu(batch_norm()(x))
        for i, width in enumerate((32, 24, 16)):
            stride = (2, 2) if i == 0 else (1, 1)
            x = nn.ConvTranspose(width, (4, 4), stride, kernel_init=GPT2)(x)
            x = nn.relu(_norm_of(self, i, batch_norm)(x))
        return nn.tanh(nn.ConvTranspose(3, (4, 4), (2, 2), kernel_init=GPT2)(x))


class Highway(nn.Module):
    """A Highway has layers that pass their input on, since their gates start shut."""

    drop: int = -1

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Dense(48, kernel_init=HE)(x)
        for _ in range(8):
            gate = nn.Dense(48, bias_init=nn.initializers.constant(-2.0))(x)
            gate, h = nn.sigmoid(gate), nn.relu(nn.Dense(48, kernel_init=HE)(x))
            x = gate * h + (1 - gate) * x
        return nn.Dense(CLASSES)(x)


class StateSpace(nn.Module):
    """A StateSpace has diagonal linear recurrences between norms and gated units."""

    drop: int = -1

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Dense(32)(x)
        for i in range(4):
            u = nn.Dense(64)(_norm_of(self, i)(x))
            rates = self.param(f"rates_{i}", nn.initializers.uniform(2.0), (64,))
            decay = jnp.broadcast_to(nn.sigmoid(rates), u.shape)
            _, h = jax.lax.associative_scan(
                lambda a, b: (a[0] * b[0], b[0] * a[1] + b[1]), (decay, u), axis=1
            )
            one, two = jnp.split(nn.Dense(64)(nn.gelu(h)), 2, -1)
            x += one * nn.sigmoid(two)
        return nn.Dense(CLASSES)(nn.LayerNorm()(x).mean(1))


class Coordinates(nn.Module):
    """A Coordinates is a field over coordinates: waves, and a skip halfway."""

    drop: int = -1

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = x[:, :3, None] * 2.0 ** jnp.arange(5)[None, None]
        waves = jnp.concatenate([jnp.sin(x), jnp.cos(x)], -1).reshape(len(x), -1)
        h = waves
        for i in range(6):
            h = jnp.concatenate([h, waves], -1) if i == 3 else h
            h = nn.relu(nn.Dense(64, kernel_init=HE)(h))
        return nn.Dense(4)(h)


class Switch(nn.Module):
    """Each token goes to one expert of four, between blocks of attention."""

    drop: int = -1

    @nn.compact
    def __call__(self, tokens: Any) -> Any:
        x = nn.Embed(64, 32)(tokens)
        init = nn.initializers.lecun_normal(in_axis=-2, out_axis=-1, batch_axis=(0,))
        for i in range(3):
            h = _norm_of(self, i)(x)
            x += nn.MultiHeadDotProductAttention(4)(h)
            h = nn.LayerNorm()(x)
            up = self.param(f"up_{i}", init, (4, 32, 64))
            down = self.param(f"down_{i}", init, (4, 64, 32))
            weights = nn.softmax(nn.Dense(4, name=f"router_{i}")(h))
            chosen = jax.nn.one_hot(weights.argmax(-1), 4) * weights
            y = nn.gelu(jnp.einsum("btd,edm->btem", h, up))
            x += jnp.einsum("btem,emd,bte->btd", y, down, chosen)
        return nn.Dense(CLASSES)(nn.LayerNorm()(x))


class Fixup(nn.Module):
    """A Fixup has residual blocks without norms, after Zhang et al. (2019)."""

    depth: int = 6
    drop: int = -1

    @nn.compact
    def __call__(self, x: Any) -> Any:
        scale = nn.initializers.variance_scaling(2 / self.depth, "fan_in", "normal")
        x = nn.relu(nn.Dense(48, kernel_init=HE)(x))
        for i in range(self.depth):
            y = nn.relu(nn.Dense(48, kernel_init=scale)(x))
            gain = self.param(f"gain_{i}", nn.initializers.ones, ())
            x = nn.relu(x + gain * nn.Dense(48, kernel_init=ZEROS)(y))
        return nn.Dense(CLASSES, kernel_init=ZEROS)(x)


CLEAN = {
    "mobilenet v2": Architecture(of(Mobile), "images"),
    "dense net": Architecture(of(Dense), "images"),
    "squeeze and excite": Architecture(of(Squeeze), "images"),
    "wavenet": Architecture(of(Wave), "series"),
    "encoder and decoder": Architecture(of(Translator), "tokens"),
    "parallel, query norm": Architecture(of(Parallel), "series"),
    "dit": Architecture(of(Diffusion), "series"),
    "perceiver": Architecture(of(Perceiver), "series"),
    "graph": Architecture(of(Graph), "series"),
    "dcgan generator": Architecture(of(Generator), "rows"),
    "highway": Architecture(of(Highway), "rows"),
    "state space": Architecture(of(StateSpace), "series"),
    "coordinates": Architecture(of(Coordinates), "rows"),
    "switch experts": Architecture(of(Switch), "tokens"),
    "fixup": Architecture(of(Fixup), "rows"),
    "mlp, selu": Architecture(of(MLP, act=nn.selu, kernel=LECUN), "rows"),
}
