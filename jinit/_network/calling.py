"""Functions of a model take a `Network`, or the arguments of `jinit.network`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from .adapters import adapt, require_numbers
from .record import Network, network


def network_of(
    model: Any,
    arguments: tuple[Any, ...],
    rngs: Any,
    options: Mapping[str, Any],
    caller: str,
    *,
    needs_inputs: bool = True,
) -> Network:
    """Return the network of a call that computes with numbers.

    Raises:
      TypeError: as `jinit.network` does, or if a parameter is only a shape, or, with
        `needs_inputs`, an input is.
      ValueError: as `jinit.network` does, or if an array was deleted.
    """
    net = _network(model, arguments, rngs, options, caller)
    adapted = net._adapted._replace(params=net.params)
    if not needs_inputs:
        adapted = adapted._replace(inputs=())
    require_numbers(adapted, caller)
    return net


def _network(
    model: Any, arguments: tuple[Any, ...], rngs: Any, options: Any, caller: str
) -> Network:
    """Read a model; let an error show the function that the user has called."""
    try:
        if isinstance(model, Network):
            return network(model, *arguments, rngs=rngs, **options)
        # What is measured or set need not be all of a model, such as its actor alone.
        options = {"allow_unused": True, **options}
        return network(model, *arguments, rngs=rngs, **options)
    except (TypeError, ValueError) as error:
        text, cause = str(error), error.__cause__
        if type(error) not in (TypeError, ValueError) or "jinit.network(" not in text:
            raise
        kind = type(error)
    raise kind(text.replace("jinit.network(", f"jinit.{caller}(")) from cause


def again(
    net: Network,
    model: Any,
    arguments: tuple[Any, ...],
    rngs: Any,
    options: Mapping[str, Any],
) -> Network:
    """Return the network of a model that differs from an earlier one in arrays alone.

    It takes the reading of the earlier network. `jinit.network` would read a model anew
    if its behavior has no key.
    """
    if isinstance(model, Network):
        return model
    adapted = adapt(model, arguments, rngs, dict(options))
    params, inputs = adapted.params, adapted.inputs
    return dataclasses.replace(
        net, apply=adapted.apply, params=params, inputs=inputs, _adapted=adapted
    )


def rebuilt(net: Network, params: Any) -> Any:
    """Return new parameters as the model's library has them."""
    return net._adapted.rebuild(params)
