"""A coordinate check trains models of several widths and compares their activations."""

import functools
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core import checks
from .._core.trees import strip_collection
from .._materialize.materialize import materialize
from .._network.behavior import key_of
from .._network.kept import Kept, Traced, context, program, traced, types_of
from .._network.reader.records import Tap
from .._network.record import Network
from .._network.taps import Tapped, rows_of
from .._probe.statistics import rms
from ._coordinate_models import Model, Settings, model_of, stacked
from ._coordinate_report import CoordinateReport, row
from ._parametrization import Parametrization

_MASKED = 1e8


def coordinate_check(
    make_model: Callable[..., Any],
    widths: Sequence[int],
    batches: Sequence[tuple[Any, Any]],
    tx: Any,
    *,
    loss: Callable[[Any, Any], Any],
    base_width: int | None = None,
    parametrize: Callable[[Any, Any], Parametrization] | None = None,
    init: Callable[[Parametrization, Any], Any] | None = None,
    seeds: int = 4,
    seed: int = 0,
    tolerance: float = 0.2,
    **options: Any,
) -> CoordinateReport:
    """Train a few steps at each width, and fit how activations grow with the width.

    Each model is trained one step on each batch, for several seeds at once. The check
    takes the output of every layer (as `jinit.probe` names them), the logits of every
    attention and the output of the model. It fits the rms of each value, and of its
    change since the start: log rms = slope log width + c. Learning rates that are tuned
    at one width hold at another if the slopes are 0. The output of a readout is left
    out before its multiplier: the multiplied output counts.

    Args:
      make_model: a function of the width that returns a Linen module, or a pair of
        functions (init(key, x), apply(params, x)); or a function of the width and
        of `rngs` that returns an NNX module. The model applies the scales of readout
        and attention itself.
      widths: two widths or more, such as [64, 128, 256, 512].
      batches: pairs (input, target) of the same shapes, one for each step.
      tx: a function of the `Parametrization` of each width that returns an Optax
        transformation, such as `lambda p: p.optimizer(optax.adam(1e-2))`; or a
        transformation, for a model that is not parametrized.
      loss: a function of output and target that returns a scalar.
      base_width: the base width of the parametrization; by default the first width.
      parametrize: a function (base_shapes, shapes) -> `Parametrization`; by default
        `jinit.mup.infer` of the networks of the two models.
      init: a function (parametrization, drawn parameters) -> parameters; by default
        `p.init(params)` if `tx` is a function of p, else the drawn parameters.
      seeds: the number of models of each width.
      seed: the seed of the root key.
      tolerance: the largest slope that counts as flat.
      **options: more arguments of a Linen or NNX model, such as `train=True`.

    Returns:
      A `CoordinateReport`: print it, look at its `rows`, `plot` or `check` it.

    Raises:
      TypeError: if `make_model` or `tx` does not return what it should.
      ValueError: if there are fewer than two widths, the batches have different shapes,
        or the loss is not a scalar.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, jinit, optax
      >>> class MLP(nn.Module):
      ...     width: int
      ...     scale: float
      ...     @nn.compact
      ...     def __call__(self, x):
      ...         x = nn.relu(nn.Dense(self.width)(x))
      ...         x = nn.relu(nn.Dense(self.width)(x))
      ...         return self.scale * nn.Dense(4)(x)
      >>> x = jax.random.normal(jax.random.key(0), (16, 8))
      >>> report = jinit.mup.coordinate_check(
      ...     lambda width: MLP(width, 32 / width), [32, 256], [(x, x[:, :4])] * 3,
      ...     lambda p: p.optimizer(optax.adam(1e-2)),
      ...     loss=lambda y, target: jnp.mean((y - target) ** 2))
      >>> set(report.verdict.values())
      {'flat'}

    References:
      Yang et al., "Tensor programs V: tuning large neural networks via zero-shot
        hyperparameter transfer", NeurIPS 2021. Appendix D.1.
    """
    sizes = _widths(widths)
    pairs = stacked(batches)
    settings = Settings(make_model, tx, loss, parametrize, init, options)
    keys = jax.random.split(jax.random.key(seed), checks.count("seeds", seeds) or 1)
    base = base_width or sizes[0]
    measured = [
        # Every width has the same keys, so that only the width differs.
        _measured(settings, base, width, jax.random.clone(keys), pairs)
        for width in sizes
    ]
    outputs = measured[-1][1]
    rows = [
        row(path, sizes, values, tolerance, _layer(path) in outputs)
        for path, values in _by_path([layers for layers, _ in measured])
    ]
    steps = len(jax.tree.leaves(pairs)[0])
    return CoordinateReport(sizes, tuple(rows), len(keys), steps, tolerance)


def _layer(path: str) -> str:
    """Return the layer of a row: "readout[3]" is a step of it, "readout#2" a use."""
    return path.partition("#")[0].partition("[")[0]


def _by_path(
    widths: Sequence[dict[str, dict[str, Any]]],
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yield the layers that all widths have, with their sizes as (widths, seeds)."""
    for path in widths[0]:
        if all(path in layers for layers in widths):
            # A layer that one width lacks, such as one more head, has no slope.
            several = [layers[path] for layers in widths]
            yield (
                path,
                {
                    name: np.stack([np.asarray(one[name], float) for one in several])
                    for name in _COMPARED
                },
            )


def _widths(widths: Sequence[int]) -> tuple[int, ...]:
    is_iterable = isinstance(widths, Iterable)
    sizes = tuple(checks.integer("widths", n) for n in widths) if is_iterable else ()
    if len(set(sizes)) < 2 or min(sizes) < 1:
        raise ValueError(
            f"`widths` is {widths!r}; it must hold two widths or more, such as "
            "[64, 128, 256], for a slope."
        )
    return sizes


def _measured(
    settings: Settings, base: int, width: int, keys: Any, batches: Any
) -> tuple[dict[str, Any], frozenset[str]]:
    """Return each layer's rms before, after, and of the change, by seed, at one width.

    The second result is the set of the modules of output tensors.
    """
    types = types_of((keys, batches)), context()

    def key() -> Hashable | None:
        settings_key = key_of(vars(settings), base, width)
        return None if settings_key is None else (settings_key, types)

    run = _RUNS.made(key, lambda: _run_of(settings, base, width, keys, batches))
    layers, output = run(keys, batches)
    sizes = {
        path: dict(zip(_COMPARED, values, strict=True))
        for _, path, values in rows_of(run.taps, layers)
        if _layer(path) not in run.hidden
    }
    return {**sizes, "output": dict(zip(_COMPARED, output, strict=True))}, run.outputs


class _Run(NamedTuple):
    """A run draws and trains a model of one width for several seeds."""

    taps: tuple[Tap, ...]
    # Modules whose output the model has yet to multiply, and modules of output tensors.
    hidden: frozenset[str]
    outputs: frozenset[str]
    draw: Callable[..., tuple[Any, Any]]
    trained: Traced

    def __call__(self, keys: Any, batches: Any) -> tuple[list[Any], Any]:
        bare = self.trained.bare
        run = program(
            ("coordinates", self.trained.form), lambda: functools.partial(bare.run)
        )
        named, output = run(self.trained.consts, *self.draw(keys), batches)
        layers = []
        # Layers of one shape share a program, so this compiles faster than one program
        # for all layers.
        for tap in self.taps:
            # Taken out of the list, so that the activations can be freed once they are
            # compared.
            layers.append(_compared(named.pop(0), over=tap.scans))
        on_host: tuple[list[Any], Any] = jax.device_get((layers, _compared(output)))
        return on_host


_RUNS: Kept[_Run] = Kept(16)


def _unknown() -> None:
    """Return None, the key of a trace that is not kept by itself.

    A run keeps its traces, so a store of its own for them would hold each twice.
    """


def _run_of(settings: Settings, base: int, width: int, keys: Any, batches: Any) -> _Run:
    """Trace the drawing, the training and the activations of one width."""
    x = jax.tree.map(lambda values: values[0], batches[0])
    # Only shapes are needed here, so nothing of the models is drawn.
    first = jax.eval_shape(lambda keys: keys[0], keys)
    model = model_of(settings, width, first, x)
    narrow = model_of(settings, base, first, x)
    p = settings.parametrization(narrow.net, model.net)
    trace = model.net._read.trace
    taps = Tapped(trace, tuple(filter(_is_compared, model.net._read.reading.taps)))
    tx = settings.transformation(p)

    def start(key: jax.Array) -> tuple[Any, Any]:
        params, rest = model.draw(key)
        return settings.start(p, params), rest

    def train(params: Any, rest: Any, batches: Any) -> Any:
        trained = _trained(settings, model, tx, (params, rest), batches)
        x = jax.tree.map(lambda values: values[0], batches[0])
        return _activations(taps, trace.consts, params, trained, rest, x)

    # All seeds in one program: their models are small, and a program takes seconds to
    # compile and milliseconds to run.
    several = jax.vmap(start)
    arguments = (*jax.eval_shape(several, keys), batches)
    trained = traced(_unknown, jax.vmap(train, (0, 0, None)), arguments)
    # A raw readout grows with the width by design, as does the output of a module that
    # returns it as it is. Both are measured behind the multiplier instead.
    hidden = _multiplied(p) if settings.is_parametrized else set()
    names = frozenset(hidden), frozenset(_outputs(p) | _readouts(model.net))
    return _Run(taps.taps, *names, materialize(several), trained)


def _is_compared(tap: Tap) -> bool:
    # The output of the model has a row of its own.
    return tap.kind != "output" and bool(jnp.issubdtype(tap.dtype, jnp.floating))


def _multiplied(p: Parametrization) -> set[str]:
    """Return modules whose output the model has yet to multiply, and their parents."""
    if all(tensor.factors.multiplier == 1 for tensor in p.tensors):
        return set()
    parts = [path.split("/") for path in _outputs(p)]
    return {"/".join(some[:n]) for some in parts for n in range(1, len(some) + 1)}


def _readouts(net: Network) -> set[str]:
    """Return the layers that give the output, which may shrink as the width grows."""
    paths = net.paths
    return {
        layer.path
        for layer in net._read.reading.adjustable
        if "readout" in net.parameters[paths[layer.kernel.number]].roles
    }


def _outputs(p: Parametrization) -> set[str]:
    """Return the modules of output tensors."""
    paths = (
        strip_collection(tensor.parts)
        for tensor in p.tensors
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


def _activations(
    tapped: Tapped, consts: Any, params: Any, trained: Any, rest: Any, x: Any
) -> Any:
    """Return the activations for the parameters before and after the training."""

    def activations(params: Any) -> tuple[list[Any], Any]:
        perturbations = [jnp.zeros(tap.shape, tap.dtype) for tap in tapped.taps]
        output, named = tapped.run(consts, (params, x, rest), perturbations)
        return named, output

    # A vmap over both is half of the program to compile.
    both = jax.tree.map(lambda *pair: jnp.stack(pair), params, trained)
    return jax.vmap(activations)(both)


_COMPARED = ("init", "size", "change")


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
