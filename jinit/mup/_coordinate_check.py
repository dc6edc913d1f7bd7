"""A model at several widths, trained a little -> how large every activation becomes."""

import functools
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core import checks
from .._materialize.materialize import materialize
from .._network import calls
from .._network.behavior import key_of
from .._network.kept import Kept, Traced, context, program, traced, types_of
from .._network.taps import Tap, Tapped, rows_of, tapped
from .._probe.statistics import rms
from ._coordinate_models import Model, Settings, model_of
from ._coordinate_report import CoordinateReport, row
from ._parametrization import Parametrization

# Attention's masks write such numbers where there is no logit.
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
    """Train a few steps at each width, and see what grows or shrinks with it.

    The model is trained one step on each batch, for several seeds at once. Of the
    output of every layer (as `jinit.probe` names them), of what goes into each
    `jax.nn.softmax` (attention's logits), and of the model's output, the rms of the
    value and of its change since the start are fitted: log rms = slope log width + c.
    Where the slopes are 0, rates tuned at one width hold at another. The raw output of
    a tensor with a readout multiplier is left out: the multiplied one is what counts.

    Args:
      make_model: a function of the width that gives a Linen module, or a pair of
        functions (init(key, x), apply(params, x)); or a function of the width and
        of `rngs` that gives an NNX module. Readout and attention scales are its own.
      widths: two or more, such as [64, 128, 256, 512].
      batches: pairs (input, target), all of one shape: one for each step.
      tx: a function of the `Parametrization` of each width that gives an Optax
        transformation, such as `lambda p: p.optimizer(optax.adam(1e-2))`; or a
        transformation, for a model that is not parametrized.
      loss: a function of output and target that gives a scalar.
      base_width: the base of the parametrization; by default the first of the widths.
      parametrize: a function (base_shapes, shapes) -> `Parametrization`; by default
        `jinit.mup.infer`.
      init: a function (parametrization, drawn parameters) -> parameters; by default
        `p.init(params)` where `tx` is a function of p, and the drawn ones where not.
      seeds: how many models of each width.
      seed: of the first key.
      tolerance: the slope that still counts as flat.
      **options: more arguments of a Linen or NNX model, as `train=True`.

    Returns:
      A `CoordinateReport`: print it, look at its `rows`, `plot` or `check` it.

    Raises:
      TypeError: for a `make_model` or a `tx` of another kind.
      ValueError: for fewer than two widths, batches of different shapes, a loss that is
        no scalar.

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
    inputs, targets = _stacked(batches)
    settings = Settings(make_model, tx, loss, parametrize, init, options)
    keys = jax.random.split(jax.random.key(seed), checks.count("seeds", seeds) or 1)
    found = [
        # Every width has the same keys, so that only the width differs.
        _sizes(
            settings,
            base_width or sizes[0],
            width,
            jax.random.clone(keys),
            inputs,
            targets,
        )
        for width in sizes
    ]
    outputs = found[-1][1]
    layers = [one for one, _ in found]
    rows = [
        row(
            path,
            sizes,
            _by_width([one[path] for one in layers]),
            tolerance,
            is_output=path.partition("#")[0] in outputs,
        )
        for path in layers[0]
        if all(path in one for one in layers)
    ]
    steps = len(jax.tree.leaves(inputs)[0])
    return CoordinateReport(sizes, tuple(rows), len(keys), steps, tolerance)


def _by_width(values: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    return {
        name: np.stack([np.asarray(one[name], np.float64) for one in values])
        for name in _COMPARED
    }


def _widths(widths: Sequence[int]) -> tuple[int, ...]:
    several = isinstance(widths, Iterable)
    found = tuple(checks.integer("widths", n) for n in widths) if several else ()
    if len(set(found)) < 2 or min(found) < 1:
        raise ValueError(
            f"`widths` is {widths!r}; it must hold two widths or more, such as "
            "[64, 128, 256], for a slope."
        )
    return found


def _stacked(batches: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    try:
        pairs = [(x, y) for x, y in batches]
        if not pairs:
            raise ValueError("there are none")
        inputs, targets = jax.tree.map(lambda *xs: jnp.stack(xs), *pairs)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`batches` must be a sequence of pairs (input, target), all of the same "
            f"shapes, one for each step of training; stacking them gave: {error}"
        ) from error
    return inputs, targets


def _sizes(
    settings: Settings, base: int, width: int, keys: Any, inputs: Any, targets: Any
) -> tuple[dict[str, Any], frozenset[str]]:
    """Return each layer's rms before, after, and of the change, by seed, at one width.

    The second result is the modules of output tensors.
    """
    batches = inputs, targets
    types = types_of((keys, batches)), context()

    def key() -> Hashable | None:
        parts = vars(settings), base, width
        known = key_of(*parts)
        return None if known is None else (known, types)

    run = _RUNS.made(key, lambda: _run_of(settings, base, width, keys, batches))
    layers, output = run(keys, batches)
    found = {
        path: dict(zip(_COMPARED, values, strict=True))
        for path, _, values in rows_of(run.taps, layers)
        if path.partition("#")[0] not in run.hidden
    }
    return {**found, "output": dict(zip(_COMPARED, output, strict=True))}, run.outputs


class _Run(NamedTuple):
    """A run draws and trains a model of one width for several seeds."""

    taps: tuple[Tap, ...]
    # Modules whose output has yet to be multiplied, and modules of output tensors.
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
        # As in a probe: one program for each shape is less to compile than the layers.
        for tap in self.taps:
            layers.append(_compared(named.pop(0), over=tap.scans))
        found: tuple[list[Any], Any] = jax.device_get((layers, _compared(output)))
        return found


_RUNS: Kept[_Run] = Kept(16)


def _unknown() -> None:
    """Return None, the key of a trace that is kept only as a part of a run."""


def _run_of(settings: Settings, base: int, width: int, keys: Any, batches: Any) -> _Run:
    x = jax.tree.map(lambda values: values[0], batches[0])
    model = model_of(settings, width, x)
    first = jax.eval_shape(lambda keys: keys[0], keys)
    params, rest = jax.eval_shape(model.draw, first)
    narrow = model_of(settings, base, x)
    p = settings.parametrization(jax.eval_shape(narrow.draw, first)[0], params)
    with calls.softmax_inputs():
        trace = traced(_unknown, model.apply, (params, rest, x))
    # A model that names no values still has its output to compare.
    taps = tapped(trace, may_be_none=True)
    tx = settings.transformation(p)

    def start(key: jax.Array) -> tuple[Any, Any]:
        params, rest = model.draw(key)
        return settings.start(p, params), rest

    def train(params: Any, rest: Any, batches: Any) -> Any:
        consts = trace.consts
        return _trained(settings, model, (taps, consts), tx, params, rest, batches)

    several = jax.vmap(start)
    arguments = (*jax.eval_shape(several, keys), batches)
    trained = traced(_unknown, jax.vmap(train, (0, 0, None)), arguments)
    hidden = _multiplied(p) if settings.is_parametrized else set()
    names = frozenset(hidden), frozenset(_outputs(p))
    return _Run(taps.taps, *names, materialize(several), trained)


def _multiplied(p: Parametrization) -> set[str]:
    """The modules whose output has still to be multiplied, and what they are in."""
    if all(tensor.factors.multiplier == 1 for tensor in p.tensors):
        return set()
    parts = [path.split("/") for path in _outputs(p)]
    return {"/".join(some[:n]) for some in parts for n in range(1, len(some) + 1)}


def _outputs(p: Parametrization) -> set[str]:
    """The modules of output tensors."""
    return {
        "/".join(tensor.parts[tensor.parts[:1] == ("params",) : -1])
        for tensor in p.tensors
        if tensor.role == "output"
    }


def _trained(
    settings: Settings, model: Model, taps: tuple[Tapped, Any], tx: Any,
    params: Any, rest: Any, batches: Any,
) -> Any:  # fmt: skip
    """Train from one seed, and return the activations before and after."""
    tapped, consts = taps
    x = jax.tree.map(lambda values: values[0], batches[0])

    def activations(params: Any) -> tuple[list[Any], Any]:
        nudges = [jnp.zeros(tap.shape, tap.dtype) for tap in tapped.taps]
        output, named = tapped.run(consts, (params, rest, x), nudges)
        return named, output

    def slope(params: Any, x: Any, y: Any) -> Any:
        value = jnp.asarray(settings.loss(model.apply(params, rest, x), y))
        if value.shape != ():
            raise ValueError(
                f"`loss` returned an array of shape {value.shape}; it must return a "
                "scalar: take the mean."
            )
        return value

    def step(carry: Any, batch: Any) -> Any:
        params, state = carry
        updates, state = tx.update(jax.grad(slope)(params, *batch), state, params)
        # As optax.apply_updates, which is not loaded here.
        params = jax.tree.map(lambda w, u: (w + u).astype(w.dtype), params, updates)
        return (params, state), None

    (trained, _), _ = jax.lax.scan(step, (params, tx.init(params)), batches)
    # Both at once: half of the program to compile.
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
    found: jax.Array = jax.vmap(function, out_axes=-1)(pairs)
    return found


def _flat(x: Any) -> jax.Array:
    wide = jnp.asarray(x, jnp.promote_types(x.dtype, np.float32)).reshape(2, -1)
    return jnp.where(wide < -_MASKED, 0.0, wide)
