"""`probe` measures the signal and the gradient in every layer of a model."""

import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._core import checks, trees
from .._core.results import Row
from .._core.trees import trained_in
from .._network.calling import network_of
from .._network.kept import PROGRAMS, Traced, program
from .._network.losses import direction, loss_of
from .._network.reader.records import Reading
from .._network.record import Network
from .._network.taps import Tapped, rows_of
from . import formats as narrow
from .chances import Suspect, chances_of
from .dead_units import suspects
from .findings import findings
from .jacobian import of_first
from .places import Places, places_of, routers_of
from .report import Report
from .statistics import (
    OUTPUT_STATISTICS,
    PARAMETER_STATISTICS,
    logit_statistics,
    may_be_infinite,
    output_statistics,
    parameter_statistics,
    router_statistics,
    row,
)
from .stream import Loss, Stream, attention_rows, stream_of


def probe(
    model: Any,
    *arguments: Any,
    loss: Callable[[Any], Any] | None = None,
    classes: int | None = None,
    formats: Sequence[Any] = (),
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

    Rows are in the order of execution: a product or convolution of data with a
    parameter, by the path of its weight, with its bias; a module of Linen or NNX; an
    activation that JAX calls by its name (relu, silu, elu, ...), and tanh, sigmoid,
    gelu and relu also where they are written out; the logits of an attention; a value
    that is named by `jax.ad_checkpoint.checkpoint_name`; and the model's own output.
    The layers of a scanned stack have a row each, with their index:
    "layers/Dense_0[3]". Layers inside the branches of `cond` and the bodies of `while`
    have none.

    `verdict` judges what each layer reads and what each branch adds, not single rows: a
    branch, a head or a gate that starts at 0 is no trouble. It compares layers with
    others like them, since norms hide a layer that is too large. A `loss` that is a
    cross entropy of the output is compared with that of guessing. Units count as dead
    if there are more of them than a fresh kernel would have on the same inputs.

    `formats` asks what narrower numbers would lose: for each format, layer and
    parameter the share of values beyond its largest number, the share of nonzero values
    that become 0, and the same of the gradients (`Report.formats`).

    Args:
      model: a Linen module, a function of (variables, ...), a model that holds its
        arrays, or a `jinit.Network` of one of them.
      *arguments: those with which one would call the model; see `jinit.network`.
      loss: a function from the output to a scalar; by default the component of the
        output along a fixed random direction, averaged over the batch.
      classes: how many classes the loss is a cross entropy over, so that guessing costs
        ln(classes). By default the loss of equal logits is looked at: it is the loss of
        guessing if it is the logarithm of the output's last axis, or of 2.
      formats: names of formats, such as "bfloat16", "float16" and "float8_e4m3fn".
        Gradients that are lost are findings only with a `loss`, which gives them their
        size.
      rngs: keys, where the call draws numbers, as for `jinit.network`.
      jacobian: whether to compute the largest and the least singular value of the
        Jacobian of the first output with respect to the first input, for
        `Report.jacobian`. They are exact up to 256 inputs or outputs. Beyond, power
        iteration finds them, and the least comes out too large if many are near it.
      **options: keyword arguments of the call, such as `train=True`.

    Returns:
      A `Report`: print it, look at its `rows` and `verdict`, `plot` or `check` it.

    Raises:
      TypeError: as for `jinit.network`, or if shapes came where numbers are needed.
      ValueError: if nothing in the model can be measured, the loss is not a scalar,
        `classes` comes without a loss or is below 2, or a format is unknown.

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
      >>> report = jinit.probe(
      ...     lambda w, x: x @ w, 1e4 * jnp.eye(64), x, formats=["float16"]
      ... )
      >>> report.verdict[0].category, report.formats[0]["overflow"] == 0
      ('large layer', True)

    References:
      Glorot and Bengio, "Understanding the difficulty of training deep feedforward
        neural networks", AISTATS 2010. The paper looks at these statistics layer by
        layer.
      Micikevicius et al., "Mixed precision training", ICLR 2018. It scales the loss, so
        that gradients do not become 0 in float16.
    """
    formats = narrow.checked(formats)
    guess = _guess_of(classes, loss)
    net = network_of(model, arguments, rngs, options, "probe")
    return report_of(net, loss, jacobian, formats, guess)


def _guess_of(classes: Any, loss: Any) -> float | None:
    """Return the cross entropy of guessing one of so many classes."""
    if classes is None:
        return None
    if loss is None:
        raise ValueError(
            f"`classes` is {classes!r}, and there is no `loss` that guessing could be "
            "compared with. Pass the cross entropy of the output as `loss`, too."
        )
    if checks.integer("classes", classes) < 2:
        raise ValueError(f"`classes` is {classes}; a choice has at least 2 classes.")
    return math.log(classes)


def report_of(
    net: Network,
    loss: Callable[[Any], Any] | None,
    jacobian: bool = False,
    formats: tuple[str, ...] = (),
    guess: float | None = None,
) -> Report:
    """Return the report of a network whose parameters and inputs are arrays."""
    passes = passes_of(net, loss, formats)
    with may_be_infinite():
        statistics = jax.device_get(passes.statistics(net.params, net.inputs))
        guess = passes.guess() if guess is None else guess
        statistics = statistics._replace(guess=guess)
    stream = stream_of(passes.reading, passes.places, *statistics[:3])
    chances = chances_of(net, suspects(stream))
    singular_values = of_first(net) if jacobian else None
    return passes.report(statistics, stream, chances, singular_values)


class Statistics(NamedTuple):
    """The statistics of a run: of each tap, of softmaxes and routers, of parameters."""

    outputs: list[Any]
    logits: dict[int, Any]
    routers: dict[int, Any]
    parameters: list[Any]
    loss: Any
    # What formats lose of each tap, and of each parameter.
    losses: tuple[list[Any], list[Any]]
    guess: float | None = None


class Passes(NamedTuple):
    """Passes run a model forward and backward, and take the statistics on the way.

    `loss` is the trace of a function of the model's output, and `trained` has the
    indices of the leaves that are trained. `has_loss` says whether the user gave it.
    """

    tapped: Tapped
    places: Places
    reading: Reading
    loss: Traced
    leaves: list[trees.Leaf]
    trained: tuple[int, ...]
    has_loss: bool
    formats: tuple[str, ...]

    def statistics(self, params: Any, inputs: tuple[Any, ...]) -> Statistics:
        """Return the statistics of each tap and of each parameter.

        All layers of one shape share a program. Inside the passes' program the
        statistics of each layer would be compiled anew, which takes five times as long
        as to compile the passes themselves.
        """
        flat = jax.tree.leaves(params)
        run, is_new = self._program()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            # These compile in threads while the program of the passes compiles here.
            if is_new and not any(getattr(x, "committed", False) for x in flat):
                for lowered in self._lowered(flat):
                    pool.submit(lowered.compile)
            values, gradients, parameter_gradients, loss = run(
                (self.tapped.trace.consts, self.loss.consts), params, inputs
            )
        outputs, logits, routers = [], {}, {}
        lost: tuple[list[Any], list[Any]] = ([], [])
        routing = routers_of(self.reading, self.places)
        for number, tap in enumerate(self.tapped.taps):
            # `pop` takes them out of the lists, so that their memory is soon free.
            value, gradient = values.pop(0), gradients.pop(0)
            settings = {"scans": tap.scans, "units": self.places.units[number]}
            outputs.append(output_statistics(value, gradient, **settings))
            lost[0].append(self._losses(value, gradient, tap.scans))
            if tap.keys:
                logits[number] = logit_statistics(
                    value, scans=tap.scans, keys=tap.keys, heads=tap.heads
                )
            if number in routing:
                routers[number] = router_statistics(value, scans=tap.scans)
        parameters = [
            parameter_statistics(flat[i], gradient)
            for i, gradient in zip(self.trained, parameter_gradients, strict=True)
        ]
        for i, gradient in zip(self.trained, parameter_gradients, strict=True):
            lost[1].append(self._losses(flat[i], gradient, 0))
        return Statistics(outputs, logits, routers, parameters, loss, lost)

    def _losses(self, x: Any, gradient: Any, scans: int) -> Any:
        """Return what formats lose of an array, or None if there are no formats."""
        if not self.formats:
            return None
        bounds = tuple(map(narrow.bounds_of, self.formats))
        return narrow.losses(x, gradient, scans=scans, bounds=bounds)

    def guess(self) -> float | None:
        """Return the cross entropy of guessing, if the loss is a cross entropy.

        Logits of 0 cost ln(classes), or ln(2) where each class is a yes or no.
        """
        types = self.tapped.trace.types
        if not self.has_loss or len(types) != 1 or not types[0].shape:
            return None
        zeros = jnp.zeros(types[0].shape, types[0].dtype)
        value = float(self.loss.run(self.loss.consts, zeros))
        guesses = (math.log(max(2, zeros.shape[-1])), math.log(2))
        return value if any(abs(value / g - 1) < 0.02 for g in guesses) else None

    def _lowered(self, flat: Sequence[Any]) -> list[Any]:
        """Return the statistics' lowered programs; JAX keeps the compiled ones."""
        pairs = zip(self.tapped.taps, self.places.units, strict=True)
        taps = {(tap.shape, tap.dtype, tap.scans, units) for tap, units in pairs}
        parameters = {(flat[i].shape, flat[i].dtype) for i in self.trained}
        lowered = []
        for shape, dtype, scans, units in taps:
            x = jax.ShapeDtypeStruct(shape, dtype)
            lowered.append(output_statistics.lower(x, x, scans=scans, units=units))
        for shape, dtype in parameters:
            w = jax.ShapeDtypeStruct(shape, dtype)
            lowered.append(parameter_statistics.lower(w, w))
        return lowered

    def _program(self) -> tuple[Callable[..., Any], bool]:
        """Return the program of the passes, and whether it is new."""
        key = "probe", self.tapped.form, self.loss.form, self.trained
        # A kept program must not keep arrays, so the constants are left out.
        bare = self.tapped.bare, self.loss.bare, self.trained
        is_new = PROGRAMS.get(key) is None
        return program(key, lambda: functools.partial(_passes, *bare)), is_new

    def report(
        self,
        statistics: Statistics,
        stream: Stream,
        chances: Mapping[Suspect, float],
        jacobian: dict[str, float] | None,
    ) -> Report:
        """Return the statistics of a run as plain rows, and the findings."""
        count = len(OUTPUT_STATISTICS)
        taps = self.tapped.taps[: self.places.rows]
        rows = [
            {"path": path, "shape": tap.shape[tap.scans :], **row(values[:count])}
            for tap, path, values in rows_of(taps, statistics.outputs)
        ]
        parameter_rows = [
            {
                "path": self.leaves[i].module_path,
                "shape": tuple(self.leaves[i].value.shape),
                **row(values, PARAMETER_STATISTICS),
            }
            for i, values in zip(self.trained, statistics.parameters, strict=True)
        ]
        value = float(statistics.loss) if self.has_loss else None
        loss = Loss(value, statistics.guess, self._logits(rows))
        lost = tuple(self._lost(statistics, parameter_rows))
        verdict = findings(stream, rows, parameter_rows, loss, chances, lost)
        return Report(
            tuple(rows),
            tuple(parameter_rows),
            jacobian,
            verdict,
            attention=tuple(attention_rows(stream)),
            formats=tuple(narrow.rows(lost)),
        )

    def _logits(self, rows: Sequence[Row]) -> float | None:
        """Return the std of the output, if it is more than that of the last layer."""
        taps = self.tapped.taps[: self.places.rows]
        return rows[-1]["std"] if taps[-1].kind == "output" else None

    def _lost(
        self, statistics: Statistics, parameters: Sequence[Row]
    ) -> Iterator[narrow.Losses]:
        """Yield what the formats lose of each layer and of each parameter."""
        if not self.formats:
            return
        taps = self.tapped.taps[: self.places.rows]
        for _, path, values in rows_of(taps, statistics.losses[0]):
            yield narrow.losses_of(path, "layer", values, self.formats)
        for row_, values in zip(parameters, statistics.losses[1], strict=True):
            yield narrow.losses_of(row_["path"], "parameter", values, self.formats)


def passes_of(
    net: Network, loss: Callable[[Any], Any] | None, formats: tuple[str, ...] = ()
) -> Passes:
    """Return the passes of a network.

    Raises:
      ValueError: if nothing in it can be measured.
    """
    trace, leaves = net._read.trace, trees.leaves(net.params)
    reading = net._read.reading
    places = places_of(reading)
    if not places.rows:
        raise ValueError(
            "nothing in the model can be measured: it has no product with a parameter "
            "and no output of floating numbers outside of `cond` and `while`. Name "
            "values by jax.ad_checkpoint.checkpoint_name(x, 'a name')."
        )
    taps = places.taps
    if all(0 in tap.shape for tap in taps):
        raise ValueError(
            f"the output of {taps[0].name} is empty, because the batch is empty; pass "
            "a batch with at least one example."
        )
    traced_loss = loss_of(loss or direction, trace)
    return Passes(
        Tapped(trace, places.taps),
        places,
        reading,
        traced_loss,
        leaves,
        trained_in(leaves),
        loss is not None,
        formats,
    )


def _passes(
    taps: Tapped,
    loss: Traced,
    trained: Sequence[int],
    consts: tuple[Any, Any],
    params: Any,
    inputs: tuple[Any, ...],
) -> tuple[list[Any], list[Any], list[Any], Any]:
    """Return the taps' values, their gradients, those of the parameters, the loss."""
    flat, tree = jax.tree.flatten(params)

    def run(parameters: list[Any], perturbations: list[Any]) -> tuple[Any, Any]:
        values = list(flat)
        for index, parameter in zip(trained, parameters, strict=True):
            values[index] = parameter
        arguments = jax.tree.unflatten(tree, values), inputs
        output, named = taps.run(consts[0], arguments, perturbations)
        value = loss.run(consts[1], output)
        return value, (named, value)

    parameters = [flat[i] for i in trained]
    perturbations = [jnp.zeros(tap.shape, tap.dtype) for tap in taps.taps]
    # The gradient of the zero that is added to a layer's output is the output's.
    gradients, (named, value) = jax.grad(run, (0, 1), has_aux=True)(
        parameters, perturbations
    )
    return named, gradients[1], gradients[0], value
