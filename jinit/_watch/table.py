"""The table of a watch moves on by one measurement: means over time, and peaks."""

import jax
import jax.numpy as jnp

from .state import AT, COLUMNS
from .statistics import MISSING

# The weight of a new measurement in the quick means (about the last ten), and in the
# slow ones, which say what is usual (about the last fifty).
_QUICK, _SLOW = 0.1, 0.02
# A mean of fewer measurements is not judged, unless an update is at least half as large
# as its weight: such a step may double the loss at once.
_MEAN_AFTER, _AT_ONCE = 3, 0.5
# With fewer measurements than this no size is usual yet, so nothing is a spike.
_USUAL_AFTER = 10
Columns = dict[str, jax.Array]


def empty(facts: Columns, start_rms: jax.Array) -> jax.Array:
    """Return the table before the first step, with facts that never change."""
    rows = len(start_rms)
    columns = {name: jnp.zeros(rows) for name in COLUMNS} | facts
    missing = ("cosine", "flips", "lost", "small", "drift", "spectral")
    columns |= {name: jnp.full(rows, MISSING) for name in missing}
    columns |= {"start_rms": start_rms, "weight_rms": start_rms}
    return _stacked(columns)


def advanced(table: jax.Array, step: jax.Array, new: Columns) -> jax.Array:
    """Return the table after a measurement.

    Args:
      table: the table so far.
      step: the number of the step, from 1.
      new: the measurements: `weight_rms`, `grad_rms`, `update_rms`, `cosine`, `flips`,
        `lost`, `small`, `held`, `drift` and `spectral`, one of each for every row.
    """
    old = {name: table[:, place] for name, place in AT.items()}
    is_finite = jnp.isfinite(new["grad_rms"] + new["update_rms"] + new["weight_rms"])
    measured = old["measured"] + 1
    columns = {**old, "measured": measured, "weight_rms": new["weight_rms"]}
    for name in ("grad", "update"):
        columns[f"{name}_rms"] = _mean(old[f"{name}_rms"], new[f"{name}_rms"], measured)
    for name in ("weight", "grad", "update"):
        columns[f"{name}_before"] = _usual(old, name, new[f"{name}_rms"], measured)
    for name in ("cosine", "flips", "lost", "small"):
        columns[name] = _mean_of_numbers(old[name], new[name], measured)
    columns |= {"drift": new["drift"], "spectral": new["spectral"]}
    columns["zeros"] = jnp.where(new["grad_rms"] == 0, old["zeros"] + 1, 0)
    columns["held"] = jnp.where(new["held"], old["held"] + 1, 0)
    ratio = columns["update_rms"] / jnp.maximum(new["weight_rms"], 1e-30)
    is_mean = (measured >= _MEAN_AFTER) | (ratio >= _AT_ONCE)
    is_mean &= new["weight_rms"] > 0
    peak = jnp.where(is_mean, ratio, 0)
    columns["ratio_peak"] = jnp.maximum(old["ratio_peak"], peak)
    columns["largest_update"] = jnp.maximum(old["largest_update"], new["update_rms"])
    columns |= _spike(old, new["grad_rms"], step)
    # Means never take up a value that is not finite: what was usual stays known.
    columns = {name: jnp.where(is_finite, columns[name], old[name]) for name in COLUMNS}
    columns["skipped"] = jnp.where(is_finite, 0, old["skipped"] + 1)
    return _stacked(columns | _first_bad(old, new, step))


def _stacked(columns: Columns) -> jax.Array:
    return jnp.stack([columns[name].astype(jnp.float32) for name in COLUMNS], 1)


def _mean(
    old: jax.Array, new: jax.Array, measured: jax.Array, weight: float = _QUICK
) -> jax.Array:
    """Return the mean over time: of all values at first, then mainly of the last."""
    return old + jnp.maximum(weight, 1 / measured) * (new - old)


def _mean_of_numbers(old: jax.Array, new: jax.Array, measured: jax.Array) -> jax.Array:
    mean = jnp.where(old == MISSING, new, _mean(old, new, measured))
    return jnp.where(new == MISSING, old, mean)


def _usual(old: Columns, name: str, new: jax.Array, measured: jax.Array) -> jax.Array:
    """Return the slow mean of the logarithm, which one spike hardly moves."""
    before = old[f"{name}_before"]
    mean = _mean(before, jnp.log(jnp.maximum(new, 1e-30)), measured, _SLOW)
    return jnp.where(new > 0, mean, before)


def _spike(old: Columns, grad_rms: jax.Array, step: jax.Array) -> Columns:
    """Return the largest gradient so far against what was usual before it."""
    ratio = jnp.where(
        (old["measured"] >= _USUAL_AFTER) & (grad_rms > 0),
        jnp.exp(jnp.log(jnp.maximum(grad_rms, 1e-30)) - old["grad_before"]),
        0.0,
    )
    is_larger = ratio > old["spike"]
    return {
        "spike": jnp.where(is_larger, ratio, old["spike"]),
        "spike_step": jnp.where(is_larger, step, old["spike_step"]),
    }


def _first_bad(old: Columns, new: Columns, step: jax.Array) -> Columns:
    """Return at which step something was first not finite, and what it was."""
    # An optimizer may skip a gradient that is not finite, as optax.apply_if_finite and
    # dynamic loss scales do. Such a step does no harm.
    is_harmless = jnp.isfinite(new["update_rms"] + new["weight_rms"])
    bad = jnp.zeros_like(old["bad_value"])
    # The gradient comes before the update, and the update before the weight.
    for number, name in ((3, "weight_rms"), (2, "update_rms"), (1, "grad_rms")):
        bad = jnp.where(jnp.isfinite(new[name]), bad, number)
    is_first = (old["bad_step"] == 0) & (bad > 0) & ~is_harmless
    return {
        "bad_step": jnp.where(is_first, step, old["bad_step"]),
        "bad_value": jnp.where(is_first, bad, old["bad_value"]),
    }
