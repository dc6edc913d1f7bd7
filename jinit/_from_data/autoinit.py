"""`autoinit` sets weights by an analysis of the signal, without a batch of data."""

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core import trees
from .._core.patterns import PatternLike
from .._core.results import Row
from .._network.adapters import holds_arrays
from .._network.behavior import key_of
from .._network.calling import network_of, rebuilt
from .._network.kept import Kept, context, types_of
from .._network.layers import layers_of, left_by, path_of, times
from .._network.reader.records import Adjustable
from .._network.record import Network, network
from .history import History
from .propagation import Known, Origin, propagate, rms
from .signals import Moments
from .specimens import Input

# The sizes of images to try if there is no batch, the most frequent first.
_SIZES = (32, 28, 64, 224, 16, 8, 96, 128, 256, 14, 299, 48)


def autoinit(
    model: Any,
    *arguments: Any,
    input_stats: tuple[Any, Any] = (0.0, 1.0),
    batch: Any = None,
    skip: PatternLike = (),
    rngs: Any = None,
    **options: Any,
) -> tuple[Any, History]:
    """Scale kernels without data so that layers' outputs have mean 0 and variance 1.

    A layer whose input has mean mu and variance nu gets weights of variance 1 / (n
    (mu^2 + nu)), where n is its fan_in, without the part that lies on padding. mu and
    nu are followed from the input to the output: a layer makes its outputs Gaussian,
    the functions behind it are integrated over that law, and branches count as
    independent. Kernels keep their drawn directions: W <- W std / rms(W).

    Where entries meet that depend on each other (norms, softmax, attention, pooling,
    routers, sorts, recurrences), no law of one entry is exact. There the model is run
    on inputs that are drawn from their law, at the shapes of the batch, and mu and nu
    are measured, to a few percent. No data are needed for this, either.

    Args:
      model: a Linen module, a function of (variables, ...), a model that holds its
        arrays, or a `jinit.Network` of one of them.
      *arguments: those with which one would call the model; see `jinit.network`. Of
        real inputs only the shape counts. Whole numbers, such as tokens, and masks are
        taken as they are; where only their shape is known, tokens are drawn uniformly,
        and masks hide nothing. A pair of numbers in the place of the inputs are
        `input_stats`.
      input_stats: mean and variance of the input: two numbers, or arrays that fit it.
      batch: the input, or a `jax.ShapeDtypeStruct` like it, or a tuple of several, if
        they are not among the arguments. Without any input, a shape is tried that
        fits one of the kernels.
      skip: patterns of the paths of layers to leave as they are.
      rngs: keys, where the call draws numbers, as for `jinit.network`.
      **options: keyword arguments of the call, such as `train=True`.

    Returns:
      The variables, or the model, with new numbers, and a `History`: the mean and
      variance of each layer's input, and the std of its weights.

    Raises:
      TypeError: as for `jinit.network`, or if parameters are only shapes.
      ValueError: if an operation, such as a callback, can be neither analyzed nor run,
        a layer or its input is 0, or no shape of an input fits. The text names the
        layer, and nothing is changed.

    Example:
      >>> import flax.linen as nn, jax, jinit
      >>> model = nn.Sequential([nn.Dense(500), nn.silu, nn.Dense(500)])
      >>> x = 0.5 + 2 * jax.random.normal(jax.random.key(0), (400, 100))
      >>> variables = model.init(jax.random.key(1), x)
      >>> variables, history = jinit.autoinit(model, variables, (0.5, 4.0))
      >>> round(float(model.apply(variables, x).std()), 1)
      1.0

    References:
      Bingham and Miikkulainen, "AutoInit: analytic signal-preserving weight
        initialization for neural networks", AAAI 2023.
    """
    arguments, input_stats = _without_stats(arguments, input_stats, batch)
    if not isinstance(model, Network):
        arguments = _with_batch(model, arguments, batch, rngs, options)
    net = network_of(model, arguments, rngs, options, "autoinit", needs_inputs=False)
    layers, trace = layers_of(net, skip), net._read.trace
    setter = _Setter(layers)
    signals = _signals(net, layers, *_moments(input_stats))
    try:
        propagate(trace.jaxpr, trace.consts, signals, setter.set_weight)
    except NotImplementedError as error:
        raise ValueError(
            f"{error}, {setter.place()}, so this model cannot be analyzed; call "
            "jinit.lsuv, which takes the statistics from a batch of data. Nothing was "
            "changed."
        ) from None
    flat, tree = jax.tree.flatten(net.params)
    for layer in layers:
        number = layer.kernel.number
        flat[number] = times(flat[number], layer.kernel, setter.factors_of(layer))
    model = rebuilt(net, jax.tree.unflatten(tree, flat))
    left = left_by(layers, net)
    return model, History("autoinit", tuple(setter.rows), ("weight_std",), left)


def _without_stats(
    arguments: tuple[Any, ...], input_stats: Any, batch: Any
) -> tuple[tuple[Any, ...], Any]:
    """Take a pair of numbers at the end of the arguments for `input_stats`."""
    last: Any = arguments[-1] if arguments else None
    is_pair = isinstance(last, tuple) and len(last) == 2
    # Moments by entry have one axis, and an input has the batch's as well.
    if is_pair and (batch is not None or all(np.ndim(x) < 2 for x in last)):
        return arguments[:-1], last
    return arguments, input_stats


def _with_batch(
    model: Any, arguments: tuple[Any, ...], batch: Any, rngs: Any, options: Any
) -> tuple[Any, ...]:
    """Return the arguments with an input among them."""
    if batch is not None:
        return (*arguments, *(batch if isinstance(batch, tuple) else (batch,)))
    # A model that holds its arrays takes no variables before its inputs.
    has_inputs = len(arguments) > (0 if holds_arrays(model) else 1)
    if has_inputs:
        return arguments
    return (*arguments, _fitting(model, arguments, rngs, options))


def _signals(
    net: Network, layers: Sequence[Adjustable], mean: float, variance: float
) -> list[Known | Input]:
    """Return the arguments of a traced model: known arrays, then inputs with a law."""
    weights = {layer.kernel.number for layer in layers}
    leaves = enumerate(jax.tree.leaves(net.params))
    inputs, count = jax.tree.leaves(net.inputs), net._adapted.num_arguments
    return [
        *(Known(leaf, (i, ()) if i in weights else None) for i, leaf in leaves),
        *(_input(leaf, mean, variance) for leaf in inputs[:count]),
        *map(Known, inputs[count:]),
    ]


def _input(leaf: Any, mean: float, variance: float) -> Known | Input:
    """Return an input; masks and keys of random numbers are no signals."""
    is_abstract = isinstance(leaf, jax.ShapeDtypeStruct)
    if leaf.dtype == bool:
        # Where a mask is not known, it hides nothing.
        return Known(jnp.ones(leaf.shape, bool) if is_abstract else jnp.asarray(leaf))
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return Known(leaf)
    return Input(leaf, mean, variance)


class _Setter:
    """A setter sets each weight at its first use, and remembers the factor."""

    def __init__(self, layers: Sequence[Adjustable]) -> None:
        self.layers = {layer.kernel.number: layer for layer in layers}
        self.factors: dict[Origin, float] = {}
        self.rows: list[Row] = []
        # The weights whose input has been 0 so far.
        self.problems: dict[Origin, str] = {}

    def set_weight(self, weight: Known, law: Moments, terms: float) -> float:
        """Return the factor of a weight whose outputs are sums of `terms` terms."""
        origin = weight.origin
        assert origin is not None
        # A weight that is used again keeps the factor of its first use.
        if origin in self.factors:
            return self.factors[origin]
        size, incoming = rms(weight.array), terms * law.square
        if not (size > 0 and np.isfinite(size) and 0 < incoming < np.inf):
            problem = (
                f"{self._path(origin)} cannot be scaled: its weights have rms "
                f"{size:.4g}, and its input has the mean square {law.square:.4g}; both "
                "must be positive and finite. skip=[...] leaves it out. Nothing was "
                "changed."
            )
            if incoming != 0:
                raise ValueError(problem)
            # A recurrence begins with zeros; its weight is set at its next use.
            self.problems[origin] = problem
            return 1.0
        self.factors[origin] = float(1 / np.sqrt(incoming) / size)
        self.rows.append(
            {
                "step": 1,
                "path": self._path(origin),
                "input_mean": law.mean,
                "input_variance": law.variance,
                "weight_std": float(1 / np.sqrt(incoming) / abs(weight.multiplier)),
            }
        )
        return self.factors[origin]

    def place(self) -> str:
        """Return the place that the analysis has reached, in words."""
        return f"behind {self.rows[-1]['path']}" if self.rows else "before all layers"

    def _path(self, origin: Origin) -> str:
        leaf, step = origin
        return path_of(self.layers[leaf], step)

    def factors_of(self, layer: Adjustable) -> jax.Array:
        """Return a layer's factor, or for a stacked layer one for each of its steps."""
        steps = {
            step: factor
            for (leaf, step), factor in self.factors.items()
            if leaf == layer.kernel.number
        }
        for (leaf, step), problem in self.problems.items():
            if leaf == layer.kernel.number and step not in steps:
                raise ValueError(problem)
        if not steps:
            raise ValueError(
                f"the weights of {layer.path} are changed before they meet a signal, "
                "as by a weight norm, so they cannot be set by analysis. "
                f"skip=[{layer.path!r}] leaves the layer out. Nothing was changed."
            )
        shape = np.max(np.array(list(steps), int).reshape(len(steps), -1), 0) + 1
        factors = np.ones(tuple(shape), np.float32)
        for step, factor in steps.items():
            factors[step] = factor
        return jnp.asarray(factors)


def _moments(input_stats: Any) -> tuple[float, float]:
    """Return mean and variance over all entries, from numbers, or arrays by entry."""
    if not isinstance(input_stats, (tuple, list)) or len(input_stats) != 2:
        raise TypeError(
            f"`input_stats` is {input_stats!r}; it must be a pair, (mean, variance)."
        )
    mean, variance = (np.asarray(x, np.float64) for x in input_stats)
    if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
        raise ValueError(f"`input_stats` is {input_stats!r}; it must be finite.")
    if (variance < 0).any():
        raise ValueError(
            f"`input_stats` has the variance {variance.min():g}; it must be 0 or more."
        )
    # Means that differ from entry to entry add to the variance over all entries.
    return float(mean.mean()), float(variance.mean() + mean.var())


# Finding an input takes one trace for each candidate, so it is kept by model.
_FITTING: Kept[jax.ShapeDtypeStruct] = Kept(64)


def _fitting(
    model: Any, arguments: tuple[Any, ...], rngs: Any, options: dict[str, Any]
) -> jax.ShapeDtypeStruct:
    """Return an input that a model takes, whose features fit one of its kernels."""
    types = types_of((arguments, rngs)), context()

    def key() -> Hashable | None:
        model_key = key_of(model, options)
        return None if model_key is None else (model_key, types)

    def make() -> jax.ShapeDtypeStruct:
        for shape in dict.fromkeys(_candidates(arguments or model)):
            candidate = jax.ShapeDtypeStruct(shape, np.float32)
            try:
                network(model, *arguments, candidate, rngs=rngs, **options)
            except Exception:
                # A model may raise anything for an input that does not fit.
                continue
            return candidate
        raise ValueError(
            "no shape of an input was found that the model takes; pass `batch`, an "
            "input or a jax.ShapeDtypeStruct."
        )

    return _FITTING.made(key, make)


def _candidates(tree: Any) -> Iterator[tuple[int, ...]]:
    for leaf in trees.leaves(tree):
        shape = tuple(getattr(leaf.value, "shape", ()))
        if len(shape) == 2:
            yield 1, shape[0]
        elif len(shape) > 2:
            spatial = len(shape) - 2
            yield from ((1, *[size] * spatial, shape[-2]) for size in _SIZES)
