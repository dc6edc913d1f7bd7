"""jinit for Flax NNX, whose models are objects. Loaded when it is first used."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
from flax import nnx

from . import _materialize
from ._compiled import explicit_axes
from ._naming import nnx_calls
from ._probe import report_of
from ._probe_report import Report

Model = TypeVar("Model")


def materialize(
    make: Callable[[nnx.Rngs], Model],
    rngs: int | jax.Array | nnx.Rngs,
    *,
    shardings: Any = None,
    progress: bool = False,
) -> Model:
    """Build an NNX model as its constructor would, without compiling every layer.

    Args:
      make: a function of `nnx.Rngs` that builds the model.
      rngs: a seed, a key, or an `nnx.Rngs`, which counts on as the constructor would
        have it.
      shardings: as for `jinit.materialize`, with the paths of `nnx.state(model)`, such
        as "encoder/linear/kernel". "metadata" stands for the model's own annotations.
      progress: whether to show a progress bar, on a terminal.

    Returns:
      The model, equal to `make(rngs)` bit for bit.

    Raises:
      TypeError: for a `make` that is no function.
      ValueError: for shardings that do not fit; the path is named.

    Example:
      >>> from flax import nnx
      >>> import jinit
      >>> model = jinit.nnx.materialize(lambda rngs: nnx.Linear(3, 4, rngs=rngs), 0)
      >>> model.kernel.shape
      (3, 4)
    """
    if not callable(make):
        raise TypeError(
            f"`make` is {make!r}, of type {type(make).__name__}; it must be a function "
            "of nnx.Rngs, such as lambda rngs: Model(rngs=rngs)."
        )
    rngs = rngs if isinstance(rngs, nnx.Rngs) else nnx.Rngs(rngs)
    rngs_graph, rngs_state = nnx.split(rngs)
    graph: Any = None

    def init(rngs_state: Any) -> Any:
        nonlocal graph
        rngs = nnx.merge(rngs_graph, rngs_state)
        # Together, since a Dropout may hold a part of the streams.
        graph, state = nnx.split({"model": make(rngs), "rngs": rngs})
        return dict(state)

    draw = _materialize.materialize(
        init, shardings=_of_model(shardings), progress=progress
    )
    state = draw(rngs_state)
    built = nnx.merge(graph, nnx.State(state))
    nnx.update(rngs, nnx.state(built["rngs"]))
    return built["model"]


def _of_model(shardings: Any) -> Any:
    """Shardings of a model as those of the dict that holds it and the streams."""
    if shardings is None:
        # In an explicit mesh a constructor places what is annotated.
        return "metadata" if explicit_axes() else None
    if isinstance(shardings, str):
        return shardings
    if callable(shardings) and not isinstance(shardings, jax.sharding.Sharding):

        def sharding(path: str, leaf: Any) -> Any:
            root, _, inside = path.partition("/")
            return shardings(inside, leaf) if root == "model" else None

        return sharding
    return {"model": shardings, "rngs": None}


def probe(
    model: Any,
    *batch: Any,
    loss: Callable[[Any], Any] | None = None,
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
    if not isinstance(model, nnx.Module):
        raise TypeError(
            f"`model` is {model!r}, of type {type(model).__name__}; it must be an NNX "
            "module. For Linen and for functions call jinit.probe."
        )
    parts: Any = nnx.split(model, nnx.Param, ...)
    graph, params, rest = parts

    # What is no parameter goes in beside the batch: it may count, as keys do.
    def forward(params: Any, beside: tuple[Any, ...]) -> Any:
        rest, *inputs = beside
        merged = nnx.merge(graph, params, rest)
        paths = {
            id(module): "/".join(map(str, path))
            for path, module in nnx.iter_modules(merged)
        }
        with nnx_calls(paths):
            return merged(*inputs, **options)

    return report_of(forward, params, (rest, *batch), loss)
