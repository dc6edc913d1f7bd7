"""A run trains a model of one width from several seeds, and measures its values."""

import functools
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core.trees import strip_collection
from .._materialize.materialize import materialize
from .._network.behavior import key_of
from .._network.kept import Kept, Traced, context, program, traced, types_of
from .._network.layers import readouts_of, weights_by_layer
from .._network.linear_products import LinearProduct, linear_products
from .._network.reader.records import Tap
from .._network.record import Network
from .._network.taps import Tapped, names_of, recorded, rows_of, tapped
from .._probe.statistics import rms
from ._coordinate_models import Model, Settings, model_of
from ._coordinate_parts import PARTS, statistics_of
from ._factors import Tensor
from ._parametrization import Parametrization

COMPARED = ("init", "size", "change")
_MASKED = 1e8

# For each path the numbers of some names, as arrays with an entry for each seed.
Sizes = dict[str, dict[str, Any]]


class Measured(NamedTuple):
    """A run has measured these sizes at one width, by path and by seed.

    `layers` have the rms before, after, and of the change, and `parts` those of the two
    parts of a product's change. `weights` are arrays (seed, start or end, ..).
    """

    layers: Sizes
    weights: dict[str, Any]
    parts: Sizes


class Facts(NamedTuple):
    """These facts describe the model of one width.

    `parametrization` has no tensors if none is needed. `outputs` are the modules of
    output tensors, `readouts` the weights that give the output. `kernels` maps the
    name of each layer to the path of its weight.
    """

    parametrization: Parametrization
    outputs: frozenset[str]
    readouts: tuple[str, ...]
    kernels: dict[str, str]


def measured(
    settings: Settings, base: int, width: int, keys: Any, batches: Any, refined: bool
) -> tuple[Measured, Facts]:
    """Return the sizes at one width, and facts about the model of this width.

    Raises:
      ValueError: if `refined` is true and the model has no product to split.
    """
    types = types_of((keys, batches)), context()

    def key() -> Hashable | None:
        settings_key = key_of(vars(settings), base, width, refined)
        return None if settings_key is None else (settings_key, types)

    run = _RUNS.made(
        key, lambda: _run_of(settings, base, width, keys, batches, refined)
    )
    return run(keys, batches), run.facts


class _Run(NamedTuple):
    """A run draws and trains a model of one width for several seeds."""

    taps: tuple[Tap, ...]
    products: tuple[LinearProduct, ...]
    paths: tuple[str, ...]
    # Modules whose output the model has yet to multiply.
    hidden: frozenset[str]
    facts: Facts
    draw: Callable[..., tuple[Any, Any]]
    trained: Traced

    def __call__(self, keys: Any, batches: Any) -> Measured:
        bare = self.trained.bare
        run = program(
            ("coordinates", self.trained.form), lambda: functools.partial(bare.run)
        )
        named, output, weights = run(self.trained.consts, *self.draw(keys), batches)
        operands = named[len(self.taps) :]
        layers = []
        # Layers of one shape share a program, so this compiles faster than one program
        # for all layers.
        for tap in self.taps:
            # The pop drops the last reference, so that the activations are freed once
            # they are compared.
            layers.append(_compared(named.pop(0), over=tap.scans))
        parts = [
            statistics_of(product, [operands.pop(0) for _ in product.operands])
            for product in self.products
        ]
        # The weights stay on the device, since only a layer that is not flat asks for
        # them.
        layers, output, parts = jax.device_get((layers, _compared(output), parts))
        sizes = {
            path: dict(zip(COMPARED, values, strict=True))
            for _, path, values in rows_of(self.taps, layers)
            if layer_of(path) not in self.hidden
        }
        sizes["output"] = dict(zip(COMPARED, output, strict=True))
        by_weight = dict(zip(self.paths, weights, strict=True))
        return Measured(sizes, by_weight, self._parts(parts))

    def _parts(self, parts: Sequence[Any]) -> Sizes:
        numbers = {product.output: i for i, product in enumerate(self.products)}
        return {
            path: dict(zip(PARTS, parts[numbers[tap]][step], strict=True))
            for tap, step, path in names_of(self.taps)
            if tap in numbers
        }


_RUNS: Kept[_Run] = Kept(16)


def layer_of(path: str) -> str:
    """Return the layer of a row: "readout[3]" is a step of it, "readout#2" a use."""
    return path.partition("#")[0].partition("[")[0]


def _unknown() -> None:
    """Return None, the key of a trace that is not kept by itself.

    A run keeps its traces, so a store of its own for them would hold each twice.
    """


def _run_of(
    settings: Settings, base: int, width: int, keys: Any, batches: Any, refined: bool
) -> _Run:
    """Trace the drawing, the training and the activations of one width."""
    x = jax.tree.map(lambda values: values[0], batches[0])
    # Only shapes are needed here, so nothing of the models is drawn.
    first = jax.eval_shape(lambda keys: keys[0], keys)
    model = model_of(settings, width, first, x)
    narrow = model_of(settings, base, first, x)
    p = settings.parametrization(narrow.net, model.net)
    values, numbers = tapped(model.net, _is_compared)
    products = _products(model.net, numbers) if refined else ()
    operands = tuple(tap for product in products for tap in product.operands)
    taps = Tapped(values.trace, values.taps + operands)
    tx = settings.transformation(p)

    def start(key: jax.Array) -> tuple[Any, Any]:
        params, rest = model.draw(key)
        return settings.start(p, params), rest

    def train(params: Any, rest: Any, batches: Any) -> Any:
        trained = _trained(settings, model, tx, (params, rest), batches)
        x = jax.tree.map(lambda values: values[0], batches[0])
        # A vmap over both is half of the program to compile.
        both = jax.tree.map(lambda *pair: jnp.stack(pair), params, trained)
        named, output = _activations(taps, len(values.taps), both, rest, x)
        return named, output, jax.tree.leaves(both)

    # All seeds in one program: their models are small, and a program takes seconds to
    # compile and milliseconds to run.
    several = jax.vmap(start)
    arguments = (*jax.eval_shape(several, keys), batches)
    trained = traced(_unknown, jax.vmap(train, (0, 0, None)), arguments)
    # A raw readout grows with the width by design, as does the output of a module that
    # returns it as it is. Both are measured behind the multiplier instead.
    hidden = frozenset(_multiplied(p) if settings.is_parametrized else ())
    paths = tuple("/".join(strip_collection(x.split("/"))) for x in model.net.paths)
    facts = _facts(p, model.net)
    run = materialize(several)
    return _Run(values.taps, products, paths, hidden, facts, run, trained)


def _products(net: Network, numbers: dict[int, int]) -> tuple[LinearProduct, ...]:
    """Return the products to split, with the outputs numbered as the values are.

    Raises:
      ValueError: if there are none.
    """
    products = tuple(
        product._replace(output=numbers[product.output])
        for product in linear_products(net)
        if product.output in numbers
    )
    if not products:
        raise ValueError(
            "refined=True splits the change of each product of data with a kernel, and "
            "the model has no such product outside of `cond` and `while`. Call the "
            "check without `refined`."
        )
    return products


def _facts(p: Parametrization, net: Network) -> Facts:
    # Readouts give the output, which may shrink as the width grows.
    readouts = readouts_of(net)
    outputs = frozenset(_modules(p.tensors) | set(readouts))
    return Facts(p, outputs, tuple(readouts.values()), weights_by_layer(net))


def _is_compared(tap: Tap) -> bool:
    # The output of the model has a row of its own.
    return tap.kind != "output" and bool(jnp.issubdtype(tap.dtype, jnp.floating))


def _multiplied(p: Parametrization) -> set[str]:
    """Return modules whose output the model has yet to multiply, and their parents."""
    if all(tensor.factors.multiplier == 1 for tensor in p.tensors):
        return set()
    # The model multiplies no folded tensor, such as the kernel of a router.
    paths = _modules(tensor for tensor in p.tensors if not tensor.is_folded)
    parts = [path.split("/") for path in paths]
    return {"/".join(some[:n]) for some in parts for n in range(1, len(some) + 1)}


def _modules(tensors: Iterable[Tensor]) -> set[str]:
    """Return the modules of the output tensors among some tensors."""
    paths = (
        strip_collection(tensor.parts)
        for tensor in tensors
        if tensor.mup_class == "output"
    )
    # A layer has the path of its module, or that of its weight.
    return {"/".join(parts[:n]) for parts in paths for n in (len(parts) - 1, None)}


def _trained(
    settings: Settings, model: Model, tx: Any, start: tuple[Any, Any], batches: Any
) -> Any:
    """Train from the start of one seed, one step on each batch."""
    import optax

    params, rest = start
    loss = settings.scalar_loss(model, rest)

    def step(carry: Any, batch: Any) -> Any:
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params, *batch), state, params)
        return (optax.apply_updates(params, updates), state), None

    (trained, _), _ = jax.lax.scan(step, (params, tx.init(params)), batches)
    return trained


def _activations(taps: Tapped, shown: int, both: Any, rest: Any, x: Any) -> Any:
    """Return the activations for the parameters before and after the training.

    The first `shown` taps are values that are compared, and the others are operands.
    """

    def activations(params: Any) -> tuple[list[Any], Any]:
        values = [jnp.zeros(tap.shape, tap.dtype) for tap in taps.taps[:shown]]
        perturbations = [*values, *[()] * (len(taps.taps) - shown)]
        arguments = params, x, rest
        output, named = taps.run(taps.trace.consts, arguments, perturbations, recorded)
        return named, output

    return jax.vmap(activations)(both)


@functools.partial(jax.jit, static_argnames="over")
def _compared(pairs: Any, over: int = 0) -> jax.Array:
    """Return the rms of the start, of the end, and of their difference.

    `pairs` are arrays (seed, start or end, ..). The result has a row for each index of
    the `over` axes of scans, with the seeds last.
    """

    def compare(pairs: Any) -> jax.Array:
        values = list(map(_flat, jax.tree.leaves(pairs)))
        first, last = jnp.concatenate(values, axis=1)
        return jnp.stack([rms(first), rms(last), rms(last - first)])

    function: Callable[..., Any] = compare
    for _ in range(over):
        function = jax.vmap(function, in_axes=1)
    return jnp.asarray(jax.vmap(function, out_axes=-1)(pairs))


def _flat(x: Any) -> jax.Array:
    wide = jnp.asarray(x, jnp.promote_types(x.dtype, np.float32)).reshape(2, -1)
    # A mask's -1e9 would decide the rms of all logits, and hide their growth.
    return jnp.where(wide < -_MASKED, 0.0, wide)
