"""`materialize` builds an NNX model without compiling every layer."""

import reprlib
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from flax import nnx

from .._core.meshes import explicit_axes
from .._core.patterns import PatternLike
from .._materialize.materialize import transformed
from .._materialize.skipping import skip_of
from .._network.shardings import is_function

Model = TypeVar("Model")


def materialize(
    make: Callable[[nnx.Rngs], Model],
    rngs: int | jax.Array | nnx.Rngs,
    *,
    shardings: Any = None,
    skip: PatternLike | None = None,
    progress: bool = False,
) -> Model:
    """Build an NNX model as its constructor would, without compiling every layer.

    It may build an optimizer, too, and return both: `model, nnx.Optimizer(model, tx,
    wrt=nnx.Param)`. The optimizer's state lies where its parameters lie.

    Args:
      make: a function of `nnx.Rngs` that builds the model, or a tuple or dict of it and
        others. A function under `nnx.jit` stays one program, so pass the function
        inside it.
      rngs: a seed, a key, or an `nnx.Rngs`, whose counters end where the constructor
        would leave them.
      shardings: as for `jinit.materialize`, with the paths of `nnx.state(model)`, such
        as "encoder/linear/kernel". "metadata" stands for the model's own annotations.
      skip: the leaves that a checkpoint brings, as for `jinit.materialize`, with the
        same paths. `nnx.update` fills the model with what was restored.
      progress: whether to show a progress bar, on a terminal.

    Returns:
      The model, equal to `make(rngs)` bit for bit.

    Raises:
      TypeError: if `make` is not a function, or `skip` is not a pattern.
      ValueError: if shardings do not fit, a pattern of `skip` matches no leaf, or a
        drawn leaf is computed from a skipped one; the text names the path.

    Example:
      >>> from flax import nnx
      >>> import jinit
      >>> model = jinit.nnx.materialize(lambda rngs: nnx.Linear(3, 4, rngs=rngs), 0)
      >>> model.kernel.shape
      (3, 4)
    """
    # A model is callable, too, and would be called with the streams as its input.
    if isinstance(make, nnx.Module) or not callable(make):
        raise TypeError(
            f"`make` is {reprlib.repr(make)}, of type {type(make).__name__}; it must "
            "be a function of nnx.Rngs that makes a model, such as lambda rngs: "
            "Model(rngs=rngs)."
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

    root = ("model",)
    left_out = skip_of(skip, root)
    draw = transformed(init, _of_model(shardings), left_out, progress, root)
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
