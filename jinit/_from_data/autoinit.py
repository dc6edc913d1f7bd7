"""`autoinit` sets weights by an analysis of the signal, without a batch of data."""

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core import trees
from .._core.patterns import PatternLike
from .._core.results import Row
from .._network import network
from .._network.behavior import key_of
from .._network.kept import Kept, context, types_of
from .._network.layers import Layer, layers_of, left_by
from .._network.taps import tapped
from .history import History
from .propagation import Known, Origin, propagate, rms
from .signals import Moments
from .specimens import Input
from .stacks import path_of, times

# The sizes of images to try if there is no batch, the most frequent first.
_SIZES = (32, 28, 64, 224, 16, 8, 96, 128, 256, 14, 299, 48)


@network.function_of_a_model
def autoinit(
    model: Any,
    variables: Any,
    input_stats: tuple[Any, Any] = (0.0, 1.0),
    *,
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
      model: a Linen module, or a function of (variables, batch). For an NNX model call
        `jinit.nnx.autoinit`.
      variables: the variables of the Linen module, or the function's tree.
      input_stats: mean and variance of the input: two numbers, or arrays that fit it.
      batch: an input, or a `jax.ShapeDtypeStruct` like it, or a tuple of several. Of
        real numbers only the shape counts. Whole numbers, such as tokens, and masks are
        taken as they are; where only their shape is known, tokens are drawn uniformly,
        and masks hide nothing. By default a shape is tried that fits one of the
        kernels.
      skip: patterns of the paths of layers to leave as they are.
      rngs: for a Linen module, the keys of its streams, such as dropout's.
      **options: more arguments of the model, such as `train=True`.

    Returns:
      New variables, and a `History`: the mean and variance of each layer's input, and
      the std of its weights.

    Raises:
      TypeError: if `model` is neither a Linen module nor a function.
      ValueError: if an operation can be neither analyzed nor run, as a callback, a
        layer or its input is 0, or no shape of an input fits. The text names the layer,
        and nothing is changed.

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
    if batch is None:
        batch = _fitting(model, variables, rngs, options)
    called = network.called(model, variables, batch, rngs, options, "autoinit")
    mean, variance = _moments(input_stats)
    trace, variables = called.traced(), called.variables
    layers = layers_of(tapped(trace), variables, network.module_calls(trace), skip)
    setter = _Setter(layers)
    arguments = _arguments(called, layers, mean, variance)
    try:
        propagate(trace.jaxpr, trace.consts, arguments, setter.set_weight)
    except NotImplementedError as error:
        raise ValueError(
            f"{error}, {setter.place()}, so this model cannot be analyzed; call "
            "jinit.lsuv, which takes the statistics from a batch of data. Nothing was "
            "changed."
        ) from None
    flat, tree = jax.tree.flatten(variables)
    for layer in layers:
        flat[layer.kernel] = times(flat[layer.kernel], layer, setter.factors_of(layer))
    variables = jax.tree.unflatten(tree, flat)
    left = left_by(layers, variables)
    return variables, History("autoinit", tuple(setter.rows), ("weight_std",), left)


def _arguments(
    called: network.Called, layers: Sequence[Layer], mean: float, variance: float
) -> list[Known | Input]:
    """Return the arguments of a traced model: known arrays, then inputs with a law."""
    weights = {layer.kernel for layer in layers}
    beside, *inputs = called.beside
    leaves = enumerate(jax.tree.leaves(called.variables))
    return [
        *(Known(leaf, (i, ()) if i in weights else None) for i, leaf in leaves),
        *map(Known, jax.tree.leaves(beside)),
        *(_input(leaf, mean, variance) for leaf in jax.tree.leaves(inputs)),
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

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = {layer.kernel: layer for layer in layers}
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
        """Say behind which layer the analysis is."""
        return f"behind {self.rows[-1]['path']}" if self.rows else "before all layers"

    def _path(self, origin: Origin) -> str:
        leaf, step = origin
        return path_of(self.layers[leaf], step)

    def factors_of(self, layer: Layer) -> jax.Array:
        """Return a layer's factor, or for a stacked layer one for each of its steps."""
        steps = {
            step: factor
            for (leaf, step), factor in self.factors.items()
            if leaf == layer.kernel
        }
        for (leaf, step), problem in self.problems.items():
            if leaf == layer.kernel and step not in steps:
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
    model: Any, variables: Any, rngs: Any, options: dict[str, Any]
) -> jax.ShapeDtypeStruct:
    """Return an input that a model takes, whose features fit one of its kernels."""
    forward = network.forward_of(model, options, "autoinit")
    types = types_of((variables, rngs)), context()

    def key() -> Hashable | None:
        model_key = key_of(model, options)
        return None if model_key is None else (model_key, types)

    def make() -> jax.ShapeDtypeStruct:
        for shape in dict.fromkeys(_candidates(variables)):
            candidate = jax.ShapeDtypeStruct(shape, np.float32)
            try:
                jax.eval_shape(lambda x: forward(variables, (rngs, x)), candidate)
            except Exception:
                # A model may raise anything for an input that does not fit.
                continue
            return candidate
        raise ValueError(
            "no shape of an input was found that the model takes; pass `batch`, an "
            "input or a jax.ShapeDtypeStruct."
        )

    return _FITTING.made(key, make)


def _candidates(variables: Any) -> Iterator[tuple[int, ...]]:
    for leaf in trees.leaves(variables):
        shape = tuple(getattr(leaf.value, "shape", ()))
        if len(shape) == 2:
            yield 1, shape[0]
        elif len(shape) > 2:
            spatial = len(shape) - 2
            yield from ((1, *[size] * spatial, shape[-2]) for size in _SIZES)
