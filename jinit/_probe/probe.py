"""`probe` measures the signal and the gradient in every layer of a model."""

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._core import trees
from .._core.trees import trained_in
from .._network import network
from .._network.kept import PROGRAMS, Traced, program
from .._network.losses import direction, loss_of
from .._network.network import Called
from .._network.taps import Tapped, rows_of, tapped
from .jacobian import of_first
from .report import Report
from .statistics import (
    PARAMETER_STATISTICS,
    may_be_infinite,
    output_statistics,
    parameter_statistics,
    row,
)


@network.function_of_a_model
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
    """Measure the signal and the gradient in every layer, in one pass each way.

    The statistics of a layer's output are mean, std, rms, the share of dead units (0
    for every input), excess kurtosis, the mean cosine of two inputs, the share of
    entries at the largest value, and the rms of the loss's gradient in the output. The
    statistics of a parameter are its rms, the rms of its gradient, and their ratio. All
    are computed in float32 or wider, in compiled programs.

    A layer is a module of a Linen model (for NNX there is `jinit.nnx.probe`), an
    activation that JAX calls by its name (relu, silu, elu, ..., but not gelu and tanh,
    which JAX writes out), or a value that is named by
    `jax.ad_checkpoint.checkpoint_name`, also in plain functions. The layers of a
    scanned stack have a row each, with their index: "layers/Dense_0[3]". Layers inside
    the branches of `cond` and the bodies of `while` have none.

    Args:
      model: a Linen module, or a function of (variables, batch).
      variables: the first argument of the model: Linen's variables, or any tree.
      batch: the input of the model, an array, or a tuple of several.
      loss: a function from the output to a scalar; by default the component of the
        output along a fixed random direction, averaged over the batch.
      rngs: for a Linen module, the keys of dropout and the like.
      jacobian: whether to compute the largest and the least singular value of the
        Jacobian of the first output with respect to the first input, for
        `Report.jacobian`. They are exact up to 256 inputs or outputs. Beyond, power
        iteration finds them, and the least comes out too large if many are near it.
      **options: more arguments of the model, such as `train=True`.

    Returns:
      A `Report`: print it, look at its `rows` and `verdict`, `plot` or `check` it.

    Raises:
      TypeError: if `model` is neither a Linen module nor a function.
      ValueError: if the model names no value, or the loss is not a scalar.

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
        neural networks", AISTATS 2010. The paper looks at these statistics layer by
        layer.
    """
    return report_of(
        network.called(model, variables, batch, rngs, options, "probe"), loss, jacobian
    )


def report_of(
    called: Called, loss: Callable[[Any], Any] | None, jacobian: bool = False
) -> Report:
    """Return the report of a model whose layers' outputs are named."""
    trace = called.traced()
    passes = passes_of(trace, called.variables, loss)
    arguments = (called.variables, called.beside)
    with may_be_infinite():
        statistics = jax.device_get(passes.statistics(*arguments))
    singular_values = of_first(trace, arguments) if jacobian else None
    return passes.report(statistics, singular_values)


class Passes(NamedTuple):
    """Passes run a model forward and backward, and take the statistics on the way.

    `loss` is the trace of a function of the model's output, and `trained` has the
    indices of the leaves that are trained.
    """

    tapped: Tapped
    consts: tuple[Any, ...]
    loss: Traced
    leaves: list[trees.Leaf]
    trained: tuple[int, ...]

    def statistics(
        self, variables: Any, beside: tuple[Any, ...]
    ) -> tuple[list[Any], list[Any]]:
        """Return the statistics of each tap and of each parameter.

        All layers of one shape share a program. Inside the passes' program the
        statistics of each layer would be compiled anew, which takes five times as long
        as to compile the passes themselves.
        """
        flat = jax.tree.leaves(variables)
        run, is_new = self._program()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            # These compile in threads while the program of the passes compiles here.
            if is_new and not any(getattr(x, "committed", False) for x in flat):
                for lowered in self._lowered(flat):
                    pool.submit(lowered.compile)
            values, gradients, parameter_gradients = run(
                (self.consts, self.loss.consts), variables, beside
            )
        outputs = []
        for tap in self.tapped.taps:
            # `pop` takes them out of the lists, so that their memory is soon free.
            pair = values.pop(0), gradients.pop(0)
            outputs.append(output_statistics(*pair, scans=tap.scans))
        parameters = [
            parameter_statistics(flat[i], gradient)
            for i, gradient in zip(self.trained, parameter_gradients, strict=True)
        ]
        return outputs, parameters

    def _lowered(self, flat: Sequence[Any]) -> list[Any]:
        """Return the statistics' lowered programs; JAX keeps the compiled ones."""
        taps = {(tap.shape, tap.dtype, tap.scans) for tap in self.tapped.taps}
        parameters = {(flat[i].shape, flat[i].dtype) for i in self.trained}
        lowered = []
        for shape, dtype, scans in taps:
            x = jax.ShapeDtypeStruct(shape, dtype)
            lowered.append(output_statistics.lower(x, x, scans=scans))
        for shape, dtype in parameters:
            w = jax.ShapeDtypeStruct(shape, dtype)
            lowered.append(parameter_statistics.lower(w, w))
        return lowered

    def _program(self) -> tuple[Callable[..., Any], bool]:
        """Return the program of the passes, and whether it is new."""
        key = "probe", self.tapped.form, self.loss.form, self.trained
        # A kept program must not keep arrays, so the constants are left out.
        bare = self.tapped, self.loss.bare, self.trained
        is_new = PROGRAMS.get(key) is None
        return program(key, lambda: functools.partial(_passes, *bare)), is_new

    def report(self, statistics: Any, jacobian: Any = None) -> Report:
        """Return the statistics of a run as plain rows."""
        outputs, parameters = statistics
        rows = [
            {"path": path, "shape": shape, **row(values)}
            for path, shape, values in rows_of(self.tapped.taps, outputs)
        ]
        parameter_rows = [
            {
                "path": self.leaves[i].module_path,
                "shape": tuple(self.leaves[i].value.shape),
                **row(values, PARAMETER_STATISTICS),
            }
            for i, values in zip(self.trained, parameters, strict=True)
        ]
        return Report(tuple(rows), tuple(parameter_rows), jacobian)


def passes_of(
    trace: Traced, variables: Any, loss: Callable[[Any], Any] | None
) -> Passes:
    """Return the passes of a traced model whose layers' outputs are named."""
    leaves = trees.leaves(variables)
    traced_loss = loss_of(loss or direction, trace)
    return Passes(tapped(trace), trace.consts, traced_loss, leaves, trained_in(leaves))


def _passes(
    taps: Tapped,
    loss: Traced,
    trained: Sequence[int],
    consts: tuple[Any, Any],
    variables: Any,
    beside: tuple[Any, ...],
) -> tuple[list[Any], list[Any], list[Any]]:
    """Return the taps' values, the gradients of these, and those of the parameters."""
    flat, tree = jax.tree.flatten(variables)

    def run(parameters: list[Any], perturbations: list[Any]) -> tuple[Any, Any]:
        values = list(flat)
        for index, parameter in zip(trained, parameters, strict=True):
            values[index] = parameter
        arguments = jax.tree.unflatten(tree, values), beside
        output, named = taps.run(consts[0], arguments, perturbations)
        return loss.run(consts[1], output), named

    parameters = [flat[i] for i in trained]
    perturbations = [jnp.zeros(tap.shape, tap.dtype) for tap in taps.taps]
    # The gradient of the zero that is added to a layer's output is the output's.
    gradients, named = jax.grad(run, (0, 1), has_aux=True)(parameters, perturbations)
    return named, gradients[1], gradients[0]
