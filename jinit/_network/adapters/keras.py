"""A Keras 3 model on JAX is a function of its trainable variables."""

import collections
import itertools
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from .adapted import Adapted
from .arguments import adapted, arguments_of
from .checks import no_rngs, require_parameters


def adapt(
    model: Any,
    method: str,
    arguments: Sequence[Any],
    rngs: Any,
    options: dict[str, Any],
) -> Adapted:
    """Adapt a Keras model or layer, called as `model(*arguments, **options)`.

    Variables that are not trained (batch statistics, the seeds of dropout) are state.
    """
    _require_usable(model, method)
    no_rngs(rngs, "a Keras model holds the seeds of its dropout itself; leave it out.")
    params = [variable.value for variable in model.trainable_variables]
    state = [variable.value for variable in model.non_trainable_variables]
    require_parameters(params, model, "its trainable variables")
    call = arguments_of(arguments, options, state=state)

    def run(params: Any, inputs: Any, options: Any, beside: Any) -> Any:
        state = beside["state"]
        return model.stateless_call(params, state, *inputs, **options)[0]

    def rebuild(params: Any) -> Any:
        return _copy(model, [*params, *state])

    paths = _distinct(variable.path for variable in model.trainable_variables)
    # A Keras model may change at any time, so no key tells what it computes.
    one = adapted("Keras", [], params, call, run, rebuild)
    return one._replace(paths=paths, key=lambda: None)


def _require_usable(model: Any, method: str) -> None:
    backend = sys.modules["keras"].config.backend()
    if backend != "jax":
        raise ValueError(
            f"the backend of Keras is {backend!r}; it must be 'jax'. Set the "
            "environment variable KERAS_BACKEND=jax before Keras is imported."
        )
    if method != "__call__":
        raise TypeError(
            f"`model` is the method {method!r} of a Keras model; pass the model, which "
            "is then called as model(...)."
        )
    if not model.built:
        raise ValueError(
            f"the Keras model {model.name!r} is not built, so it has no variables yet. "
            "Call it once, or call model.build(input_shape)."
        )


def _distinct(paths: Iterable[str]) -> tuple[str, ...]:
    """Add a number to paths that occur twice, since layers may share a name."""
    paths = list(paths)
    counts = collections.Counter(paths)
    numbers: dict[str, Any] = collections.defaultdict(itertools.count)
    return tuple(
        path if counts[path] == 1 else f"{path}_{next(numbers[path])}" for path in paths
    )


def _copy(model: Any, values: Sequence[Any]) -> Any:
    """Return a model of the same configuration with other values."""
    config = model.get_config()
    copy = type(model).from_config(config)
    if not copy.built:
        copy.build_from_config(model.get_build_config())
    variables = (*copy.trainable_variables, *copy.non_trainable_variables)
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return copy
