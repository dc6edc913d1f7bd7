"""An NNX model is probed on a batch."""

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
    """Look at the signal and the gradient in every layer of an NNX model.

    As `jinit.probe`: layers are the modules that the model calls, by their paths.
    The model is not changed.

    Args:
      model: an NNX module.
      *batch: what it is called with.
      loss: a function of the output that gives a scalar; by default a fixed random
        direction in the output.
      jacobian: whether to find the ends of the Jacobian's singular values, too.
      **options: more arguments of the call.

    Returns:
      A `jinit.Report`.

    Raises:
      TypeError: for something that is no NNX module.
      ValueError: if the model calls no modules, or the loss is no scalar.

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
