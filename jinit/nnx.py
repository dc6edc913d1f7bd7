"""jinit for Flax NNX, whose models are objects. Loaded when it is first used."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from flax import nnx

from . import _materialize, _shardings
from ._behavior import key_of
from ._compare import Made, compared
from ._comparison import Comparison
from ._compiled import explicit_axes
from ._kept import Kept
from ._naming import inputs_of
from ._nnx_data import (
    autoinit,
    data_dependent,
    gradinit,
    lsuv,
    metainit,
    weight_norm_init,
    whiten_first_layer,
)
from ._nnx_model import called, taken_apart
from ._probe import report_of
from ._probe_report import Report

__all__ = [
    "autoinit",
    "compare",
    "data_dependent",
    "gradinit",
    "lsuv",
    "materialize",
    "metainit",
    "probe",
    "weight_norm_init",
    "whiten_first_layer",
]
__dir__ = __all__.copy  # for `dir`, which would show the imports too


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
    if _shardings.is_function(shardings):

        def sharding(path: str, leaf: Any) -> Any:
            root, _, inside = path.partition("/")
            return shardings(inside, leaf) if root == "model" else None

        return sharding
    return {"model": shardings, "rngs": None}


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


def compare(
    make_model: Callable[[Any, nnx.Rngs], Any],
    schemes: Any,
    batch: Any,
    keys: Any,
    *,
    loss: Callable[[Any], Any] | None = None,
    **options: Any,
) -> Comparison:
    """Probe one NNX model under several schemes and seeds, before any training.

    As `jinit.compare`.

    Args:
      make_model: a function of a scheme and of `nnx.Rngs` that gives an NNX module.
      schemes: a dict from names to what `make_model` takes, or a list; a string stands
        for the initializer of that name in `jinit.registry`.
      batch: what the model is called with, an array, or a tuple of several.
      keys: an array of keys, or one key.
      loss: as in `jinit.probe`.
      **options: more arguments of the call.

    Returns:
      A `jinit.Comparison`.

    Raises:
      TypeError: for something that is no NNX module, or keys that are no keys.
      ValueError: for no schemes, or two of one name.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> import jinit
      >>> def make(init, rngs):
      ...     return nnx.Sequential(nnx.Linear(8, 8, kernel_init=init, rngs=rngs))
      >>> keys = jax.random.split(jax.random.key(1), 3)
      >>> found = jinit.nnx.compare(make, ["he", "lecun"], jnp.eye(8), keys)
      >>> found.reports["he"][2].rows[0]["path"]
      'layers/0'
    """

    def make(scheme: Any) -> Made:
        return _made(make_model, scheme, options)

    return compared(make, inputs_of(batch), schemes, keys, loss)


_MADE: Kept[Made] = Kept(16)


def _made(
    make_model: Callable[[Any, nnx.Rngs], Any], scheme: Any, options: dict[str, Any]
) -> Made:
    """Return the functions of a scheme; the constructor is traced once."""
    key = functools.partial(key_of, "nnx init", make_model, scheme, options)

    def start(key: jax.Array, *inputs: Any) -> tuple[Any, Any]:
        model = make_model(scheme, nnx.Rngs(key))
        _, params, rest, _ = taken_apart(model, options, "compare")
        return params, rest

    def make() -> Made:
        abstract = nnx.eval_shape(lambda: make_model(scheme, nnx.Rngs(0)))
        apart = taken_apart(abstract, options, "compare")
        of_model = functools.partial(key_of, "nnx", apart[3], options)
        return Made(start, apart[0], key, of_model)

    return _MADE.made(key, make)
