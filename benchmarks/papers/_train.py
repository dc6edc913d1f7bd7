"""Train several networks at once by gradient descent, in one compiled program."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from examples import _data, _mlp

CLASSES = 10

Loss = Callable[[Any, Any], jax.Array]


@functools.partial(jax.jit, static_argnames=("loss", "optimizer", "steps", "size"))
def fit(
    loss: Loss,
    params: Any,
    data: Any,
    key: jax.Array,
    *,
    optimizer: optax.GradientTransformation,
    steps: int,
    size: int | None = None,
) -> tuple[Any, jax.Array]:
    """Train the networks that are stacked in `params`: (params, losses by step).

    All networks see the same batches: `size` random rows of `data`, or all rows. Once
    the loss of a network is not a number it stays so, which shows that it diverged.
    """
    rows = jax.tree.leaves(data)[0].shape[0]

    def step(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        params, opt_state = state
        batch = data
        if size is not None:
            chosen = jax.random.randint(key, (size,), 0, rows)
            batch = jax.tree.map(lambda a: a[chosen], data)
        value, gradient = jax.value_and_grad(loss)(params, batch)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), value

    def one(params: Any) -> tuple[Any, jax.Array]:
        state = params, optimizer.init(params)
        (params, _), losses = jax.lax.scan(step, state, jax.random.split(key, steps))
        return params, losses

    return jax.vmap(one)(params)


@functools.lru_cache
def momentum(rate: float, clip: float | None = 1.0) -> optax.GradientTransformation:
    """Return SGD with momentum 0.9 and a clipped gradient, the same object each time.

    `fit` is compiled anew for each optimizer object.
    """
    sgd = optax.sgd(rate, momentum=0.9)
    return sgd if clip is None else optax.chain(optax.clip_by_global_norm(clip), sgd)


def training(images: _data.Images, most: int | None = None) -> _mlp.Batch:
    """Return the training images, or the first `most` of them."""
    x, y = images.train_x[:most], images.train_y[:most]
    return _mlp.Batch(jnp.asarray(x), jnp.asarray(y))


def draw(
    scheme: _mlp.Init, seeds: int, inputs: int, width: int, depth: int, seed: int = 0
) -> _mlp.Params:
    """Draw perceptrons of several seeds, stacked."""
    keys = jax.random.split(jax.random.key(seed), seeds)
    one = functools.partial(
        _mlp.init, scheme, inputs=inputs, width=width, depth=depth, classes=CLASSES
    )
    return jax.jit(jax.vmap(one))(keys)


def stack(networks: list[Any]) -> Any:
    """Join stacks of networks into one stack."""
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *networks)


@functools.lru_cache
def mlp_loss(activation: _mlp.Activation) -> Loss:
    """Return the cross-entropy of a perceptron, the same object each time."""
    return lambda params, batch: _mlp.loss(params, batch, activation)


@functools.partial(jax.jit, static_argnames="activation")
def accuracies(
    params: _mlp.Params, batch: _mlp.Batch, activation: _mlp.Activation
) -> jax.Array:
    """Return the share of images that each of the stacked networks classifies right."""
    return jax.vmap(lambda p: _mlp.accuracy(p, batch, activation))(params)


@functools.partial(jax.jit, static_argnames="activation")
def signals(
    params: _mlp.Params, batch: _mlp.Batch, activation: _mlp.Activation
) -> _mlp.Signal:
    """Measure activations and gradients by layer in each of the stacked networks."""
    return jax.vmap(lambda p: _mlp.signal(p, batch, activation))(params)


def last(losses: Any, steps: int = 20) -> np.ndarray:
    """Return each network's mean loss over the last steps, infinite if it diverged."""
    values = np.asarray(losses, np.float64)[:, -steps:].mean(axis=1)
    return np.where(np.isfinite(values), values, np.inf)
