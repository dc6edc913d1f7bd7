"""Weights set by analysis: the mean and variance of a signal, through every layer."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core import trees
from .._network import network
from .._network.behavior import key_of
from .._network.kept import Kept, context, types_of
from .._network.layers import Layer, layers_of, left_by
from .._network.taps import tapped
from . import signals
from .history import History, Row
from .layerwise import times
from .propagation import Known, propagate
from .signals import SignalLaw

# Sizes of images to try where nobody says which.
_SIZES = (32, 28, 64, 224, 16, 8, 96, 128, 256, 14, 299, 48)


@network.function_of_a_model
def autoinit(
    model: Any,
    variables: Any,
    input_stats: tuple[Any, Any] = (0.0, 1.0),
    *,
    batch: Any = None,
    skip: Sequence[str] = (),
    rngs: Any = None,
    **options: Any,
) -> tuple[Any, History]:
    """Scale every kernel so that its layer's outputs have mean 0, variance 1; no data.

    A layer whose input has mean mu and variance nu gets weights of variance 1 / (n
    (mu^2 + nu)), n its fan_in (less what lies on padding). mu and nu go from the input
    to the output: a layer makes its outputs Gaussian, and what follows is integrated,
    whatever functions it is made of; branches are taken for independent. Kernels keep
    their drawn directions and are scaled: W <- W std / rms(W).

    Known are products, convolutions, functions of one entry, sums, maxima, pooling,
    norms, attention, embeddings, and scans of these; not sorts and cumulative sums.

    Args:
      model: a Linen module, or a function of (variables, batch). For NNX there is
        `jinit.nnx.autoinit`.
      variables: what it takes.
      input_stats: mean and variance of the input, numbers or arrays that fit it.
      batch: an input, or a `jax.ShapeDtypeStruct` like it, or a tuple of several: only
        its shape counts. By default it is looked for: a shape that fits a kernel.
      skip: patterns of paths to leave as they are.
      rngs: for a Linen module, the keys of dropout and the like.
      **options: more arguments of the model, as `train=True`.

    Returns:
      New variables, and a `History`: each layer's incoming mean and variance, and the
      std of its weights.

    Raises:
      TypeError: for something that is neither a module nor a function.
      ValueError: for an operation whose law is not known, a layer of zeros, an input
        that is always 0, or a shape that cannot be found; the layer is named, and
        nothing is changed.

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
      initialization for neural networks", 2023.
    """
    if batch is None:
        forward = network.forward_of(model, options, "autoinit")
        types = types_of((variables, rngs)), context()

        def key() -> Hashable | None:
            known = key_of(model, options)
            return None if known is None else (known, types)

        batch = _FITTING.made(
            key, lambda: _fitting(lambda x: forward(variables, (rngs, x)), variables)
        )
    called = network.called(model, variables, batch, rngs, options, "autoinit")
    return analyzed(called, input_stats, skip)


def analyzed(
    called: network.Called, input_stats: tuple[Any, Any], skip: Sequence[str]
) -> tuple[Any, History]:
    """Run `autoinit` on a model whose layers' outputs are named."""
    mean, variance = _moments(input_stats)
    trace, variables = called.traced(), called.variables
    layers = layers_of(tapped(trace), variables, network.module_calls(trace), skip)
    setter = _Setter(layers)
    flat, tree = jax.tree.flatten(variables)
    weights = {layer.kernel for layer in layers}
    arguments: list[Known | SignalLaw] = [
        Known(leaf, (number, ()) if number in weights else None)
        for number, leaf in enumerate(flat)
    ]
    rest, *inputs = called.beside
    arguments += map(Known, jax.tree.leaves(rest))
    arguments += [_input(x, mean, variance) for x in jax.tree.leaves(inputs)]
    try:
        propagate(trace.jaxpr, trace.consts, arguments, setter.meet)
    except NotImplementedError as error:
        raise ValueError(
            f"{error}, so that this model cannot be analyzed; jinit.lsuv finds the "
            "same from a batch of data. Nothing was changed."
        ) from None
    for layer in layers:
        flat[layer.kernel] = times(flat[layer.kernel], layer, setter.factors_of(layer))
    variables = jax.tree.unflatten(tree, flat)
    left = left_by(layers, variables)
    return variables, History("autoinit", tuple(setter.rows), ("weight std",), left)


class _Setter:
    """Sets a weight where it is met for the first time, and remembers by what."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = {layer.kernel: layer for layer in layers}
        self.factors: dict[tuple[int, tuple[int, ...]], float] = {}
        self.rows: list[Row] = []

    def meet(
        self,
        origin: tuple[int, tuple[int, ...]],
        weight: Any,
        law: SignalLaw,
        count: float,
    ) -> SignalLaw:
        """The law of a layer's outputs, sums of `count` terms."""
        rms = float(np.sqrt(np.mean(np.asarray(weight, np.float64) ** 2)))
        incoming = count * law.square
        if origin not in self.factors:
            path = self._path(origin)
            if not (rms > 0 and np.isfinite(rms) and 0 < incoming < np.inf):
                raise ValueError(
                    f"{path} cannot be scaled: its weights have rms {rms:.4g}, its "
                    f"input a mean square of {law.square:.4g}. skip=[...] leaves it "
                    "out. Nothing was changed."
                )
            std = 1 / np.sqrt(incoming)
            self.factors[origin] = std / rms
            self.rows.append(
                {
                    "step": 1,
                    "path": path,
                    "input mean": law.mean,
                    "input variance": law.variance,
                    "weight std": float(std),
                }
            )
        return signals.gaussian(0.0, incoming * (rms * self.factors[origin]) ** 2)

    def _path(self, origin: tuple[int, tuple[int, ...]]) -> str:
        number, index = origin
        return self.layers[number].path + "".join(f"[{i}]" for i in index)

    def factors_of(self, layer: Layer) -> jax.Array:
        """One factor, or for a stacked layer one for each of its steps."""
        own = {
            i: f for (number, i), f in self.factors.items() if number == layer.kernel
        }
        if not own:
            raise ValueError(
                f"the weights of {layer.path} are changed before they meet a signal, "
                "as by a weight norm: they cannot be set by analysis. "
                f"skip=[{layer.path!r}] leaves the layer out. Nothing was changed."
            )
        shape = np.max(np.array(list(own), int).reshape(len(own), -1), 0) + 1
        found = np.ones(tuple(shape), np.float32)
        for index, factor in own.items():
            found[index] = factor
        return jnp.asarray(found)


def _moments(input_stats: Any) -> tuple[float, float]:
    """Mean and variance of all entries, from numbers, or arrays by entry."""
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
    return float(mean.mean()), float(variance.mean() + mean.var())


def _input(leaf: Any, mean: float, variance: float) -> SignalLaw:
    """An input's law; of whole numbers, such as tokens, any will do."""
    if jnp.issubdtype(leaf.dtype, jnp.floating):
        return signals.gaussian(mean, variance)
    return signals.gaussian(0.0, 1.0, np.int32)


# To find an input takes one trace for each candidate, so it is kept by model.
_FITTING: Kept[jax.ShapeDtypeStruct] = Kept(64)


def _fitting(run: Callable[[Any], Any], variables: Any) -> jax.ShapeDtypeStruct:
    """An input that the model takes, as long as one of its kernels is."""
    for shape in dict.fromkeys(_candidates(variables)):
        found = jax.ShapeDtypeStruct(shape, np.float32)
        try:
            jax.eval_shape(run, found)
        except Exception:
            continue
        return found
    raise ValueError(
        "no shape of an input was found that the model takes; give `batch`, an input "
        "or a jax.ShapeDtypeStruct."
    )


def _candidates(variables: Any) -> Iterator[tuple[int, ...]]:
    for leaf in trees.leaves(variables):
        shape = tuple(getattr(leaf.value, "shape", ()))
        if len(shape) == 2:
            yield 1, shape[0]
        elif len(shape) > 2:
            spatial = len(shape) - 2
            yield from ((1, *[size] * spatial, shape[-2]) for size in _SIZES)
