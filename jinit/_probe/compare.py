"""A model, schemes and seeds -> the report of each, side by side."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._core import checks
from .._materialize.materialize import materialize
from .._network import network
from .._network.behavior import key_of
from .._network.kept import Kept, Key
from .._network.network import Called
from .._schemes.registry import get
from .comparison import Comparison
from .probe import report_of
from .report import Report


class Made(NamedTuple):
    """A scheme makes `start`, key -> (variables, rest), and a pass `forward`."""

    start: Callable[[Any], tuple[Any, Any]]
    forward: Callable[[Any, tuple[Any, ...]], Any]
    # The keys say what each of the two computes, see behavior.py.
    start_key: Key
    forward_key: Key


def compare(
    make_model: Callable[[Any], Any],
    schemes: Any,
    batch: Any,
    keys: Any,
    *,
    loss: Callable[[Any], Any] | None = None,
    rngs: Any = None,
    **options: Any,
) -> Comparison:
    """Probe one model under several schemes and seeds, before any training.

    Schemes and keys share the programs of one model, so a comparison compiles little
    more than one `jinit.probe`.

    Args:
      make_model: a function of a scheme that gives a Linen module, or a pair of
        functions: (key, *batch) -> variables and (variables, *batch) -> output, in
        which values are named by `jax.ad_checkpoint.checkpoint_name`. For NNX there is
        `jinit.nnx.compare`.
      schemes: a dict from names to what `make_model` takes, or a list; a string stands
        for the initializer of that name in `jinit.registry`.
      batch: the model's input, an array, or a tuple of several.
      keys: an array of keys, such as `jax.random.split(key, 5)`, or one key.
      loss: as in `jinit.probe`.
      rngs: as in `jinit.probe`.
      **options: more arguments of the model, as `train=True`.

    Returns:
      A `Comparison`: print it, `plot` it, or look at `reports[scheme][seed]`.

    Raises:
      TypeError: for a model that is none of these, or keys that are no keys.
      ValueError: for no schemes, or two of one name.

    Example:
      >>> import flax.linen as nn, jax, jinit
      >>> def make(init):
      ...     layer = lambda: [nn.Dense(64, kernel_init=init), nn.relu]
      ...     return nn.Sequential(sum((layer() for _ in range(12)), []))
      >>> x = jax.random.normal(jax.random.key(0), (16, 64))
      >>> keys = jax.random.split(jax.random.key(1), 3)
      >>> found = jinit.compare(make, ["he", "xavier"], x, keys)
      >>> [f.kind for f in found.reports["xavier"][0].verdict]
      ['signal shrinks']
      >>> found.reports["he"][0].verdict
      []

    References:
      Glorot and Bengio, "Understanding the difficulty of training deep feedforward
      neural networks", 2010, who compared two schemes so.
    """
    inputs = network.inputs_of(batch)

    def make(scheme: Any) -> Made:
        return _made(make_model(scheme), rngs, options)

    return compared(make, inputs, schemes, keys, loss)


def compared(
    make: Callable[[Any], Made], inputs: tuple[Any, ...], schemes: Any, keys: Any,
    loss: Any,
) -> Comparison:  # fmt: skip
    """Return the reports of every scheme."""
    named, keys = _named(schemes), _row_of_keys(keys)
    return Comparison(
        {
            # Every scheme has the same keys, so that only the schemes differ.
            name: _reports(make(scheme), inputs, jax.random.clone(keys), loss)
            for name, scheme in named.items()
        }
    )


def _reports(
    made: Made, inputs: tuple[Any, ...], keys: Any, loss: Any
) -> tuple[Report, ...]:
    """Return one report for each key."""
    draw = _DRAWS.get(made.start_key()) or materialize(made.start)
    # A pass that no key can describe is still the same one for all seeds of this call.
    shared = object()
    reports = []
    for key in keys:
        variables, rest = draw(key, *inputs)
        called = Called(
            made.forward, variables, (rest, *inputs),
            lambda: made.forward_key() or shared, {},
        )  # fmt: skip
        reports.append(report_of(called, loss))
    # The first draw traces the model, which may change the key, so it is read again.
    _DRAWS.put(made.start_key(), draw)
    return tuple(reports)


# The materialized draw of each model, which holds the model's trace.
_DRAWS: Kept[Callable[..., Any]] = Kept(16)


def _made(model: Any, rngs: Any, options: dict[str, Any]) -> Made:
    """What `make_model` gave: its start and its pass."""
    if isinstance(model, tuple) and len(model) == 2 and all(map(callable, model)):
        init, apply = model
        forward = network.forward_of(apply, options, "compare")
        keys = partial(key_of, "init", init), partial(key_of, "model", apply, options)
        return Made(lambda key, *inputs: (init(key, *inputs), None), forward, *keys)
    if not network.is_module(model, "flax.linen"):
        raise TypeError(
            f"`make_model` gave {model!r}, of type {type(model).__name__}; it must "
            "give a Linen module, or a pair of functions (init, apply). For NNX models "
            "call jinit.nnx.compare."
        )

    def start(key: jax.Array, *inputs: Any) -> Any:
        streams = {**rngs, "params": key} if isinstance(rngs, dict) else key
        return model.init(streams, *inputs, **options), rngs

    forward = network.forward_of(model, options, "compare")
    key = partial(key_of, "model", model, options)
    return Made(start, forward, partial(key_of, "init", model, options, rngs), key)


def _named(schemes: Any) -> dict[str, Any]:
    """Schemes by their names; strings become the initializers that they name."""
    if not isinstance(schemes, Mapping):
        if isinstance(schemes, str) or not isinstance(schemes, (list, tuple)):
            raise TypeError(
                f"`schemes` is {schemes!r}, of type {type(schemes).__name__}; it must "
                "be a list of initializers or names, or a dict from names to them."
            )
        names = [
            scheme if isinstance(scheme, str) else repr(scheme) for scheme in schemes
        ]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(
                f"`schemes` has {twice[0]} twice; give a dict with a name for each."
            )
        schemes = dict(zip(names, schemes, strict=True))
    if not schemes:
        raise ValueError("`schemes` is empty; name at least one.")
    return {
        str(name): get(scheme) if isinstance(scheme, str) else scheme
        for name, scheme in schemes.items()
    }


def _row_of_keys(keys: Any) -> Any:
    """Keys as an array of them, from an array, a list, or one key."""
    if isinstance(keys, (list, tuple)) and keys:
        for key in keys:
            checks.key(key)
        keys = jnp.stack(keys)
    typed = isinstance(keys, jax.Array) and jnp.issubdtype(
        keys.dtype, jax.dtypes.prng_key
    )
    single = 0 if typed else 1
    if getattr(keys, "ndim", None) == single:
        keys = keys[None]
    if getattr(keys, "ndim", None) != single + 1 or not len(keys):
        raise TypeError(
            f"`keys` is {keys!r}; it must be an array of keys, such as "
            "jax.random.split(key, 5), or one key."
        )
    # The clone is for JAX's checker of key reuse: this check must not use the key up.
    checks.key(jax.random.clone(keys)[0] if typed else keys[0])
    return keys
