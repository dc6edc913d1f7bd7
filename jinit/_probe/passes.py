"""Passes run a model forward and backward, and take the statistics on the way."""

import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._core import trees
from .._core.results import Row
from .._core.trees import trained_in
from .._network.kept import PROGRAMS, Traced, program
from .._network.losses import direction, loss_of
from .._network.reader.records import Reading
from .._network.record import Network
from .._network.taps import Tapped, rows_of
from . import formats as narrow
from .chances import Suspect
from .findings import findings
from .notes import notes
from .places import Places, places_of, routers_of
from .report import Report
from .statistics import (
    OUTPUT_STATISTICS,
    logit_statistics,
    output_statistics,
    parameter_row,
    parameter_statistics,
    router_statistics,
    row,
)
from .stream import Loss, Stream, attention_rows


class Statistics(NamedTuple):
    """The statistics of a run: of each tap, of softmaxes and routers, of parameters."""

    outputs: list[Any]
    logits: dict[int, Any]
    routers: dict[int, Any]
    parameters: list[Any]
    loss: Any
    # The losses of formats: for each tap, and for each parameter.
    losses: tuple[list[Any], list[Any]]
    # The losses of guessing and of an output of zeros, if they are known.
    guess: float | None = None
    flat: float | None = None


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

    def flat(self) -> float | None:
        """Return the user's loss of an output of zeros, if there is one output."""
        types = self.tapped.trace.types
        if not self.has_loss or len(types) != 1 or not types[0].shape:
            return None
        zeros = jnp.zeros(types[0].shape, types[0].dtype)
        return float(self.loss.run(self.loss.consts, zeros))

    def guess(self, flat: float | None) -> float | None:
        """Return the cross entropy of guessing, if the loss is a cross entropy.

        Logits of 0 cost ln(classes), or ln(2) if each class is a yes-or-no question.
        """
        if flat is None:
            return None
        classes = self.tapped.trace.types[0].shape[-1]
        guesses = (math.log(max(2, classes)), math.log(2))
        return flat if any(abs(flat / g - 1) < 0.02 for g in guesses) else None

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
                **parameter_row(values),
            }
            for i, values in zip(self.trained, statistics.parameters, strict=True)
        ]
        value = float(statistics.loss) if self.has_loss else None
        loss = Loss(value, statistics.guess, self._logits(rows), statistics.flat)
        lost = tuple(self._lost(statistics, parameter_rows))
        verdict = findings(stream, rows, parameter_rows, loss, chances, lost)
        remarks = tuple(notes(self.tapped.trace, self.reading, rows, parameter_rows))
        return Report(
            tuple(rows),
            tuple(parameter_rows),
            jacobian,
            verdict,
            remarks,
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
