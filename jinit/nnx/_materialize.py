"""`materialize` builds an NNX model without compiling every layer."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
from flax import nnx

from .._core.meshes import explicit_axes
from .._materialize.materialize import materialize as _materialize
from .._network.shardings import is_function

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
      rngs: a seed, a key, or an `nnx.Rngs`, whose counters end where the constructor
        would leave them.
      shardings: as for `jinit.materialize`, with the paths of `nnx.state(model)`, such
        as "encoder/linear/kernel". "metadata" stands for the model's own annotations.
      progress: whether to show a progress bar, on a terminal.

    Returns:
      The model, equal to `make(rngs)` bit for bit.

    Raises:
      TypeError: if `make` is not a function.
      ValueError: if shardings do not fit; the text names the path.

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
        # The model and the streams are split together, since a Dropout may hold some of
        # the streams.
        graph, state = nnx.split({"model": make(rngs), "rngs": rngs})
        return dict(state)

    draw = _materialize(init, shardings=_of_model(shardings), progress=progress)
    state = draw(rngs_state)
    built = nnx.merge(graph, nnx.State(state))
    nnx.update(rngs, nnx.state(built["rngs"]))
    model: Model = built["model"]
    return model


def _of_model(shardings: Any) -> Any:
    """Return shardings of a model as those of the dict with the model and streams."""
    if shardings is None:
        # In an explicit mesh a constructor places annotated arrays.
        return "metadata" if explicit_axes() else None
    if isinstance(shardings, str):
        return shardings
    if is_function(shardings):

        def sharding(path: str, leaf: Any) -> Any:
            root, _, inside = path.partition("/")
            return shardings(inside, leaf) if root == "model" else None

        return sharding
    return {"model": shardings, "rngs": None}
