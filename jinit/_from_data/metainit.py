"""MetaInit: scales with which the gradient changes least along a step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._network import network
from .history import History
from .search import Measured, learn, objective, trained_of

_EPS = 1e-5


@network.function_of_a_model
def metainit(
    model: Any,
    variables: Any,
    batch: Any,
    *,
    loss: Callable[[Any], Any] | None = None,
    steps: int = 300,
    learning_rate: float = 0.03,
    tol: float = 0.01,
    progress: bool = True,
    rngs: Any = None,
    **options: Any,
) -> tuple[Any, History]:
    """Learn a scale for each tensor: the least gradient quotient.

    With g the gradient of the loss and H its second derivative, the quotient is the
    mean over all parameters of |(g - H g) / (g + eps sign g) - 1|, eps = 1e-5: how far
    a step of gradient descent changes the gradient itself. The denominator is held
    fixed where it is differentiated. Scales are exp(l), l learned by Adam of Optax;
    tensors of zeros stay. A step costs a few passes; a batch of noise does as well.

    Args:
      model: a Linen module, or a function of (variables, batch).
      variables: what it takes.
      batch: its input, an array, or a tuple of several.
      loss: a function of the output that gives a scalar; by default half the mean
        square distance to fixed normal numbers.
      steps: steps of the search at most; it ends when 25 bring no gain.
      learning_rate: of the search.
      tol: the least relative gain that counts; without one nothing is changed.
      progress: whether to show a progress bar, on a terminal.
      rngs: for a Linen module, the keys of dropout and the like.
      **options: more arguments of the model, as `train=True`.

    Returns:
      New variables, and a `History` of the quotient.

    Raises:
      TypeError: for something that is neither a module nor a function.
      ValueError: for a quotient that is not finite, or parameters of zeros.

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
    forward = network.forward_of(model, options, "metainit")
    search = {"steps": steps, "learning_rate": learning_rate, "tol": tol}
    inputs = (rngs, *network.inputs_of(batch))
    return least_quotient(forward, variables, inputs, loss, search, progress)


def least_quotient(
    forward: Callable[..., Any],
    variables: Any,
    batch: tuple[Any, ...],
    loss: Callable[[Any], Any] | None,
    search: dict[str, Any],
    progress: bool,
) -> tuple[Any, History]:
    """`metainit` of a function of (variables, batch)."""
    trained = trained_of(variables)
    lost = objective(forward, trained, batch, loss or _distance)

    def measure(tensors: list[Any]) -> Measured:
        quotient = gradient_quotient(lost, tensors)
        return Measured(quotient, jnp.zeros(()), {"gradient_quotient": quotient})

    variables, rows = learn(
        trained, measure, **search, progress=progress, title="metainit"
    )
    return variables, History("metainit", rows, ("gradient_quotient",))


def gradient_quotient(lost: Callable[..., Any], tensors: list[Any]) -> jax.Array:
    """The mean of |(g - H g) / (g + eps sign g) - 1|."""
    slopes, curved = jax.jvp(jax.grad(lost), (tensors,), (jax.grad(lost)(tensors),))
    total = jnp.zeros((), np.float32)
    for g, hg in zip(slopes, curved, strict=True):
        sign = jnp.where(g >= 0, 1, -1)
        below = jax.lax.stop_gradient(g + _EPS * sign)
        total += jnp.sum(jnp.abs((g - hg) / below - 1))
    return total / sum(g.size for g in slopes)


def _distance(output: Any) -> jax.Array:
    """Half the mean square distance to fixed normal numbers."""
    total, count = jnp.zeros((), np.float32), 0
    for number, leaf in enumerate(jax.tree.leaves(output)):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            target = jax.random.normal(jax.random.key(number), leaf.shape, np.float32)
            total += jnp.sum((leaf - target) ** 2) / 2
            count += leaf.size
    return total / max(count, 1)
