"""The runs of all widths become rows, and layers that are not flat get a cure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from .._core.results import Row
from ._coordinate_cures import Evidence, Kernel, by_path, cure, kernel_of, part_cure
from ._coordinate_models import Settings
from ._coordinate_rows import refined_row, row
from ._coordinate_run import Facts, Measured, Sizes, layer_of
from ._slopes import slope_of

_PARTS = ("effective", "propagated")

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
    parts = _parts(widths, runs, tolerance)
    verdicts = {one["verdict"] for one in rows}
    verdicts |= {one[f"{name}_verdict"] for one in parts for name in _PARTS}
    evidence = _evidence(settings, widths, runs, rows) if verdicts != {"flat"} else None
    cured = [{**one, "cure": _cure(evidence, one)} for one in rows]
    return tuple(cured), tuple({**one, **_part_cures(evidence, one)} for one in parts)


def _cure(evidence: Evidence | None, one: Row) -> str | None:
    if evidence is None or one["verdict"] == "flat":
        return None
    return cure(evidence, one["path"], layer_of(one["path"]))


def _part_cures(evidence: Evidence | None, one: Row) -> dict[str, str | None]:
    path = one["path"]
    return {
        f"{name}_cure": None
        if evidence is None or one[f"{name}_verdict"] == "flat"
        else part_cure(evidence, path, layer_of(path), name)
        for name in _PARTS
    }


def _evidence(
    settings: Settings, widths: Sequence[int], runs: Runs, rows: Sequence[Row]
) -> Evidence:
    """Return all that is known about layers that are not flat."""
    facts, kernels = runs[-1][1], _kernels(widths, runs)
    layers = {**_modules(rows, kernels), **facts.kernels}
    return Evidence(
        settings.is_parametrized,
        settings.init is not None,
        rows,
        {layer: kernels[path] for layer, path in layers.items() if path in kernels},
        [kernels[path] for path in facts.readouts if path in kernels],
    )


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


def _modules(rows: Sequence[Row], kernels: Mapping[str, Kernel]) -> dict[str, str]:
    """Return the weights of modules that have one, such as an embedding."""
    layers = {layer_of(row["path"]) for row in rows}
    inside = {
        layer: [path for path in kernels if path.startswith(f"{layer}/")]
        for layer in layers
    }
    return {layer: paths[0] for layer, paths in inside.items() if len(paths) == 1}


def _kernels(widths: Sequence[int], runs: Runs) -> Mapping[str, Kernel]:
    """Return the slopes of each weight, measured and expected."""
    tensors = [by_path(facts.parametrization.tensors) for _, facts in runs]
    weights = [one.weights for one, _ in runs]
    return {
        path: kernel_of(
            path,
            widths,
            [_weight(one[path]) for one in weights],
            [one[path] for one in tensors] if all(path in x for x in tensors) else (),
        )
        for path, first in weights[0].items()
        if jnp.issubdtype(first.dtype, jnp.floating)
        and all(path in one for one in weights)
    }


def _weight(pairs: Any) -> tuple[float, float]:
    """Return the rms of a parameter at the start, and of its change by training."""
    # NumPy compiles nothing, and a parameter has few entries beside activations.
    values = np.asarray(pairs).astype(np.float64)
    moved = values[:, 1] - values[:, 0]
    return _rms(values[:, 0]), _rms(moved)


def _parts(widths: Sequence[int], runs: Runs, tolerance: float) -> list[Row]:
    """Return the rows of the parts of each change."""
    facts = runs[-1][1]
    tensors = [by_path(one.parametrization.tensors) for _, one in runs]
    rows = []
    for path, values in _common([one.parts for one, _ in runs]):
        layer = layer_of(path)
        weight = facts.kernels.get(layer)
        expected = 0.0
        if weight is not None and all(weight in one for one in tensors):
            multipliers = [one[weight].factors.multiplier for one in tensors]
            expected = max(0.0, -slope_of(widths, multipliers))
        is_output = layer in facts.outputs
        rows.append(refined_row(path, widths, values, tolerance, expected, is_output))
    return rows


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2))) if values.size else 0.0
