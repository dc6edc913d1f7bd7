"""A scheme makes a model: one record for models of every kind."""

from collections.abc import Callable
from typing import Any, NamedTuple

from .._network.kept import Key


class Made(NamedTuple):
    """A Made says how a scheme makes a model.

    `start(key, *inputs)` draws arrays, and `call(arrays)` returns the model and the
    arguments that come before the inputs.
    """

    start: Callable[..., Any]
    call: Callable[[Any], tuple[Any, tuple[Any, ...]]]
    # The cache key of `start`; see behavior.py.
    start_key: Key
