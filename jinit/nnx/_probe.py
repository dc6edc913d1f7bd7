"""`probe` measures the signal and the gradient in an NNX model."""

from collections.abc import Callable
from typing import Any, TypeVar

from .._network.nnx import called
from .._probe.probe import report_of
from .._probe.report import Report

Model = TypeVar("Model")


def probe(
    model: Any,
    *batch: Any,
    loss: Callable[[Any], Any] | None = None,
    jacobian: bool = False,
    **options: Any,
) -> Report:
    """Measure the signal and the gradient in every layer of an NNX model.

    It measures the same as `jinit.probe`. Layers are the modules that the model calls,
    by their paths. The model stays as it is.

    Args:
      model: an NNX module.
      *batch: the arguments of the call.
      loss: a function of the output that returns a scalar; by default a fixed random
        direction in the output.
      jacobian: whether to measure the extreme singular values of the Jacobian, too.
      **options: more arguments of the call.

    Returns:
      A `jinit.Report`.

    Raises:
      TypeError: if `model` is not an NNX module.
      ValueError: if the model calls no modules, or the loss is not a scalar.

    Example:
      >>> import jax
      >>> from flax import nnx
      >>> import jinit
      >>> layers = (nnx.Linear(8, 8, rngs=nnx.Rngs(i)) for i in range(2))
      >>> x = jax.random.normal(jax.random.key(0), (4, 8))
      >>> report = jinit.nnx.probe(nnx.Sequential(*layers), x)
      >>> [row["path"] for row in report.rows]
      ['layers/0', 'layers/1']
    """
    return report_of(called(model, batch, options, "probe")[0], loss, jacobian)
