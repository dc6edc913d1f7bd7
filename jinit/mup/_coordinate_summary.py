"""The runs of all widths become rows, and layers that are not flat get a cure."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from .._core.results import Row
from ._coordinate_cures import Evidence, Kernel, by_path, cure, kernel_of, part_cure
from ._coordinate_models import Settings
from ._coordinate_rows import refined_row, row
from ._coordinate_run import Facts, Measured, Sizes, layer_of
from ._slopes import average

Runs = Sequence[tuple[Measured, Facts]]


def rows_of_runs(
    settings: Settings, widths: Sequence[int], runs: Runs, tolerance: float
) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Return the rows of the layers, and those of the parts of their changes."""
    results, facts = [one for one, _ in runs], runs[-1][1]
    rows = [
        row(path, widths, values, tolerance, layer_of(path) in facts.outputs)
        for path, values in _common([one.layers for one in results])
    ]
    kernels = _kernels(widths, runs)
    evidence = Evidence(
        settings.is_parametrized,
        settings.init is not None,
        rows,
        {
            layer: kernels[path]
            for layer, path in facts.kernels.items()
            if path in kernels
        },
        [kernels[path] for path in facts.readouts if path in kernels],
    )
    cured = [{**one, "cure": _cure(evidence, one)} for one in rows]
    parts = _parts(widths, results, facts, evidence, tolerance)
    return tuple(cured), tuple(parts)


def _cure(evidence: Evidence, one: Row) -> str | None:
    if one["verdict"] == "flat":
        return None
    return cure(evidence, one["path"], layer_of(one["path"]))


def _common(widths: Sequence[Sizes]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yield the layers that all widths have, with their sizes as (widths, seeds)."""
    for path, first in widths[0].items():
        if all(path in layers for layers in widths):
            # A layer that one width lacks, such as one more head, has no slope.
            several = [layers[path] for layers in widths]
            yield (
                path,
                {
                    name: np.stack([np.asarray(one[name], float) for one in several])
                    for name in first
                },
            )


def _kernels(widths: Sequence[int], runs: Runs) -> Mapping[str, Kernel]:
    """Return the slopes of each weight, measured and expected."""
    tensors = [by_path(facts.parametrization.tensors) for _, facts in runs]
    return {
        path: kernel_of(
            path,
            widths,
            {name: average(values) for name, values in sizes.items()},
            [one[path] for one in tensors] if all(path in x for x in tensors) else (),
        )
        for path, sizes in _common([one.weights for one, _ in runs])
    }


def _parts(
    widths: Sequence[int],
    results: Sequence[Measured],
    facts: Facts,
    evidence: Evidence,
    tolerance: float,
) -> Iterator[Row]:
    for path, values in _common([one.parts for one in results]):
        layer = layer_of(path)
        kernel = evidence.kernels.get(layer)
        multiplier = 0.0 if kernel is None else -kernel.multiplier
        one = refined_row(
            path, widths, values, tolerance, multiplier, layer in facts.outputs
        )
        for name in ("effective", "propagated"):
            is_flat = one[f"{name}_verdict"] == "flat"
            text = None if is_flat else part_cure(evidence, path, layer, name)
            one[f"{name}_cure"] = text
        yield one
