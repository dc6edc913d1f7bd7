"""`gradinit` learns the scales with which the optimizer's first step gains most."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .._core import checks
from .._network.calling import network_of, rebuilt
from .history import History
from .search import Loss, Measured, Search, learn, task_of


def gradinit(
    model: Any,
    *arguments: Any,
    loss: Callable[[Any], Any],
    kind: str = "sgd",
    step_size: float = 0.1,
    max_norm: float = 1.0,
    steps: int = 300,
    learning_rate: float = 0.03,
    tol: float = 0.01,
    progress: bool = True,
    rngs: Any = None,
    **options: Any,
) -> tuple[Any, History]:
    """Learn one scale for each tensor, so that the first step lowers the loss most.

    With theta the scaled parameters and g the gradient of the loss there: minimize
    loss(theta - step_size A[g]) subject to |g| <= max_norm. For SGD A[g] = g and |g| is
    the Euclidean norm; for Adam A[g] = sign g and |g| is the sum of magnitudes. While
    the norm is too large, the search minimizes the norm. The scales are exp(l), and
    Adam learns l. Tensors of zeros stay as they are. The search needs second
    derivatives, so that one step costs a few passes through the model.

    Args:
      model: a Linen module, a function of (variables, ...), a model that holds its
        arrays, or a `jinit.Network` of one of them.
      *arguments: those with which one would call the model; see `jinit.network`.
      loss: a function of the output that returns a scalar, such as `lambda y:
        cross_entropy(y, labels)`.
      kind: the optimizer that will train the network, "sgd" or "adam".
      step_size: the learning rate of the first step.
      max_norm: the bound on the gradient's norm.
      steps: the largest number of steps of the search. It ends earlier if 25 steps
        bring no gain.
      learning_rate: the learning rate of the search.
      tol: the least relative gain that counts; without one nothing is changed.
      progress: whether to show a progress bar, on a terminal.
      rngs: keys, where the call draws numbers, as for `jinit.network`.
      **options: keyword arguments of the call, such as `train=True`.

    Returns:
      The variables, or the model, with new numbers, and a `History` of the loss after
      a step and the gradient's norm.

    Raises:
      TypeError: as for `jinit.network`, or if shapes came where numbers are needed.
      ValueError: if the loss is not finite or not a scalar, or every parameter is 0.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, jinit
      >>> model = nn.Sequential([nn.Dense(32), nn.relu, nn.Dense(1)])
      >>> x = jax.random.normal(jax.random.key(0), (64, 8))
      >>> variables = model.init(jax.random.key(1), x)
      >>> loss = lambda y: jnp.mean((y - x[:, :1]) ** 2)
      >>> variables, history = jinit.gradinit(model, variables, x, loss=loss, steps=50)
      >>> lost = [row["loss_after_a_step"] for row in history.rows]
      >>> min(lost) < lost[0]
      True

    References:
      Zhu, Ni, Xu, Kong, Huang and Goldstein, "GradInit: learning to initialize neural
        networks for stable and efficient training", NeurIPS 2021.
    """
    import optax

    net = network_of(model, arguments, rngs, options, "gradinit")
    is_adam = checks.choice("kind", kind, ("sgd", "adam")) == "adam"
    size = checks.real("step_size", step_size, positive=True)
    bound = checks.real("max_norm", max_norm, positive=True)

    def measure(loss_at: Loss, tensors: list[Any]) -> Measured:
        value, slopes = jax.value_and_grad(loss_at)(tensors)
        wide = [slope.astype(jnp.float32) for slope in slopes]
        norm = optax.tree.norm(wide, ord=1 if is_adam else 2)
        moved = [
            (w - size * (jnp.sign(g) if is_adam else g)).astype(w.dtype)
            for w, g in zip(tensors, slopes, strict=True)
        ]
        after = loss_at(moved)
        report = {"loss_after_a_step": after, "gradient_norm": norm}
        excess = jnp.where(norm > bound, norm, 0)
        # If the loss is not finite, as log(-1), its gradient means nothing, and the
        # search must not go on from it.
        excess = jnp.where(jnp.isfinite(value), excess, jnp.nan)
        return Measured(after, excess, report)

    search = Search(steps, learning_rate, tol, progress)
    task = task_of("gradinit", net, loss, measure, (is_adam, size, bound))
    params, rows = learn(task, search)
    drawn = ("loss_after_a_step", "gradient_norm")
    return rebuilt(net, params), History("gradinit", rows, drawn)
