"""GradInit: scales with which the first step of the optimizer does most."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .._core import checks
from .._network import network
from .history import History
from .search import Measured, learn, objective, trained_of


@network.function_of_a_model
def gradinit(
    model: Any,
    variables: Any,
    batch: Any,
    *,
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
    """Learn a scale for each tensor: least loss after one step, gradient in bounds.

    With theta the scaled parameters and g the gradient of the loss there: minimize
    loss(theta - step_size A[g]) subject to |g| <= max_norm; A[g] = g and the Euclidean
    norm for SGD, A[g] = sign g and the sum of magnitudes for Adam. While the norm is
    too large, it is what is minimized. Scales are exp(l), l learned by Adam of Optax;
    tensors of zeros stay. Needs second derivatives: a step costs a few passes.

    Args:
      model: a Linen module, or a function of (variables, batch).
      variables: what it takes.
      batch: its input, an array, or a tuple of several.
      loss: a function of the output that gives a scalar, as `lambda y: f(y, labels)`.
      kind: "sgd" or "adam": what will train the network.
      step_size: the learning rate of the step that is looked at.
      max_norm: the bound on the gradient's norm.
      steps: steps of the search at most; it ends when 25 bring no gain.
      learning_rate: of the search.
      tol: the least relative gain that counts; without one nothing is changed.
      progress: whether to show a progress bar, on a terminal.
      rngs: for a Linen module, the keys of dropout and the like.
      **options: more arguments of the model, as `train=True`.

    Returns:
      New variables, and a `History` of the loss after a step and the gradient's norm.

    Raises:
      TypeError: for something that is neither a module nor a function.
      ValueError: for a loss that is not finite or no scalar, or parameters of zeros.

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
    forward = network.forward_of(model, options, "gradinit")
    search = {"steps": steps, "learning_rate": learning_rate, "tol": tol}
    inputs = (rngs, *network.inputs_of(batch))
    step = (kind, step_size, max_norm)
    return stepped(forward, variables, inputs, loss, *step, search, progress)


def stepped(
    forward: Callable[..., Any],
    variables: Any,
    batch: tuple[Any, ...],
    loss: Callable[[Any], Any],
    kind: str,
    step_size: float,
    max_norm: float,
    search: dict[str, Any],
    progress: bool,
) -> tuple[Any, History]:
    """`gradinit` of a function of (variables, batch)."""
    is_adam = checks.choice("kind", kind, ("sgd", "adam")) == "adam"
    size = checks.real("step_size", step_size, positive=True)
    bound = checks.real("max_norm", max_norm, positive=True)
    trained = trained_of(variables)
    lost = objective(forward, trained, batch, loss)

    def measure(tensors: list[Any]) -> Measured:
        now, slopes = jax.value_and_grad(lost)(tensors)
        norm = _norm(slopes, 1 if is_adam else 2)
        moved = [
            (w - size * (jnp.sign(g) if is_adam else g)).astype(w.dtype)
            for w, g in zip(tensors, slopes, strict=True)
        ]
        after = lost(moved)
        told = {"loss_after_a_step": after, "gradient_norm": norm}
        over = jnp.where(norm > bound, norm, 0)
        # Where there is no loss, as of log(-1), a gradient means nothing.
        return Measured(after, jnp.where(jnp.isfinite(now), over, jnp.nan), told)

    variables, rows = learn(
        trained, measure, **search, progress=progress, title="gradinit"
    )
    return variables, History("gradinit", rows, ("loss_after_a_step", "gradient_norm"))


def _norm(slopes: list[Any], order: int) -> jax.Array:
    wide = [slope.astype(jnp.float32) for slope in slopes]
    if order == 1:
        return jnp.asarray(sum(jnp.sum(jnp.abs(slope)) for slope in wide))
    return jnp.sqrt(sum(jnp.sum(slope**2) for slope in wide))
