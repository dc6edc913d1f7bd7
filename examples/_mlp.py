"""Draw, run, train and measure a plain perceptron of equal layers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Init = Callable[..., jax.Array]
Activation = Callable[[jax.Array], jax.Array]


class Params(NamedTuple):
    """The hidden kernels are stacked, so that one loop runs over all layers."""

    first: jax.Array  # (inputs, width)
    hidden: jax.Array  # (depth - 1, width, width)
    last: jax.Array  # (width, classes)
    biases: jax.Array  # (depth, width)


class Batch(NamedTuple):
    """A batch holds images as rows, and their labels."""

    x: jax.Array
    y: jax.Array


class Settings(NamedTuple):
    """The settings are the activation, the optimizer and the batch size of a run."""

    activation: Activation
    optimizer: optax.GradientTransformation
    batch_size: int


class Signal(NamedTuple):
    """The signal runs from the first layer to the last, before any training."""

    activation_rms: jax.Array  # (depth,) after the activation
    gradient_rms: jax.Array  # (depth,) of the loss, to each pre-activation
    last_activation_std: jax.Array
    first_gradient_norm: jax.Array


class Curves(NamedTuple):
    """The curves have one value for each round of steps."""

    loss: jax.Array
    test_accuracy: jax.Array


def init(
    scheme: Init, key: jax.Array, inputs: int, width: int, depth: int, classes: int
) -> Params:
    """Draw all kernels of a network by one scheme; biases are zero."""
    keys = jax.random.split(key, depth + 1)
    return Params(
        first=scheme(keys[0], (inputs, width)),
        hidden=jax.vmap(lambda k: scheme(k, (width, width)))(keys[1:depth]),
        last=scheme(keys[depth], (width, classes)),
        biases=jnp.zeros((depth, width)),
    )


def forward(
    params: Params, x: jax.Array, activation: Activation, taps: jax.Array | float = 0.0
) -> tuple[jax.Array, jax.Array]:
    """Return the logits and the activations of every layer.

    The taps are added to the pre-activations, so that the gradient to a tap is that to
    its pre-activation.
    """
    depth = params.biases.shape[0]
    taps = jnp.broadcast_to(taps, (depth, x.shape[0], params.biases.shape[1]))
    h = activation(x @ params.first + params.biases[0][None] + taps[0])

    def layer(h: jax.Array, parts: Any) -> tuple[jax.Array, jax.Array]:
        kernel, bias, tap = parts
        h = activation(h @ kernel + bias[None] + tap)
        return h, h

    last, rest = jax.lax.scan(layer, h, (params.hidden, params.biases[1:], taps[1:]))
    return last @ params.last, jnp.concatenate([h[None], rest])


def loss(params: Params, batch: Batch, activation: Activation) -> jax.Array:
    """Return the mean cross-entropy, which is ln 10 if ten classes are guessed."""
    logits, _ = forward(params, batch.x, activation)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.y)
    return losses.mean()


def accuracy(params: Params, batch: Batch, activation: Activation) -> jax.Array:
    """Return the share of images whose largest logit is that of the label."""
    logits, _ = forward(params, batch.x, activation)
    return jnp.mean(jnp.argmax(logits, axis=-1) == batch.y)


def signal(params: Params, batch: Batch, activation: Activation) -> Signal:
    """Measure the activations and gradients of a network by layer, on one batch."""

    def tapped(taps: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits, activations = forward(params, batch.x, activation, taps)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.y)
        return losses.mean(), activations

    depth, width = params.biases.shape
    taps = jnp.zeros((depth, batch.x.shape[0], width))
    gradients, activations = jax.grad(tapped, has_aux=True)(taps)
    kernels = jax.grad(loss)(params, batch, activation)
    return Signal(
        activation_rms=_rms(activations),
        gradient_rms=_rms(gradients),
        last_activation_std=activations[-1].std(),
        first_gradient_norm=jnp.linalg.norm(kernels.first),
    )


def _rms(x: jax.Array) -> jax.Array:
    """Return the root mean square over all axes except the first."""
    # The squares of small gradients would underflow.
    largest = jnp.max(jnp.abs(x), axis=(1, 2), keepdims=True)
    unit = x / jnp.where(largest > 0, largest, 1)
    return largest[:, 0, 0] * jnp.sqrt(jnp.mean(unit**2, axis=(1, 2)))


def train_round(
    state: tuple[Params, Any], key: jax.Array, train: Batch, steps: int, s: Settings
) -> tuple[tuple[Params, Any], jax.Array]:
    """Train on random batches for a round; return the state and the mean loss."""

    def step(state: tuple[Params, Any], key: jax.Array) -> Any:
        params, opt_state = state
        rows = jax.random.randint(key, (s.batch_size,), 0, len(train.y))
        batch = Batch(train.x[rows], train.y[rows])
        value, gradient = jax.value_and_grad(loss)(params, batch, s.activation)
        updates, opt_state = s.optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), value

    state, losses = jax.lax.scan(step, state, jax.random.split(key, steps))
    return state, losses.mean()
