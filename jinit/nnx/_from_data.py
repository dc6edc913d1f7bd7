"""NNX models set from data: the functions of jinit, on objects."""

from collections.abc import Callable
from typing import Any, TypeVar

from flax import nnx

from .._core.patterns import PatternLike
from .._from_data.autoinit import analyzed
from .._from_data.first_layer import whitened
from .._from_data.gradinit import stepped
from .._from_data.history import History
from .._from_data.lsuv import scaled
from .._from_data.metainit import least_quotient
from .._from_data.unit_statistics import unit_statistics
from .._from_data.weight_norm import weight_norm
from .._network.network import inputs_of
from .._network.nnx import called, taken_apart

Model = TypeVar("Model")


def lsuv(
    model: Model,
    *batch: Any,
    target_std: float = 1.0,
    tol: float = 0.02,
    max_iter: int = 10,
    orthonormal: bool = False,
    skip: PatternLike = (),
    **options: Any,
) -> tuple[Model, History]:
    """Scale every kernel until its layer's output has the std that is wanted.

    As `jinit.lsuv`, of which the settings are.

    Args:
      model: an NNX module.
      *batch: what it is called with.
      target_std: the std that is wanted.
      tol: how far from it, relative to it, an output may stay.
      max_iter: passes that may change something.
      orthonormal: whether to start from the nearest orthonormal kernels.
      skip: patterns of paths to leave as they are.
      **options: more arguments of the call.

    Returns:
      A new model, and a `jinit.History`; the one that came is as it was.

    Raises:
      TypeError: for something that is no NNX module.
      ValueError: as `jinit.lsuv`, with nothing changed.

    Example:
      >>> import jax, jinit
      >>> from flax import nnx
      >>> x = jax.random.normal(jax.random.key(0), (64, 8))
      >>> model = nnx.Sequential(nnx.Linear(8, 8, rngs=nnx.Rngs(0)), nnx.relu)
      >>> model, history = jinit.nnx.lsuv(model, x, target_std=2.0)
      >>> round(jinit.nnx.probe(model, x).rows[0]["std"], 3)
      2.0
    """
    one, merged = called(model, batch, options, "lsuv")
    params, history = scaled(one, target_std, tol, max_iter, orthonormal, skip)
    return merged(params), history


def data_dependent(
    model: Model,
    *batch: Any,
    loss: Callable[[Any], Any] | None = None,
    balance: bool | None = None,
    tol: float = 0.01,
    max_iter: int = 10,
    skip: PatternLike = (),
    **options: Any,
) -> tuple[Model, History]:
    """Give every unit mean 0 and std 1 over a batch, then balance the layers.

    As `jinit.data_dependent`, of which the settings are.

    Args:
      model: an NNX module.
      *batch: what it is called with.
      loss: a function of the output that gives a scalar; with one, layers are balanced.
      balance: whether they are; by default where there is a loss.
      tol: how far from 0 and 1 a unit's statistics may stay.
      max_iter: passes that may change something.
      skip: patterns of paths to leave as they are.
      **options: more arguments of the call.

    Returns:
      A new model, and a `jinit.History`; the one that came is as it was.

    Raises:
      TypeError: for something that is no NNX module.
      ValueError: as `jinit.data_dependent`, with nothing changed.

    Example:
      >>> import jax, jinit
      >>> from flax import nnx
      >>> x = jax.random.normal(jax.random.key(0), (64, 8))
      >>> model = nnx.Sequential(nnx.Linear(8, 8, rngs=nnx.Rngs(0)), nnx.relu)
      >>> model, history = jinit.nnx.data_dependent(model, x)
      >>> y = model.layers[0](x)
      >>> bool((abs(y.mean(0)) < 0.01).all() and (abs(y.std(0) - 1) < 0.01).all())
      True
    """
    one, merged = called(model, batch, options, "data_dependent")
    params, history = unit_statistics(one, loss, balance, tol, max_iter, skip)
    return merged(params), history


def weight_norm_init(
    model: Model,
    *batch: Any,
    key: Any = None,
    tol: float = 0.01,
    max_iter: int = 10,
    skip: PatternLike = (),
    **options: Any,
) -> tuple[Model, History]:
    """Set gains, in the kernels, and biases of layers from a batch.

    As `jinit.weight_norm_init`, of which the settings are.

    Args:
      model: an NNX module.
      *batch: what it is called with.
      key: a key to draw directions from N(0, 0.05^2) with; by default they stay.
      tol: how far from 0 and 1 a unit's statistics may stay.
      max_iter: passes that may change something.
      skip: patterns of paths to leave as they are.
      **options: more arguments of the call.

    Returns:
      A new model, and a `jinit.History`; the one that came is as it was.

    Raises:
      TypeError: for something that is no NNX module.
      ValueError: as `jinit.weight_norm_init`, with nothing changed.

    Example:
      >>> import jax, jinit
      >>> from flax import nnx
      >>> x = jax.random.normal(jax.random.key(0), (64, 8))
      >>> model = nnx.Sequential(nnx.Linear(8, 8, rngs=nnx.Rngs(0)), nnx.relu)
      >>> model, history = jinit.nnx.weight_norm_init(model, x)
      >>> bool((abs(model.layers[0](x).std(0) - 1) < 0.01).all())
      True
    """
    one, merged = called(model, batch, options, "weight_norm_init")
    params, history = weight_norm(one, key, tol, max_iter, skip)
    return merged(params), history


def whiten_first_layer(
    model: Model,
    *batch: Any,
    eps: float = 5e-4,
    signs: bool = True,
    **options: Any,
) -> tuple[Model, History]:
    """Set the first layer to whiten its input: responses uncorrelated, of variance 1.

    As `jinit.whiten_first_layer`, of which the settings are.

    Args:
      model: an NNX module.
      *batch: what it is called with.
      eps: what is added to the eigenvalues.
      signs: whether every filter comes with both signs.
      **options: more arguments of the call.

    Returns:
      A new model, and a `jinit.History`; the one that came is as it was.

    Raises:
      TypeError: for something that is no NNX module.
      ValueError: as `jinit.whiten_first_layer`, with nothing changed.

    Example:
      >>> import jax, jinit
      >>> from flax import nnx
      >>> x = jax.random.normal(jax.random.key(0), (64, 8))
      >>> model = nnx.Sequential(nnx.Linear(8, 8, rngs=nnx.Rngs(0)), nnx.relu)
      >>> model, history = jinit.nnx.whiten_first_layer(model, x, signs=False)
      >>> y = model.layers[0](x)
      >>> abs(float(y.T[0] @ y.T[1] / 64)) < 1e-3
      True
    """
    one, merged = called(model, batch, options, "whiten_first_layer")
    params, history = whitened(one, eps, signs)
    return merged(params), history


def autoinit(
    model: Model,
    input_stats: tuple[Any, Any] = (0.0, 1.0),
    *,
    batch: Any,
    skip: PatternLike = (),
    **options: Any,
) -> tuple[Model, History]:
    """Scale every kernel so that its layer's outputs have mean 0, variance 1; no data.

    As `jinit.autoinit`.

    Args:
      model: an NNX module.
      input_stats: mean and variance of the input, numbers or arrays that fit it.
      batch: an input, or a `jax.ShapeDtypeStruct` like it, or a tuple of several: only
        its shape counts.
      skip: patterns of paths to leave as they are.
      **options: more arguments of the call.

    Returns:
      A new model, and a `jinit.History`; the one that came is as it was.

    Raises:
      TypeError: for something that is no NNX module.
      ValueError: as `jinit.autoinit`, with nothing changed.

    Example:
      >>> import jax, jinit
      >>> from flax import nnx
      >>> x = jax.random.normal(jax.random.key(0), (64, 8))
      >>> model = nnx.Sequential(nnx.Linear(8, 8, rngs=nnx.Rngs(0)), nnx.relu)
      >>> model, history = jinit.nnx.autoinit(model, (0.0, 1.0), batch=x)
      >>> round(history.rows[0]["weight_std"], 4)  # 1 / sqrt(8)
      0.3536
    """
    one, merged = called(model, inputs_of(batch), options, "autoinit")
    params, history = analyzed(one, input_stats, skip)
    return merged(params), history


def gradinit(
    model: Model,
    *batch: Any,
    loss: Callable[[Any], Any],
    kind: str = "sgd",
    step_size: float = 0.1,
    max_norm: float = 1.0,
    steps: int = 300,
    learning_rate: float = 0.03,
    tol: float = 0.01,
    progress: bool = True,
    **options: Any,
) -> tuple[Model, History]:
    """Learn a scale for each tensor: least loss after one step, gradient in bounds.

    As `jinit.gradinit`, of which the settings are.

    Args:
      model: an NNX module.
      *batch: what it is called with.
      loss: a function of the output that gives a scalar.
      kind: "sgd" or "adam": what will train the network.
      step_size: the learning rate of the step that is looked at.
      max_norm: the bound on the gradient's norm.
      steps: steps of the search at most.
      learning_rate: of the search.
      tol: the least relative gain that counts.
      progress: whether to show a progress bar, on a terminal.
      **options: more arguments of the call.

    Returns:
      A new model, and a `jinit.History`; the one that came is as it was.

    Raises:
      TypeError: for something that is no NNX module.
      ValueError: as `jinit.gradinit`, with nothing changed.

    Example:
      >>> import jax, jinit
      >>> from flax import nnx
      >>> x = jax.random.normal(jax.random.key(0), (64, 8))
      >>> model = nnx.Sequential(nnx.Linear(8, 8, rngs=nnx.Rngs(0)), nnx.relu)
      >>> loss = lambda y: ((y - x) ** 2).mean()
      >>> model, history = jinit.nnx.gradinit(model, x, loss=loss, steps=20)
      >>> history.rows[-1]["loss_after_a_step"] < history.rows[0]["loss_after_a_step"]
      True
    """
    forward, params, rest, graph = taken_apart(model, options, "gradinit")
    search = {"steps": steps, "learning_rate": learning_rate, "tol": tol}
    params, history = stepped(
        forward, params, (rest, *batch), loss, kind, step_size, max_norm, search,
        progress,
    )  # fmt: skip
    return nnx.merge(graph, params, rest), history


def metainit(
    model: Model,
    *batch: Any,
    loss: Callable[[Any], Any] | None = None,
    steps: int = 300,
    learning_rate: float = 0.03,
    tol: float = 0.01,
    progress: bool = True,
    **options: Any,
) -> tuple[Model, History]:
    """Learn a scale for each tensor: the least gradient quotient.

    As `jinit.metainit`, of which the settings are.

    Args:
      model: an NNX module.
      *batch: what it is called with.
      loss: a function of the output that gives a scalar.
      steps: steps of the search at most.
      learning_rate: of the search.
      tol: the least relative gain that counts.
      progress: whether to show a progress bar, on a terminal.
      **options: more arguments of the call.

    Returns:
      A new model, and a `jinit.History`; the one that came is as it was.

    Raises:
      TypeError: for something that is no NNX module.
      ValueError: as `jinit.metainit`, with nothing changed.

    Example:
      >>> import jax, jinit
      >>> from flax import nnx
      >>> x = jax.random.normal(jax.random.key(0), (64, 8))
      >>> model = nnx.Sequential(nnx.Linear(8, 8, rngs=nnx.Rngs(0)), nnx.relu)
      >>> model, history = jinit.nnx.metainit(model, x, steps=20)
      >>> quotients = [row["gradient_quotient"] for row in history.rows]
      >>> min(quotients) <= quotients[0]
      True
    """
    forward, params, rest, graph = taken_apart(model, options, "metainit")
    search = {"steps": steps, "learning_rate": learning_rate, "tol": tol}
    params, history = least_quotient(
        forward, params, (rest, *batch), loss, search, progress
    )
    return nnx.merge(graph, params, rest), history
