"""A model, its parameters and a batch -> how the signal is in every layer."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import _jacobian, _naming, _paths, _statistics
from ._probe_report import Report
from ._taps import Tap, Tapped, tapped


def probe(
    model: Any,
    variables: Any,
    batch: Any,
    *,
    loss: Callable[[Any], Any] | None = None,
    rngs: Any = None,
    jacobian: bool = False,
    **options: Any,
) -> Report:
    """Look at the signal and the gradient in every layer, in one pass each way.

    Of each layer's output, in the order of execution: mean, std, rms, the share of dead
    units (0 for every input), excess kurtosis, the mean cosine of two inputs, the share
    of entries at the largest value, and the rms of the loss's gradient in it; of each
    parameter its rms, that of its gradient, and their ratio. All are computed in
    float32 or wider, inside one compiled program.

    A layer is a module of a Linen model (for NNX there is `jinit.nnx.probe`), an
    activation that JAX calls by its name (relu, silu, elu, ..., but not gelu and tanh,
    which it writes out), and whatever is named by `jax.ad_checkpoint.checkpoint_name`,
    in plain functions too. Layers of a scanned stack come one by
    one, with their index: "layers/Dense_0[3]". Branches of `cond` and bodies of `while`
    are not looked into.

    Args:
      model: a Linen module, or a function of (variables, batch).
      variables: what it takes: Linen's variables, or any tree.
      batch: its input, an array, or a tuple of several.
      loss: a function of the output that gives a scalar; by default a fixed random
        direction in the output, averaged over the batch.
      rngs: for a Linen module, the keys of dropout and the like.
      jacobian: whether to find, too, the largest and the least singular value of the
        Jacobian of the first output with respect to the first input (`Report.jacobian`;
        exact up to 256 inputs or outputs, beyond by power iteration, which leaves the
        least too large where many are near it).
      **options: more arguments of the model, as `train=True`.

    Returns:
      A `Report`: print it, look at its `rows` and `verdict`, `plot` or `check` it.

    Raises:
      TypeError: for something that is neither a module nor a function.
      ValueError: if the model names nothing, or the loss is no scalar.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, jinit
      >>> he = jinit.he()
      >>> model = nn.Sequential([nn.Dense(64, kernel_init=he) for _ in range(3)])
      >>> x = jax.random.normal(jax.random.key(0), (32, 64))
      >>> report = jinit.probe(model, model.init(jax.random.key(1), x), x)
      >>> [row["path"] for row in report.rows]
      ['layers_0', 'layers_1', 'layers_2']
      >>> report.rows[2]["rms"] > report.rows[0]["rms"]  # he(), and no relu
      True

    References:
      Glorot and Bengio, "Understanding the difficulty of training deep feedforward
      neural networks", 2010, who looked at these statistics by layer.
    """
    inputs = _naming.inputs_of(batch)
    forward = _naming.forward_of(model, rngs, options, "probe")
    return report_of(forward, variables, inputs, loss, jacobian)


def report_of(
    forward: Callable[..., Any],
    variables: Any,
    batch: tuple[Any, ...],
    loss: Callable[[Any], Any] | None,
    jacobian: bool = False,
    start: int = 0,
) -> Report:
    """The report of a function whose layers' outputs are named.

    `start` tells where in `batch` the inputs begin.
    """
    run = compiled(forward, variables, batch, loss)
    ends = None
    if jacobian:
        found = jax.jit(_jacobian.of_first, static_argnums=(0, 3))
        ends = _statistics.plain(found(forward, variables, batch, start))
    return run.report(jax.device_get(run(variables, batch)), ends)


@dataclasses.dataclass(frozen=True)
class Compiled:
    """(variables, batch) -> the statistics of every tap and of every parameter."""

    taps: list[Tap]
    trained: list[_paths.Leaf]
    run: Callable[..., Any]

    def __call__(self, variables: Any, batch: tuple[Any, ...]) -> Any:
        with _statistics.may_be_infinite():
            return self.run(variables, batch)

    def report(self, statistics: Any, jacobian: Any = None) -> Report:
        """What a run gave, as plain rows."""
        outputs, parameters = statistics
        rows = [
            {"path": path, "shape": shape, **_statistics.plain(values)}
            for path, shape, values in rows_of(self.taps, outputs)
        ]
        found = [
            {
                "path": short(leaf.parts),
                "shape": tuple(leaf.value.shape),
                **_statistics.plain(values),
            }
            for leaf, values in zip(self.trained, parameters, strict=True)
        ]
        return Report(tuple(rows), tuple(found), jacobian)


def compiled(
    forward: Callable[..., Any],
    variables: Any,
    batch: tuple[Any, ...],
    loss: Callable[[Any], Any] | None = None,
) -> Compiled:
    """The program of a function whose layers' outputs are named."""
    taps = tapped(forward, (variables, batch))
    leaves = _paths.leaves(variables)
    trained = trained_in(leaves)

    def run(variables: Any, batch: tuple[Any, ...]) -> Any:
        return _statistics_of(taps, variables, batch, loss or direction, trained)

    return Compiled(taps.taps, [leaves[i] for i in trained], jax.jit(run))


def _statistics_of(
    taps: Tapped,
    variables: Any,
    batch: Any,
    loss: Callable[[Any], Any],
    trained: Sequence[int],
) -> tuple[list[Any], list[Any]]:
    """Of each tap and of each parameter; one pass forward, one back."""
    flat, tree = jax.tree.flatten(variables)

    def run(parameters: list[Any], nudges: list[Any]) -> tuple[Any, Any]:
        values = list(flat)
        for index, parameter in zip(trained, parameters, strict=True):
            values[index] = parameter
        output, named = taps.run((jax.tree.unflatten(tree, values), batch), nudges)
        return scalar(loss(output)), named

    parameters = [flat[i] for i in trained]
    nudges = [jnp.zeros(tap.shape, tap.dtype) for tap in taps.taps]
    slopes, named = jax.grad(run, (0, 1), has_aux=True)(parameters, nudges)
    outputs = [
        _over_scans(tap.scans)(value, slope)
        for tap, value, slope in zip(taps.taps, named, slopes[1], strict=True)
    ]
    return outputs, list(map(_statistics.of_parameter, parameters, slopes[0]))


def scalar(loss: Any) -> jax.Array:
    """A loss in float32, after a check that it is one number."""
    value = jnp.asarray(loss)
    if value.shape != ():
        raise ValueError(
            f"`loss` returned an array of shape {value.shape}; it must return a "
            "scalar: take the mean."
        )
    return value.astype(np.float32)


def _over_scans(scans: int) -> Callable[..., Any]:
    """The statistics of each step of the scans around a value."""
    function: Callable[..., Any] = _statistics.of_output
    for _ in range(scans):
        function = jax.vmap(function)
    return function


def direction(output: Any) -> jax.Array:
    """A fixed random direction in the output, averaged over the batch."""
    total = jnp.zeros((), np.float32)
    for number, leaf in enumerate(jax.tree.leaves(output)):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            key = jax.random.key(number)
            weights = jax.random.normal(key, leaf.shape, np.float32)
            total += jnp.sum(weights * leaf) / max(1, leaf.shape[0] if leaf.ndim else 1)
    return total


def rows_of(taps: Sequence[Tap], outputs: Sequence[dict[str, Any]]) -> Any:
    """Path, shape and numbers of every layer; a scanned one once for each step."""
    seen: dict[str, int] = {}
    for group in groups(taps):
        lengths = taps[group[0]].shape[: taps[group[0]].scans]
        for step in np.ndindex(*lengths):
            for number in group:
                tap, values = taps[number], outputs[number]
                suffix = "".join(f"[{i}]" for i in step)
                path = f"{tap.name}{suffix}"
                seen[path] = seen.get(path, 0) + 1
                again = f"#{seen[path]}" if seen[path] > 1 else ""
                yield (
                    path + again,
                    tap.shape[tap.scans :],
                    {name: value[step] for name, value in values.items()},
                )


def groups(taps: Sequence[Tap]) -> list[list[int]]:
    """Neighbours in one scan, which run together, step by step."""
    groups: list[list[int]] = []
    for number, tap in enumerate(taps):
        last = taps[groups[-1][-1]] if groups else None
        lengths = tap.shape[: tap.scans]
        if last is not None and lengths and last.shape[: last.scans] == lengths:
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


def trained_in(leaves: Sequence[_paths.Leaf]) -> list[int]:
    """The floating parameters: of Linen's collections only those in "params"."""
    is_linen = any(leaf.parts[:1] == ("params",) for leaf in leaves)
    return [
        number
        for number, leaf in enumerate(leaves)
        if jnp.issubdtype(getattr(leaf.value, "dtype", np.int32), jnp.floating)
        and (leaf.parts[:1] == ("params",) or not is_linen)
    ]


def short(parts: tuple[str, ...]) -> str:
    """A path without Linen's collection."""
    return "/".join(parts[1:] if parts[:1] == ("params",) else parts)
