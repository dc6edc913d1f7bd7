"""These small models for images are architectures for in_libraries.py."""

from typing import Any

import jax
import jax.numpy as jnp

WIDTH, HEADS, PATCH, CHANNELS = 16, 2, 2, 3


def attention(layers: Any, name: str, x: Any, context: Any = None) -> Any:
    """Return the output of an attention, with one layer for each of q, k and v."""
    context = x if context is None else context

    def heads(part: str, x: Any) -> Any:
        y = layers.linear(f"{name}_{part}", WIDTH, WIDTH)(x)
        return y.reshape(*y.shape[:-1], HEADS, WIDTH // HEADS)

    q, k, v = heads("query", x), heads("key", context), heads("value", context)
    weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / 8**0.5, axis=-1)
    y = jnp.einsum("bhqk,bkhd->bqhd", weights, v)
    return layers.linear(f"{name}_out", WIDTH, WIDTH)(y.reshape(*y.shape[:2], WIDTH))


def mlp(layers: Any, name: str, x: Any) -> Any:
    h = jax.nn.gelu(layers.linear(f"{name}_up", WIDTH, 4 * WIDTH)(x))
    return layers.linear(f"{name}_down", 4 * WIDTH, WIDTH)(h)


def _patches(layers: Any, image: Any) -> Any:
    x = layers.conv("patches", CHANNELS, WIDTH, PATCH, PATCH)(image)
    return x.reshape(len(x), -1, WIDTH)


def vit(layers: Any, image: Any, depth: int = 2, pooling: bool = False) -> Any:
    """Return the logits of big_vision's ViT, by a class token or attention pooling."""
    x = _patches(layers, image)
    x = x + layers.parameter("positions", (1, x.shape[1], WIDTH))
    if not pooling:
        token = layers.parameter("token", (1, 1, WIDTH))
        x = jnp.concatenate([jnp.tile(token, (len(x), 1, 1)), x], axis=1)
    for i in range(depth):
        y = layers.layer_norm(f"norm{i}a", WIDTH)(x)
        x = x + attention(layers, f"attention{i}", y)
        x = x + mlp(layers, f"mlp{i}", layers.layer_norm(f"norm{i}b", WIDTH)(x))
    x = layers.layer_norm("norm", WIDTH)(x)
    if not pooling:
        return layers.linear("head", WIDTH, 5)(x[:, 0])
    probe = jnp.tile(layers.parameter("probe", (1, 1, WIDTH)), (len(x), 1, 1))
    x = attention(layers, "pool", probe, x)
    x = x + mlp(layers, "pool_mlp", layers.layer_norm("pool_norm", WIDTH)(x))
    return x[:, 0]


def _normed(x: Any) -> Any:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-6)


def _modulated(x: Any, shift: Any, scale: Any) -> Any:
    return _normed(x) * (1 + scale[:, None, :]) + shift[:, None, :]


def dit(layers: Any, image: Any, time: Any, label: Any, depth: int = 2) -> Any:
    """Return the output of a DiT: time and label modulate each block."""
    x = _patches(layers, image)
    x = x + layers.parameter("positions", (1, x.shape[1], WIDTH))
    angles = time[:, None] * 1e4 ** (-jnp.arange(4)[None, :] / 4)
    waves = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
    time = jax.nn.silu(layers.linear("time1", 8, WIDTH)(waves))
    condition = layers.linear("time2", WIDTH, WIDTH)(time)
    condition = jax.nn.silu(condition + layers.table("labels", 11, WIDTH)(label))
    for i in range(depth):
        modulation = layers.linear(f"modulation{i}", WIDTH, 6 * WIDTH)(condition)
        shift1, scale1, gate1, shift2, scale2, gate2 = jnp.split(modulation, 6, axis=-1)
        y = attention(layers, f"attention{i}", _modulated(x, shift1, scale1))
        x = x + gate1[:, None, :] * y
        y = mlp(layers, f"mlp{i}", _modulated(x, shift2, scale2))
        x = x + gate2[:, None, :] * y
    modulation = layers.linear("modulation", WIDTH, 2 * WIDTH)(condition)
    x = _modulated(x, *jnp.split(modulation, 2, axis=-1))
    return layers.linear("last", WIDTH, PATCH * PATCH * CHANNELS)(x)


def bottlenecks(layers: Any, image: Any) -> Any:
    """Return the logits of torchvision's ResNet with two kinds of bottlenecks."""
    x = layers.conv("stem", CHANNELS, 8, 3)(image)
    x = jax.nn.relu(layers.group_norm("stem_norm", 8)(x))
    for i, (n, m, stride) in enumerate([(8, 8, 1), (8, 16, 2)]):
        y = layers.conv(f"conv{i}a", n, 4, 1)(x)
        y = jax.nn.relu(layers.group_norm(f"norm{i}a", 4)(y))
        y = layers.conv(f"conv{i}b", 4, 4, 3, stride)(y)
        y = jax.nn.relu(layers.group_norm(f"norm{i}b", 4)(y))
        y = layers.group_norm(f"norm{i}c", m)(layers.conv(f"conv{i}c", 4, m, 1)(y))
        if n != m:
            x = layers.conv(f"shortcut{i}", n, m, 1, stride)(x)
            x = layers.group_norm(f"shortcut_norm{i}", m)(x)
        x = jax.nn.relu(x + y)
    return layers.linear("head", 16, 5)(x.mean(axis=(1, 2)))


def _unet_block(layers: Any, name: str, x: Any, time: Any, m: int) -> Any:
    n = x.shape[-1]
    h = jax.nn.silu(layers.group_norm(f"{name}_norm1", n)(x))
    h = layers.conv(f"{name}_conv1", n, m, 3)(h)
    h = h + layers.linear(f"{name}_time", WIDTH, m)(jax.nn.silu(time))[:, None, None, :]
    h = jax.nn.silu(layers.group_norm(f"{name}_norm2", m)(h))
    h = layers.conv(f"{name}_conv2", m, m, 3)(h)
    return (x if n == m else layers.conv(f"{name}_skip", n, m, 1)(x)) + h


def unet(layers: Any, image: Any, time: Any, label: Any) -> Any:
    """Return the output of guided-diffusion's U-Net, with attention and long skips."""
    waves = jnp.concatenate([jnp.cos(time)[:, None], jnp.sin(time)[:, None]], axis=-1)
    time = layers.linear("time1", 2, WIDTH)(waves)
    time = layers.linear("time2", WIDTH, WIDTH)(jax.nn.silu(time))
    time = time + layers.table("labels", 11, WIDTH)(label)
    first = layers.conv("first", CHANNELS, 8, 3)(image)
    left = _unet_block(layers, "left", first, time, 8)
    x = layers.conv("down", 8, 8, 3, 2)(left)
    x = _unet_block(layers, "middle", x, time, WIDTH)
    batch, height, width, _ = x.shape
    y = layers.group_norm("attention_norm", WIDTH)(x).reshape(batch, -1, WIDTH)
    x = x + attention(layers, "attention", y).reshape(batch, height, width, WIDTH)
    x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
    x = layers.conv("up", WIDTH, 8, 3)(x)
    x = _unet_block(layers, "right", jnp.concatenate([x, left], axis=-1), time, 8)
    x = jax.nn.silu(layers.group_norm("last_norm", 8)(x))
    return layers.conv("last", 8, CHANNELS, 3)(x)


def towers(layers: Any, image: Any, text: Any, has_bias: bool = True) -> Any:
    """Return the logits of all pairs of a batch, from two towers."""
    x = layers.linear("image", 6, 4)(image)
    y = layers.linear("text", 5, 4)(text)
    x, y = (z / jnp.linalg.norm(z, axis=-1, keepdims=True) for z in (x, y))
    scale = jnp.exp(layers.parameter("scale", ()))
    if not has_bias:
        return (scale * x) @ y.T
    return (x @ y.T) * scale + layers.parameter("bias", ())
