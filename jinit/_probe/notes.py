"""Notes name the layers and the gradients that a probe could not measure."""

import math
from collections.abc import Iterator, Sequence

from .._core.results import Row
from .._network.jaxpr import loops_inside
from .._network.kept import Traced
from .._network.reader.records import Reading

# A note names this many layers.
_NAMED = 6


def notes(
    trace: Traced, reading: Reading, layers: Sequence[Row], parameters: Sequence[Row]
) -> Iterator[str]:
    """Yield sentences on layers without a row, and on rows without a gradient.

    Args:
      trace: the equations of the model.
      reading: what was read from them.
      layers: the rows of a report.
      parameters: the rows of its parameters.
    """
    for where in dict.fromkeys(where for _, where in reading.hidden):
        paths = [path for path, place in reading.hidden if place == where]
        yield (
            f"{_listed(paths)} lie in {where}, where no values are recorded, so they "
            "were not looked at."
            if len(paths) > 1
            else f"{paths[0]} lies in {where}, where no values are recorded, so it was "
            "not looked at."
        )
    unknown = [row["path"] for row in layers if _is_unknown(row)]
    rest = [row["path"] for row in parameters if _is_unknown(row)]
    if (unknown or rest) and loops_inside(trace.jaxpr):
        yield (
            f"the gradients of {len(unknown)} of {len(layers)} rows and of {len(rest)} "
            f"of {len(parameters)} parameters are unknown, from {(unknown + rest)[0]} "
            "on: between them and the loss is a `while` whose number of steps is known "
            "only when it runs, and JAX differentiates no such loop backward. A "
            "`scan`, or a `fori_loop` with fixed bounds, has gradients."
        )


def _is_unknown(row: Row) -> bool:
    return math.isnan(row["grad_rms"]) and math.isfinite(row["rms"])


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return ", ".join(paths[:_NAMED]) + more
