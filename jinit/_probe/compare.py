"""`compare` probes one model under several schemes, with several seeds for each."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .._core import checks
from .._materialize.materialize import materialize
from .._network.adapters import is_linen
from .._network.behavior import key_of
from .._network.calling import again, network_of
from .._network.kept import Kept
from .._network.record import Network
from .._schemes.registry import get
from . import advice
from .comparison import Comparison
from .made import Made
from .probe import report_of
from .redrawn import redrawn
from .report import Report


def compare(
    make_model: Callable[[Any], Any] | Network,
    schemes: Any,
    batch: Any = None,
    keys: Any = None,
    *,
    loss: Callable[[Any], Any] | None = None,
    rngs: Any = None,
    **options: Any,
) -> Comparison:
    """Probe one model under several schemes and seeds, before any training.

    Schemes and keys share the programs of one model, so a comparison compiles little
    more than one `jinit.probe`.

    Args:
      make_model: a function of a scheme that returns a Linen module, or a pair of
        functions: (key, *batch) -> variables and (variables, *batch) -> output. For NNX
        there is `jinit.nnx.compare`. Or a `jinit.Network`, whose kernels are drawn
        under each scheme, by the axes that the network shows; its other parameters
        stay.
      schemes: the arguments of `make_model`: a list of them, or a dict that names them.
        A string stands for the initializer of that name in `jinit.registry`.
      batch: the model's input, an array, or a tuple of several. A network has its own.
      keys: an array of keys, such as `jax.random.split(key, 5)`, or one key.
      loss: as in `jinit.probe`.
      rngs: as in `jinit.probe`.
      **options: more arguments of the model, such as `train=True`.

    Returns:
      A `Comparison`: print it, `plot` it, or look at `reports[scheme][seed]`.

    Raises:
      TypeError: if `make_model` returns something else, `keys` are not PRNG keys, or a
        network comes with a batch.
      ValueError: if there are no schemes, or two with one name.

    Example:
      >>> import flax.linen as nn, jax, jinit
      >>> def make(init):
      ...     layer = lambda: [nn.Dense(64, kernel_init=init), nn.relu]
      ...     return nn.Sequential(sum((layer() for _ in range(12)), []))
      >>> x = jax.random.normal(jax.random.key(0), (16, 64))
      >>> keys = jax.random.split(jax.random.key(1), 3)
      >>> result = jinit.compare(make, ["he", "xavier"], x, keys)
      >>> [finding.category for finding in result.reports["xavier"][0].verdict]
      ['signal shrinks']
      >>> result.reports["he"][0].verdict
      []
      >>> net = jinit.network(make(jinit.he()), make(jinit.he()).init(keys[0], x), x)
      >>> print(jinit.compare(net, ["he", "xavier"], keys=keys).rows[1]["verdict"])
      signal shrinks (3/3)

    References:
      Glorot and Bengio, "Understanding the difficulty of training deep feedforward
        neural networks", AISTATS 2010. The paper compares two schemes in this way.
    """
    if isinstance(make_model, Network):
        _require_alone(batch, rngs, options)
        return compared(partial(redrawn, make_model), (), schemes, keys, loss, None, {})

    if is_linen(make_model):
        raise TypeError(
            f"`make_model` is a model, of type {type(make_model).__name__}; it must be "
            "a function that makes one from an initializer, such as "
            "lambda init: Model(kernel_init=init)."
        )

    def make(scheme: Any) -> Made:
        return _made(make_model(scheme), rngs, options)

    return compared(make, batch, schemes, keys, loss, rngs, options)


def _require_alone(batch: Any, rngs: Any, options: dict[str, Any]) -> None:
    if batch is not None or rngs is not None or options:
        raise TypeError(
            "a Network has its inputs and options already, and there are others. Call "
            "jinit.compare(net, schemes, keys=keys)."
        )


def compared(
    make: Callable[[Any], Made], batch: Any, schemes: Any, keys: Any,
    loss: Any, rngs: Any, options: dict[str, Any],
) -> Comparison:  # fmt: skip
    """Return the reports of every scheme; `make` gives the model of a scheme."""
    named, keys = _named(schemes), _row_of_keys(keys)
    inputs = batch if isinstance(batch, tuple) else (batch,)

    notes: dict[str, None] = {}

    def report(net: Network) -> Report:
        if note := advice.note_of(net):
            notes[note] = None
        return report_of(net, loss)

    def reports(made: Made) -> tuple[Report, ...]:
        # Every scheme has the same keys, so that only the schemes differ.
        drawn = _drawn(made, inputs, jax.random.clone(keys))
        return tuple(
            map(report, _networks(map(made.call, drawn), inputs, rngs, options))
        )

    every = {name: reports(make(scheme)) for name, scheme in named.items()}
    return Comparison(every, tuple(notes))


def _drawn(made: Made, inputs: tuple[Any, ...], keys: Any) -> Iterator[Any]:
    """Yield the arrays of a model for each key."""
    draw = _DRAWS.get(made.start_key()) or materialize(made.start)
    for key in keys:
        yield draw(key, *inputs)
    # The first draw traces the model, which may change the key, so it is read again.
    _DRAWS.put(made.start_key(), draw)


# The materialized draw of each model, which holds the model's trace.
_DRAWS: Kept[Callable[..., Any]] = Kept(16)


def _networks(
    calls: Iterable[tuple[Any, tuple[Any, ...]]],
    inputs: tuple[Any, ...],
    rngs: Any,
    options: dict[str, Any],
) -> Iterator[Network]:
    """Yield the network of each seed, of which the first alone is read."""
    first: Network | None = None
    for model, arguments in calls:
        arguments = (*arguments, *inputs)
        if first is None:
            first = network_of(model, arguments, rngs, options, "compare")
            yield first
        else:
            yield again(first, model, arguments, rngs, options)


def _made(model: Any, rngs: Any, options: dict[str, Any]) -> Made:
    """Make a start and a call from the result of `make_model`."""
    if isinstance(model, tuple) and len(model) == 2 and all(map(callable, model)):
        init, apply = model
        key = partial(key_of, "init", init)
        return Made(init, lambda variables: (apply, (variables,)), key)
    if not is_linen(model):
        raise TypeError(
            f"`make_model` gave {model!r}, of type {type(model).__name__}; it must "
            "give a Linen module, or a pair of functions (init, apply). For NNX models "
            "call jinit.nnx.compare."
        )

    def start(key: jax.Array, *inputs: Any) -> Any:
        streams = {**rngs, "params": key} if isinstance(rngs, dict) else key
        return model.init(streams, *inputs, **options)

    key = partial(key_of, "init", model, options, rngs)
    return Made(start, lambda variables: (model, (variables,)), key)


def _named(schemes: Any) -> dict[str, Any]:
    """Return the schemes by name, with initializers for the names in the registry."""
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
    """Return keys as an array, from an array, a list, or one key."""
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
    # JAX's checker of key reuse would count this check as a use, so it gets a clone.
    checks.key(jax.random.clone(keys)[0] if typed else keys[0])
    return keys
