"""Linen models, NNX models and pairs of functions become `Model`s of one kind."""

import dataclasses
import functools
import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._network.adapters import adapt, is_linen
from .._network.record import Network, network
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

    def parametrization(self, base: Network, target: Network) -> Parametrization:
        """Return the parametrization of one width."""
        if not self.is_parametrized and self.init is None:
            # A plain optimizer and plain draws need no parametrization, and a model
            # whose classes are ambiguous can still be checked.
            return Parametrization(())
        if self.parametrize is not None:
            return self.parametrize(base.params, target.params)
        # Weights (outputs, inputs) and fused kernels show their axes in a network.
        return infer(base, target)

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

    def scalar_loss(self, model: "Model", rest: Any) -> Callable[..., jax.Array]:
        """Return the loss of a model as a function of parameters, input and target."""

        def loss(params: Any, x: Any, y: Any) -> jax.Array:
            value = jnp.asarray(self.loss(model.apply(params, rest, x), y))
            if value.shape != ():
                raise ValueError(
                    f"`loss` returned an array of shape {value.shape}; it must return "
                    "a scalar: take the mean."
                )
            return value

        return loss


@dataclasses.dataclass(frozen=True)
class Model:
    """A model of one width.

    `draw` returns (params, rest), and `net` is the network of their shapes.
    """

    draw: Callable[[jax.Array], tuple[Any, Any]]
    net: Network

    def apply(self, params: Any, rest: Any, x: Any) -> Any:
        """Return the output for an input."""
        return self.net.apply(params, x, *rest)


def check_width_matters(runs: Sequence[Any]) -> None:
    """Raise if the models of all widths have equal shapes, or give equal numbers."""
    leaves = [jax.tree.leaves(run) for run in runs]
    pairs = itertools.pairwise(leaves)
    if all(len(a) == len(b) and all(map(np.array_equal, a, b)) for a, b in pairs):
        raise ValueError(
            "the models of all widths are the same, so `make_model` seems to ignore "
            "its width. Pass a function such as lambda width: MLP(width)."
        )


def stacked(batches: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Return the inputs and the targets of all batches, each stacked in one array."""
    try:
        pairs = [(x, y) for x, y in batches]
        if not pairs:
            raise ValueError("there are no batches")
        # The steps are a scan, so that the training is traced once and not once a
        # batch.
        inputs, targets = jax.tree.map(lambda *xs: jnp.stack(xs), *pairs)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`batches` must be a sequence of pairs (input, target), all of the same "
            f"shapes, one for each step of training; stacking them gave: {error}"
        ) from error
    return inputs, targets


# (key) -> a model, and the arguments before the input.
Start = Callable[[jax.Array], tuple[Any, tuple[Any, ...]]]


def model_of(settings: Settings, width: int, key: Any, x: Any) -> Model:
    """Return the model of one width; of the key and the input only shapes count.

    Raises:
      TypeError: if `make_model` returns neither a Linen module nor a pair of functions.
    """
    start, abstract = _start(settings, width, x)

    def draw(key: jax.Array) -> tuple[Any, Any]:
        model, arguments = start(key)
        adapted = adapt(model, (*arguments, x), None, settings.options)
        # The first input is the batch, which changes from step to step.
        return adapted.params, adapted.inputs[1:]

    model, arguments = abstract(key)
    return Model(draw, network(model, *arguments, x, **settings.options))


def _start(settings: Settings, width: int, x: Any) -> tuple[Start, Start]:
    """Return how a model is drawn, and how its shapes are."""
    # Linen's modules may be made without keys, but NNX draws when a module is made.
    if _takes_rngs(settings.make_model):
        return _nnx(settings, width)
    model = settings.make_model(width)
    if is_linen(model):
        init, apply = functools.partial(model.init, **settings.options), model
    elif isinstance(model, tuple) and len(model) == 2 and all(map(callable, model)):
        init, apply = model
    else:
        raise TypeError(
            f"`make_model({width})` gave {model!r}, of type {type(model).__name__}; it "
            "must give a Linen module or a pair of functions (init, apply). For NNX "
            "let it take the width and `rngs`."
        )
    return (
        lambda key: (apply, (init(key, x),)),
        lambda key: (apply, (jax.eval_shape(init, key, x),)),
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


def _nnx(settings: Settings, width: int) -> tuple[Start, Start]:
    # Loading NNX takes a second, which users of Linen should not wait for.
    from flax import nnx

    def start(key: jax.Array) -> tuple[Any, tuple[Any, ...]]:
        return settings.make_model(width, rngs=nnx.Rngs(key)), ()

    return start, lambda key: (nnx.eval_shape(lambda key: start(key)[0], key), ())
