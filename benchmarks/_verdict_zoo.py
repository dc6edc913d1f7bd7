"""Small healthy architectures for benchmarks.verdicts, in Linen.

`drop` is the number of the block that loses its norm.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

HE = nn.initializers.he_normal()
GPT2 = nn.initializers.normal(0.02)
CLASSES = 10


class Architecture(NamedTuple):
    """`make(drop)` returns a model; `kind` is that of its input."""

    make: Callable[[int], nn.Module]
    kind: str
    # Which output the loss reads, if the model returns several.
    output: Callable[[Any], Any] = lambda output: output


class MLP(nn.Module):
    """Dense layers, with norms or without."""

    act: Any = nn.relu
    kernel: Any = HE
    norm: Any = None
    depth: int = 6
    width: int = 64
    drop: int = -1

    @nn.compact
    def __call__(self, x: Any) -> Any:
        for i in range(self.depth):
            x = nn.Dense(self.width, kernel_init=self.kernel)(x)
            if self.norm and i != self.drop:
                x = self.norm(name=f"norm_{i}")(x)
            x = self.act(x)
        return nn.Dense(CLASSES)(x)


class Residual(nn.Module):
    """Perceptrons on a stream: pre-norm, post-norm, or DeepNorm's scaled stream."""

    act: Any = nn.gelu
    norm: Any = nn.LayerNorm
    is_post: bool = False
    alpha: float = 1.0
    end: Any = nn.initializers.lecun_normal()
    depth: int = 6
    width: int = 32
    drop: int = -1

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Dense(self.width)(x)
        for i in range(self.depth):
            norm = (lambda y: y) if i == self.drop else self.norm(name=f"norm_{i}")
            y = nn.Dense(4 * self.width, kernel_init=HE)(x if self.is_post else norm(x))
            y = nn.Dense(self.width, kernel_init=self.end)(self.act(y))
            x = norm(self.alpha * x + y) if self.is_post else x + y
        return nn.Dense(CLASSES)(x if self.is_post else self.norm()(x))


class Block(nn.Module):
    """Attention, and a perceptron, a gated one, or experts."""

    kernel: Any
    mlp: str = "gelu"
    norm: Any = nn.LayerNorm
    has_norm: bool = True

    @nn.compact
    def __call__(self, x: Any) -> Any:
        width = x.shape[-1]
        y = self.norm(name="norm_1")(x) if self.has_norm else x
        x = x + nn.MultiHeadDotProductAttention(4, kernel_init=self.kernel)(y)
        y = self.norm(name="norm_2")(x)
        if self.mlp == "experts":
            return x + self.experts(y, width)
        h = nn.Dense(4 * width, kernel_init=self.kernel, name="up")(y)
        if self.mlp == "swiglu":
            h *= nn.silu(nn.Dense(4 * width, kernel_init=self.kernel, name="gate")(y))
        elif self.mlp == "relu":
            h = nn.relu(h)
        else:
            h = nn.gelu(h)
        return x + nn.Dense(width, kernel_init=self.kernel, name="down")(h)

    def experts(self, y: Any, width: int, count: int = 4) -> Any:
        """Mix all experts by a softmax, as in soft routing."""
        init = nn.initializers.lecun_normal(in_axis=-2, out_axis=-1, batch_axis=(0,))
        up = self.param("wi", init, (count, width, 2 * width))
        down = self.param("wo", init, (count, 2 * width, width))
        weights = nn.softmax(nn.Dense(count, name="router")(y))
        h = nn.relu(jnp.einsum("btd,edm->btem", y, up))
        return jnp.einsum("btem,emd,bte->btd", h, down, weights)


class Transformer(nn.Module):
    """Tokens or patches -> the mean, the first, or every position."""

    mlp: str = "gelu"
    norm: Any = nn.LayerNorm
    kernel: Any = nn.initializers.lecun_normal()
    head: Any = nn.initializers.lecun_normal()
    reads: str = "all"
    is_scanned: bool = False
    depth: int = 4
    width: int = 32
    drop: int = -1

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Embed(64, self.width)(x) if x.ndim == 2 else nn.Dense(self.width)(x)
        x += self.param("positions", GPT2, (x.shape[1], self.width))[None]
        if self.reads == "first":
            token = self.param("token", nn.initializers.zeros, (1, 1, self.width))
            x = jnp.concatenate([jnp.tile(token, (len(x), 1, 1)), x], 1)
        if self.is_scanned:
            block = Block(
                self.kernel, self.mlp, self.norm, self.drop < 0, name="blocks"
            )
            x, _ = nn.scan(
                lambda block, x, _: (block(x), None), length=self.depth,
                variable_axes={"params": 0}, split_rngs={"params": True},
            )(block, x, None)  # fmt: skip
        else:
            for i in range(self.depth):
                x = Block(self.kernel, self.mlp, self.norm, i != self.drop)(x)
        x = self.norm()(x)
        x = x[:, 0] if self.reads == "first" else x
        x = x.mean(1) if self.reads == "mean" else x
        return nn.Dense(CLASSES, kernel_init=self.head)(x)


class Mixer(nn.Module):
    """Perceptrons over positions and over channels."""

    depth: int = 4
    width: int = 32
    drop: int = -1

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Dense(self.width)(x)
        for i in range(self.depth):
            y = nn.LayerNorm(name=f"norm_{i}")(x) if i != self.drop else x
            y = jnp.swapaxes(y, 1, 2)
            y = nn.Dense(y.shape[-1])(nn.gelu(nn.Dense(32)(y)))
            x += jnp.swapaxes(y, 1, 2)
            y = nn.Dense(64)(nn.LayerNorm()(x))
            x += nn.Dense(self.width)(nn.gelu(y))
        return nn.Dense(CLASSES)(nn.LayerNorm()(x).mean(1))


def batch_norm(**options: Any) -> nn.Module:
    """Return a batch norm in training."""
    return nn.BatchNorm(use_running_average=False, **options)


def group_norm(**options: Any) -> nn.Module:
    """Return a group norm."""
    return nn.GroupNorm(4, **options)


class Convolutions(nn.Module):
    """Plain convolutions, residual blocks of two kinds, or ConvNeXt's blocks."""

    style: str = "plain"
    norm: Any = batch_norm
    last_scale: Any = nn.initializers.ones
    depth: int = 4
    width: int = 16
    drop: int = -1

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Conv(self.width, (3, 3), kernel_init=HE)(x)
        for i in range(self.depth):
            norm = self.norm(name=f"norm_{i}") if i != self.drop else lambda y: y
            x = getattr(self, self.style)(x, norm)
        return nn.Dense(CLASSES)(x.mean((1, 2)))

    def plain(self, x: Any, norm: Any) -> Any:
        """Return a convolution, a norm and a relu."""
        return nn.relu(norm(nn.Conv(self.width, (3, 3), kernel_init=HE)(x)))

    def v1(self, x: Any, norm: Any) -> Any:
        """Return a block of He et al., "Deep residual learning"."""
        y = nn.relu(norm(nn.Conv(self.width, (3, 3), kernel_init=HE)(x)))
        y = nn.Conv(self.width, (3, 3), kernel_init=HE)(y)
        return nn.relu(x + self.norm(scale_init=self.last_scale)(y))

    def v2(self, x: Any, norm: Any) -> Any:
        """Return a block whose norms come first."""
        y = nn.Conv(self.width, (3, 3), kernel_init=HE)(nn.relu(norm(x)))
        y = nn.relu(self.norm()(y))
        return x + nn.Conv(self.width, (3, 3), kernel_init=HE)(y)

    def next(self, x: Any, norm: Any) -> Any:
        """Return a block of Liu et al., "A ConvNet for the 2020s"."""
        y = nn.Conv(self.width, (5, 5), feature_group_count=self.width)(x)
        y = nn.gelu(nn.Dense(4 * self.width)(norm(y)))
        return x + 0.1 * nn.Dense(self.width)(y)


class UNet(nn.Module):
    """Down and up, with long skips; a last convolution of 1e-5."""

    drop: int = -1

    @nn.compact
    def __call__(self, x: Any) -> Any:
        skips = []
        x = nn.Conv(16, (3, 3))(x)
        for i, width in enumerate((16, 32)):
            x = self.block(x, width, i)
            skips.append(x)
            x = nn.avg_pool(x, (2, 2), (2, 2))
        x = self.block(x, 32, 2)
        for i, width in enumerate((32, 16)):
            x = jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)
            x = self.block(jnp.concatenate([x, skips.pop()], -1), width, 3 + i)
        last = nn.initializers.normal(1e-5)
        return nn.Conv(3, (3, 3), kernel_init=last)(nn.silu(nn.GroupNorm(4)(x)))

    def block(self, x: Any, width: int, number: int) -> Any:
        """Return a residual block with group norms."""
        name = f"norm_{number}"
        y = nn.GroupNorm(4, name=name)(x) if number != self.drop else x
        y = nn.Conv(width, (3, 3))(nn.silu(y))
        y = nn.Conv(width, (3, 3))(nn.silu(nn.GroupNorm(4)(y)))
        return nn.Conv(width, (1, 1))(x) + y


class Recurrent(nn.Module):
    """A cell over time, and a readout of the last state."""

    cell: Any = nn.LSTMCell
    drop: int = -1

    @nn.compact
    def __call__(self, x: Any) -> Any:
        for _ in range(2):
            x = nn.RNN(self.cell(32))(x)
        return nn.Dense(CLASSES)(x[:, -1])


class Policy(nn.Module):
    """An actor of 0.01 and a critic."""

    drop: int = -1

    @nn.compact
    def __call__(self, x: Any) -> Any:
        init = nn.initializers.orthogonal
        heads = []
        for size, gain in ((CLASSES, 0.01), (1, 1.0)):
            h = x
            for _ in range(3):
                h = nn.tanh(nn.Dense(64, kernel_init=init(2**0.5))(h))
            heads.append(nn.Dense(size, kernel_init=init(gain))(h))
        return nn.log_softmax(heads[0]), heads[1]


class Autoencoder(nn.Module):
    """A bottleneck, with noise of a variational one or without."""

    is_variational: bool = False
    drop: int = -1

    @nn.compact
    def __call__(self, x: Any) -> Any:
        size, x = x.shape[-1], x.reshape(len(x), -1)
        for width in (128, 64):
            x = nn.relu(nn.Dense(width, kernel_init=HE)(x))
        z = nn.Dense(8)(x)
        if self.is_variational:
            noise = jax.random.normal(jax.random.key(0), z.shape)
            z = z + jnp.exp(0.5 * nn.Dense(8)(x)) * noise
        for width in (64, 128):
            z = nn.relu(nn.Dense(width, kernel_init=HE)(z))
        return nn.Dense(size)(z)


class Flow(nn.Module):
    """Affine couplings, whose last layers start at 0."""

    drop: int = -1

    @nn.compact
    def __call__(self, x: Any) -> Any:
        for _ in range(4):
            one, two = jnp.split(x, 2, -1)
            h = nn.relu(nn.Dense(64, kernel_init=HE)(one))
            h = nn.relu(nn.Dense(64, kernel_init=HE)(h))
            h = nn.Dense(2 * two.shape[-1], kernel_init=nn.initializers.zeros)(h)
            scale, shift = jnp.split(h, 2, -1)
            x = jnp.concatenate([two * jnp.exp(nn.tanh(scale)) + shift, one], -1)
        return x


def of(module: Any, **options: Any) -> Callable[[int], nn.Module]:
    """Return a function of the dropped block that makes a module."""
    return lambda drop: module(**options, drop=drop)


TRUNCATED = nn.initializers.truncated_normal(0.02)
ZEROS = nn.initializers.zeros
SMALL = nn.initializers.variance_scaling(0.1, "fan_in", "normal")
# The limits of verdicts were chosen on these architectures, and not on those of
# _verdict_clean.py.
CHOSEN = {
    "mlp, relu": Architecture(of(MLP), "rows"),
    "mlp, gelu, layer norm": Architecture(
        of(MLP, act=nn.gelu, norm=nn.LayerNorm), "rows"
    ),
    "residual, pre-norm": Architecture(of(Residual), "rows"),
    "residual, post-norm": Architecture(of(Residual, is_post=True), "rows"),
    "gpt": Architecture(of(Transformer, kernel=GPT2), "tokens"),
    "llama": Architecture(of(Transformer, mlp="swiglu", norm=nn.RMSNorm), "tokens"),
    "convolutions, batch norm": Architecture(of(Convolutions), "images"),
    "resnet v1, last norm 0": Architecture(
        of(Convolutions, style="v1", last_scale=ZEROS), "images"
    ),
    "u-net": Architecture(of(UNet), "images"),
    "lstm": Architecture(of(Recurrent), "series"),
    "policy": Architecture(of(Policy), "rows", lambda output: output[0]),
    "autoencoder": Architecture(of(Autoencoder), "rows"),
    "mlp, tanh": Architecture(
        of(MLP, act=nn.tanh, kernel=nn.initializers.xavier_normal()), "rows"
    ),
    "mlp, relu, batch norm": Architecture(of(MLP, norm=batch_norm), "rows"),
    "residual, rms norm, end 0": Architecture(
        of(Residual, norm=nn.RMSNorm, act=nn.relu, end=ZEROS), "rows"
    ),
    "residual, deepnorm": Architecture(
        of(Residual, is_post=True, alpha=2.0, end=SMALL), "rows"
    ),
    "vit, head 0": Architecture(of(Transformer, reads="first", head=ZEROS), "series"),
    "experts": Architecture(of(Transformer, mlp="experts"), "tokens"),
    "transformer, scanned": Architecture(
        of(Transformer, mlp="relu", is_scanned=True, reads="mean"), "series"
    ),
    "mixer": Architecture(of(Mixer), "series"),
    "resnet v2, group norm": Architecture(
        of(Convolutions, style="v2", norm=group_norm), "images"
    ),
    "convnext": Architecture(
        of(Convolutions, style="next", norm=nn.LayerNorm), "images"
    ),
    "gru": Architecture(of(Recurrent, cell=nn.GRUCell), "series"),
    "variational autoencoder": Architecture(
        of(Autoencoder, is_variational=True), "rows"
    ),
    "flow": Architecture(of(Flow), "rows"),
}


def inputs(kind: str) -> jax.Array:
    """Return a batch of a kind of input."""
    key = jax.random.key(3)
    if kind == "tokens":
        return jax.random.randint(key, (16, 12), 0, 64)
    shapes = {"rows": (64, 32), "series": (16, 12, 16), "images": (16, 8, 8, 3)}
    return jax.random.normal(key, shapes[kind])
