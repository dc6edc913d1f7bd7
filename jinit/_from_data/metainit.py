"""`metainit` learns the scales with which the gradient changes least along a step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._network.calling import network_of, rebuilt
from .history import History
from .search import Loss, Measured, Search, learn, task_of

# The eps of the paper, which keeps the quotient finite where a gradient is 0.
_EPS = 1e-5


def metainit(
    model: Any,
    *arguments: Any,
    loss: Callable[[Any], Any] | None = None,
    steps: int = 300,
    learning_rate: float = 0.03,
    tol: float = 0.01,
    progress: bool = True,
    rngs: Any = None,
    **options: Any,
) -> tuple[Any, History]:
    """Learn one scale for each tensor, so that the gradient changes least in a step.

    With g the gradient of the loss and H its second derivative, the search minimizes
    the gradient quotient, the mean over all parameters of |(g - H g) / (g + eps sign g)
    - 1| with eps = 1e-5: how far a step of gradient descent changes the gradient
    itself. The scales are exp(l), and Adam learns l. Tensors of zeros stay as they are.
    One step costs a few passes through the model, and a batch of noise serves as well.

    Args:
      model: a Linen module, a function of (variables, ...), a model that holds its
        arrays, or a `jinit.Network` of one of them.
      *arguments: those with which one would call the model; see `jinit.network`.
      loss: a function of the output that returns a scalar; by default half the mean
        square distance to fixed normal numbers.
      steps: the largest number of steps of the search. It ends earlier if 25 steps
        bring no gain.
      learning_rate: the learning rate of the search.
      tol: the least relative gain that counts; without one nothing is changed.
      progress: whether to show a progress bar, on a terminal.
      rngs: keys, where the call draws numbers, as for `jinit.network`.
      **options: keyword arguments of the call, such as `train=True`.

    Returns:
      The variables, or the model, with new numbers, and a `History` of the quotient.

    Raises:
      TypeError: as for `jinit.network`, or if shapes came where numbers are needed.
      ValueError: if the quotient is not finite, or every parameter is 0.

    Example:
      >>> import flax.linen as nn, jax, jinit
      >>> wide = jinit.normal(0.5)
      >>> model = nn.Sequential([nn.Dense(32, kernel_init=wide), nn.tanh, nn.Dense(4)])
      >>> x = jax.random.normal(jax.random.key(0), (64, 8))
      >>> variables = model.init(jax.random.key(1), x)
      >>> variables, history = jinit.metainit(model, variables, x, steps=50)
      >>> quotients = [row["gradient_quotient"] for row in history.rows]
      >>> min(quotients) < quotients[0]
      True

    References:
      Dauphin and Schoenholz, "MetaInit: initializing learning by learning to
        initialize", NeurIPS 2019.
    """
    net = network_of(model, arguments, rngs, options, "metainit")
    task = task_of("metainit", net, loss or _distance, _measure)
    params, rows = learn(task, Search(steps, learning_rate, tol, progress))
    return rebuilt(net, params), History("metainit", rows, ("gradient_quotient",))


def _measure(loss_at: Loss, tensors: list[Any]) -> Measured:
    quotient = gradient_quotient(loss_at, tensors)
    return Measured(quotient, jnp.zeros(()), {"gradient_quotient": quotient})


def gradient_quotient(loss_at: Callable[..., Any], tensors: list[Any]) -> jax.Array:
    """Return the mean of |(g - H g) / (g + eps sign g) - 1|."""
    # H g is the derivative of the gradient along itself, so H is never formed.
    gradient = jax.grad(loss_at)
    slopes, curved = jax.jvp(gradient, (tensors,), (gradient(tensors),))
    total = jnp.zeros((), np.float32)
    for g, hg in zip(slopes, curved, strict=True):
        # jnp.sign(0) is 0, which would leave a denominator of 0.
        sign = jnp.where(g >= 0, 1, -1)
        # The paper holds the denominator fixed where the quotient is differentiated.
        below = jax.lax.stop_gradient(g + _EPS * sign)
        total += jnp.sum(jnp.abs((g - hg) / below - 1))
    return jnp.asarray(total / sum(g.size for g in slopes))


def _distance(output: Any) -> jax.Array:
    """Return half the mean square distance of the output to fixed normal numbers."""
    total, count = jnp.zeros((), np.float32), 0
    for number, leaf in enumerate(jax.tree.leaves(output)):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            target = jax.random.normal(jax.random.key(number), leaf.shape, np.float32)
            total += jnp.sum((leaf - target) ** 2) / 2
            count += leaf.size
    return total / max(count, 1)
