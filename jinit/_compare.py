"""A model, schemes and seeds -> the report of each, side by side."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from . import _checks, _naming, _statistics
from ._comparison import Comparison
from ._probe import compiled
from ._probe_report import Report
from ._registry import get

# A scheme -> its start, key -> (variables, batch), and its pass, of both.
Make = Callable[[Any], tuple[Callable[..., Any], Callable[..., Any]]]


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

    Each scheme's model is drawn and probed for all keys in one vmapped program.

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
    inputs = _naming.inputs_of(batch)

    def make(scheme: Any) -> Any:
        return _parts(make_model(scheme), inputs, rngs, options)

    return compared(make, schemes, keys, loss)


def compared(make: Make, schemes: Any, keys: Any, loss: Any) -> Comparison:
    """The reports of every scheme."""
    named, keys = _named(schemes), _row_of_keys(keys)
    return Comparison(
        {
            # On purpose every scheme has the same keys.
            name: _reports(*make(scheme), jax.random.clone(keys), loss)
            for name, scheme in named.items()
        }
    )


def _reports(
    init: Callable[..., Any], forward: Callable[..., Any], keys: Any, loss: Any
) -> tuple[Report, ...]:
    """One for each key."""
    variables, batch = jax.eval_shape(lambda keys: init(keys[0]), keys)
    probe = compiled(forward, variables, batch, loss)
    run = jax.jit(jax.vmap(lambda key: probe.run(*init(key))))
    with _statistics.may_be_infinite():
        found = run(keys)
    found = jax.device_get(found)
    return tuple(
        probe.report(jax.tree.map(lambda leaf, i=i: leaf[i], found))
        for i in range(len(keys))
    )


def _parts(
    model: Any, inputs: tuple[Any, ...], rngs: Any, options: dict[str, Any]
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What `make_model` gave: its start and its pass."""
    if isinstance(model, tuple) and len(model) == 2 and all(map(callable, model)):
        init, apply = model
        forward = _naming.forward_of(apply, rngs, options, "compare")
        return lambda key: (init(key, *inputs), inputs), forward
    if not _naming.is_module(model, "flax.linen"):
        raise TypeError(
            f"`make_model` gave {model!r}, of type {type(model).__name__}; it must "
            "give a Linen module, or a pair of functions (init, apply). For NNX models "
            "call jinit.nnx.compare."
        )

    def start(key: jax.Array) -> Any:
        streams = {**rngs, "params": key} if isinstance(rngs, dict) else key
        return model.init(streams, *inputs, **options), inputs

    return start, _naming.forward_of(model, rngs, options, "compare")


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
            _checks.key(key)
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
    # The clone is for JAX's checker of key reuse: a look uses up nothing.
    _checks.key(jax.random.clone(keys)[0] if typed else keys[0])
    return keys
