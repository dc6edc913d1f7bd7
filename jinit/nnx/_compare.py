"""`compare` makes an NNX model under several schemes, and probes each."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from .._network.behavior import key_of
from .._network.kept import Kept
from .._probe.compare import compared
from .._probe.comparison import Comparison
from .._probe.made import Made


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

    It measures and returns the same as `jinit.compare`.

    Args:
      make_model: a function of a scheme and of `nnx.Rngs` that returns an NNX module.
      schemes: the schemes that `make_model` takes, as a dict by names, or a list; a
        string stands for the initializer of that name in `jinit.registry`.
      batch: the argument of the call, an array, or a tuple of several arguments.
      keys: an array of keys, or one key.
      loss: a function of the output that returns a scalar, as for `jinit.probe`.
      **options: more arguments of the call.

    Returns:
      A `jinit.Comparison`.

    Raises:
      TypeError: if `make_model` does not return an NNX module, or `keys` are not keys.
      ValueError: if there are no schemes, or two with one name.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from flax import nnx
      >>> import jinit
      >>> def make(init, rngs):
      ...     return nnx.Sequential(nnx.Linear(8, 8, kernel_init=init, rngs=rngs))
      >>> keys = jax.random.split(jax.random.key(1), 3)
      >>> comparison = jinit.nnx.compare(make, ["he", "lecun"], jnp.eye(8), keys)
      >>> comparison.reports["he"][2].rows[0]["path"]
      'layers/0'
    """

    def make(scheme: Any) -> Made:
        return _made(make_model, scheme)

    return compared(make, batch, schemes, keys, loss, None, options)


_MADE: Kept[Made] = Kept(16)


def _made(make_model: Callable[[Any, nnx.Rngs], Any], scheme: Any) -> Made:
    """Return the functions of a scheme; the constructor is traced once."""
    key = functools.partial(key_of, "nnx init", make_model, scheme)

    def start(key: jax.Array, *_: Any) -> Any:
        return nnx.split(_module(make_model(scheme, nnx.Rngs(key))))[1]

    def make() -> Made:
        # The graph of the model is the same for every key, so it is made only once.
        abstract = nnx.eval_shape(lambda: _module(make_model(scheme, nnx.Rngs(0))))
        graph = nnx.split(abstract)[0]
        return Made(start, lambda state: (nnx.merge(graph, state), ()), key)

    return _MADE.made(key, make)


def _module(model: Any) -> Any:
    if not isinstance(model, nnx.Module):
        raise TypeError(
            f"`make_model` gave {model!r}, of type {type(model).__name__}; it must "
            "give an NNX module. For Linen call jinit.compare."
        )
    return model
