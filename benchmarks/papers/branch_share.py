"""De and Smith 2020: batch normalization makes residual blocks start near the identity.

A block computes x + W_2 relu(BN(W_1 relu(BN(x)))). Its branch reads a normalized
signal, so that He's kernels give it the second moment 1 at any depth. Behind block l
the stream has gathered l branches and its input, l + 1 in all, and the last branch has
a share of 1 / (l + 1). Without norms the branch is as large as the stream that it
reads: its share is 1/2 in all blocks, and the stream doubles in each.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import jinit
from benchmarks.papers import _train
from benchmarks.papers._result import Result, panels
from examples._data import Images


def run(quick: bool, images: Images) -> Result:
    """Measure every branch's share of the stream, with and without norms."""
    width, depth, seeds = (128, 30, 2) if quick else (512, 100, 4)
    x = _train.training(images, 256).x
    shares = {
        name: np.asarray(_shares(x, norm, width, depth, seeds))
        for name, norm in (("batch norm", True), ("no norm", False))
    }
    law = 1 / (np.arange(1, depth + 1) + 1)
    ours, plain = (values.mean(axis=0) for values in shares.values())
    off = float(abs(ours / law - 1).max())
    slope = float(np.polyfit(np.log(1 / law), np.log(ours), 1)[0])
    return Result(
        "De and Smith 2020",
        "with batch normalization the branch of block l has a share 1 / (l + 1) of the "
        "stream; without it the share is 1/2 in every block",
        f"batch norm: shares {ours[0]:.3f}, {ours[depth // 2]:.4f}, {ours[-1]:.4f} in "
        f"blocks 1, {depth // 2 + 1}, {depth} (1 / (l + 1): {law[0]:.3f}, "
        f"{law[depth // 2]:.4f}, {law[-1]:.4f}), as (l + 1)^{slope:.2f}; no norm: "
        f"{plain.min():.2f} to {plain.max():.2f}",
        {"shares": shares, "off": off, "slope": slope},
        {
            "batch norm: within 15 % of 1 / (l + 1) in all blocks": off < 0.15,
            "batch norm: the exponent is -1 within 0.05": abs(slope + 1) < 0.05,
            "no norm: 1/2 within 0.05, the mean of all blocks": bool(
                abs(plain.mean() - 0.5) < 0.05
            ),
        },
        _figure(shares, law),
    )


@functools.partial(jax.jit, static_argnames=("norm", "width", "depth", "seeds"))
def _shares(x: jax.Array, norm: bool, width: int, depth: int, seeds: int) -> jax.Array:
    """Return the second moment of each branch over that of the stream behind it."""
    kernels = jinit.stacked(jinit.he())

    def one(key: jax.Array) -> jax.Array:
        first_key, up_key, down_key = jax.random.split(key, 3)
        first = x @ jinit.lecun()(first_key, (x.shape[1], width))
        # The stream starts with the second moment 1 that a branch adds.
        first = first * jax.lax.rsqrt(jnp.mean(first**2))

        def block(h: jax.Array, parts: Any) -> tuple[jax.Array, jax.Array]:
            branch = h
            for kernel in parts:
                branch = _normalized(branch) if norm else branch
                branch = jax.nn.relu(branch) @ kernel
            after = h + branch
            return after, jnp.mean(branch**2) / jnp.mean(after**2)

        shape = (depth, width, width)
        parts = kernels(up_key, shape), kernels(down_key, shape)
        return jax.lax.scan(block, first, parts)[1]

    return jax.vmap(one)(jax.random.split(jax.random.key(0), seeds))


def _normalized(z: jax.Array) -> jax.Array:
    """Return each unit's values with mean 0 and variance 1 over the batch."""
    z = z - z.mean(axis=0, keepdims=True)
    return z * jax.lax.rsqrt(jnp.mean(z**2, axis=0, keepdims=True) + 1e-6)


def _figure(shares: dict[str, np.ndarray], law: np.ndarray) -> Figure:
    figure, (axes,) = panels(
        ["the branch's share of the stream"], ["block"], ["share"], log=True
    )
    blocks = np.arange(1, len(law) + 1)
    for name, values in shares.items():
        axes.plot(blocks, values.mean(axis=0), label=name)
    axes.plot(blocks, law, color="gray", lw=0.8, label="1 / (l + 1)")
    axes.set_xscale("log")
    axes.legend()
    return figure
