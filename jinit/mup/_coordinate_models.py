"""Linen models, NNX models and pairs of functions become `Model`s of one kind."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax

from .._network import linen, network
from ._maximal_update import infer
from ._parametrization import Parametrization


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a coordinate check are the same for every width."""

    make_model: Callable[..., Any]
    tx: Any
    loss: Callable[[Any, Any], Any]
    parametrize: Callable[[Any, Any], Parametrization] | None
    init: Callable[[Parametrization, Any], Any] | None
    options: dict[str, Any]

    @property
    def is_parametrized(self) -> bool:
        """Tell whether `tx` is a function of the parametrization."""
        return callable(self.tx) and not hasattr(self.tx, "update")

    def parametrization(self, base: Any, shapes: Any) -> Parametrization:
        """Return the parametrization of one width."""
        if not self.is_parametrized and self.init is None:
            # A plain optimizer and plain draws need no parametrization, and a model
            # whose classes are ambiguous can still be checked.
            return Parametrization(())
        if self.parametrize is not None:
            return self.parametrize(base, shapes)
        return infer(base, shapes)

    def start(self, p: Parametrization, params: Any) -> Any:
        """Return the parameters that the training starts from."""
        if self.init is not None:
            return self.init(p, params)
        return p.init(params) if self.is_parametrized else params

    def transformation(self, p: Parametrization) -> Any:
        """Return the Optax transformation of one width."""
        tx = self.tx(p) if self.is_parametrized else self.tx
        if not (hasattr(tx, "init") and hasattr(tx, "update")):
            raise TypeError(
                f"`tx` gave {tx!r}, of type {type(tx).__name__}; it must be an Optax "
                "transformation, or a function of a Parametrization that gives one."
            )
        return tx


@dataclasses.dataclass(frozen=True)
class Model:
    """A model of one width: `draw` returns (params, rest), `apply` the output."""

    draw: Callable[[jax.Array], tuple[Any, Any]]
    apply: Callable[[Any, Any, Any], Any]


def model_of(settings: Settings, width: int, x: Any) -> Model:
    """Return the model of one width.

    Raises:
      TypeError: if `make_model` returns neither a Linen module nor a pair of functions.
    """
    # Linen's modules may be made without keys, but NNX draws when a module is made.
    if _takes_rngs(settings.make_model):
        return _nnx(settings, width)
    model = settings.make_model(width)
    if network.is_module(model, "flax.linen"):
        return _linen(model, x, settings.options)
    if isinstance(model, tuple) and len(model) == 2 and all(map(callable, model)):
        start, apply = model
        return Model(lambda key: (start(key, x), ()), lambda w, _, x: apply(w, x))
    raise TypeError(
        f"`make_model({width})` gave {model!r}, of type {type(model).__name__}; it "
        "must give a Linen module or a pair of functions (init, apply). For NNX "
        "let it take the width and `rngs`."
    )


def _takes_rngs(make_model: Callable[..., Any]) -> bool:
    try:
        # The metaclass of NNX hides the signature of `__init__`.
        is_class = inspect.isclass(make_model)
        function: Any = make_model.__init__ if is_class else make_model
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(parameter.name == "rngs" for parameter in parameters)


def _linen(model: Any, x: Any, options: dict[str, Any]) -> Model:
    forward = linen.linen(model, options)

    def draw(key: jax.Array) -> tuple[Any, Any]:
        variables = dict(model.init(key, x, **options))
        # Statistics of a batch norm and other collections are not trained.
        return variables.pop("params"), variables

    def apply(params: Any, rest: Any, x: Any) -> Any:
        return forward({"params": params, **rest}, (None, x))

    return Model(draw, apply)


def _nnx(settings: Settings, width: int) -> Model:
    from flax import nnx

    # Loading NNX takes a second, which users of Linen should not wait for.
    from .._network.nnx import nnx_calls

    graph: Any = None

    def draw(key: jax.Array) -> tuple[Any, Any]:
        nonlocal graph
        model: Any = settings.make_model(width, rngs=nnx.Rngs(key))
        parts: Any = nnx.split(model, nnx.Param, ...)
        # The graph has no arrays, so it may leave the trace in which it was made.
        graph, params, rest = parts
        return params, rest

    def apply(params: Any, rest: Any, x: Any) -> Any:
        model: Any = nnx.merge(graph, params, rest)
        with nnx_calls(model):
            return model(x, **settings.options)

    return Model(draw, apply)
