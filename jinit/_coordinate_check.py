"""A model at several widths, trained a little -> how large every activation becomes."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import _checks, _mup_infer, _naming
from ._coordinate_report import CoordinateReport, row
from ._parametrization import Parametrization
from ._probe import rows_of
from ._statistics import rms
from ._taps import Tapped, tapped

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
      Yang et al., "Tensor programs V", 2021, appendix D.1.
    """
    sizes = _widths(widths)
    inputs, targets = _stacked(batches)
    settings = _Settings(make_model, tx, loss, parametrize, init, options)
    keys = jax.random.split(jax.random.key(seed), _checks.count("seeds", seeds) or 1)
    found = [
        # On purpose every width has the same keys.
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
        for name in ("init", "size", "change")
    }


def _widths(widths: Sequence[int]) -> tuple[int, ...]:
    several = isinstance(widths, Iterable)
    found = tuple(_checks.integer("widths", n) for n in widths) if several else ()
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


@dataclasses.dataclass(frozen=True)
class _Settings:
    """What the user gave, for every width."""

    make_model: Callable[..., Any]
    tx: Any
    loss: Callable[[Any, Any], Any]
    parametrize: Callable[[Any, Any], Parametrization] | None
    init: Callable[[Parametrization, Any], Any] | None
    options: dict[str, Any]

    @property
    def is_parametrized(self) -> bool:
        return callable(self.tx) and not hasattr(self.tx, "update")

    def parametrization(self, base: Any, shapes: Any) -> Parametrization:
        if not self.is_parametrized and self.init is None:
            return Parametrization(())
        if self.parametrize is not None:
            return self.parametrize(base, shapes)
        tensors = _mup_infer.infer(base, shapes, None, ())
        return _mup_infer.relative(
            tensors, kind="adam", depth=None, depth_rule=None, readout="multiplier"
        )

    def start(self, p: Parametrization, params: Any) -> Any:
        if self.init is not None:
            return self.init(p, params)
        return p.init(params) if self.is_parametrized else params

    def transformation(self, p: Parametrization) -> Any:
        tx = self.tx(p) if self.is_parametrized else self.tx
        if not (hasattr(tx, "init") and hasattr(tx, "update")):
            raise TypeError(
                f"`tx` gave {tx!r}, of type {type(tx).__name__}; it must be an Optax "
                "transformation, or a function of a Parametrization that gives one."
            )
        return tx


@dataclasses.dataclass(frozen=True)
class _Model:
    """A model of one width: a draw (params, rest), and its output."""

    draw: Callable[[jax.Array], tuple[Any, Any]]
    apply: Callable[[Any, Any, Any], Any]


def _model(settings: _Settings, width: int, x: Any) -> _Model:
    if _takes_rngs(settings.make_model):
        return _nnx(settings, width)
    model = settings.make_model(width)
    if _naming.is_module(model, "flax.linen"):
        return _linen(model, x, settings.options)
    if isinstance(model, tuple) and len(model) == 2 and all(map(callable, model)):
        start, apply = model
        return _Model(lambda key: (start(key, x), ()), lambda w, _, x: apply(w, x))
    raise TypeError(
        f"`make_model({width})` gave {model!r}, of type {type(model).__name__}; it "
        "must give a Linen module or a pair of functions (init, apply). For NNX "
        "let it take the width and `rngs`."
    )


def _takes_rngs(make_model: Callable[..., Any]) -> bool:
    try:
        # A class of NNX hides the signature of what makes it.
        made: Any = make_model.__init__ if inspect.isclass(make_model) else make_model
        parameters = inspect.signature(made).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(parameter.name == "rngs" for parameter in parameters)


def _linen(model: Any, x: Any, options: dict[str, Any]) -> _Model:
    forward = _naming.linen(model, None, options)

    def draw(key: jax.Array) -> tuple[Any, Any]:
        variables = dict(model.init(key, x, **options))
        return variables.pop("params"), variables

    def apply(params: Any, rest: Any, x: Any) -> Any:
        return forward({"params": params, **rest}, (x,))

    return _Model(draw, apply)


def _nnx(settings: _Settings, width: int) -> _Model:
    from flax import nnx

    graph: Any = None

    def draw(key: jax.Array) -> tuple[Any, Any]:
        nonlocal graph
        made: Any = settings.make_model(width, rngs=nnx.Rngs(key))
        parts: Any = nnx.split(made, nnx.Param, ...)
        graph, params, rest = parts
        return params, rest

    def apply(params: Any, rest: Any, x: Any) -> Any:
        model: Any = nnx.merge(graph, params, rest)
        with _naming.nnx_calls(model):
            return model(x, **settings.options)

    return _Model(draw, apply)


def _sizes(
    settings: _Settings, base: int, width: int, keys: Any, inputs: Any, targets: Any
) -> tuple[dict[str, Any], set[str]]:
    """Of every layer of one width: rms before, after, and of the change, by seed.

    And the modules of output tensors.
    """
    x = jax.tree.map(lambda values: values[0], inputs)
    model = _model(settings, width, x)
    first = jax.eval_shape(lambda keys: keys[0], keys)
    params, rest = jax.eval_shape(model.draw, first)
    narrow = _model(settings, base, x)
    p = settings.parametrization(jax.eval_shape(narrow.draw, first)[0], params)
    with _naming.softmax_inputs():
        # The output alone says much.
        taps = tapped(model.apply, (params, rest, x), may_be_none=True)
    tx = settings.transformation(p)

    def run(key: jax.Array) -> Any:
        return _trained(settings, model, taps, p, tx, key, (inputs, targets))

    # Seeds last, so that the steps of scans come first.
    layers, output = jax.device_get(jax.jit(jax.vmap(run, out_axes=-1))(keys))
    hidden = _multiplied(p) if settings.is_parametrized else set()
    found = {
        path: values
        for path, _, values in rows_of(taps.taps, layers)
        if path.partition("#")[0] not in hidden
    }
    return {**found, "output": output}, _outputs(p)


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
    settings: _Settings, model: _Model, taps: Tapped, p: Parametrization, tx: Any,
    key: jax.Array, batches: Any,
) -> Any:  # fmt: skip
    """One seed: draw, train, and compare the activations with the first ones."""
    params, rest = model.draw(key)
    params = settings.start(p, params)
    x = jax.tree.map(lambda values: values[0], batches[0])

    def activations(params: Any) -> tuple[list[Any], Any]:
        nudges = [jnp.zeros(tap.shape, tap.dtype) for tap in taps.taps]
        output, named = taps.run((params, rest, x), nudges)
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
    named, output = jax.vmap(activations)(both)
    layers = [
        _over_scans(tap.scans)(value)
        for tap, value in zip(taps.taps, named, strict=True)
    ]
    return layers, _compared(output)


def _over_scans(scans: int) -> Callable[..., Any]:
    function: Callable[..., Any] = _compared
    for _ in range(scans):
        function = jax.vmap(function, in_axes=1)
    return function


def _compared(pairs: Any) -> dict[str, jax.Array]:
    """rms at the start, at the end, and of the difference, for (start, end) values."""
    values = list(map(_flat, jax.tree.leaves(pairs)))
    first, last = jnp.concatenate(values, axis=1)
    return {"init": rms(first), "size": rms(last), "change": rms(last - first)}


def _flat(x: Any) -> jax.Array:
    wide = jnp.asarray(x, jnp.promote_types(x.dtype, np.float32)).reshape(2, -1)
    return jnp.where(wide < -_MASKED, 0.0, wide)
