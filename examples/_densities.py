"""The densities of the laws that the gallery draws over its histograms."""

import math
from typing import Any

import numpy as np

import jinit


def density(
    name: str, init: Any, array: np.ndarray, std: float | None, x: np.ndarray
) -> np.ndarray | None:
    """Return the density of a scheme's entries at some points.

    Args:
      name: the name of the scheme in `jinit.registry`.
      init: the initializer, or None if a weight or data made it.
      array: a draw of it.
      std: the standard deviation that it promises.
      x: the points.

    Returns:
      The densities; None for constants, and for laws without a formula here.
    """
    if init is None or not std or np.iscomplexobj(array):
        return None
    law = law_of(name, init)
    z = x / std
    if law == "normal":
        return np.exp(-(z**2) / 2) / (std * math.sqrt(2 * math.pi))
    if law == "truncated_normal":
        return _truncated(z) / std
    if law == "uniform":
        half = math.sqrt(3) * std
        # One law begins at 0.
        low = 0.0 if array.min() >= 0 else -half
        return np.where((x >= low) & (x <= low + 2 * half), 1 / (2 * half), 0.0)
    if law == "sphere":
        return _on_sphere(z, _length(name, array)) / std
    return None


def law_of(name: str, init: Any) -> str | None:
    """Return the law of one entry; a scheme of others has that of its part."""
    law = jinit.registry[name].law
    if law.startswith("the law"):
        part = init
        while hasattr(part, "init"):
            part = part.init
        # A border of other values, and parts that differ, have no single law.
        return getattr(part, "distribution", None) if name not in _MIXED else None
    if law in ("Haar", "uniform on the sphere"):
        return "sphere"
    if law.startswith("normal, uniform"):
        return str(getattr(init, "distribution", "normal"))
    if law == "normal, truncated at 2 sigma":
        return "truncated_normal"
    return law if law in ("normal", "uniform") else _BY_WORD.get(law)


_MIXED = {"padded", "masked", "blocks", "concat"}
_BY_WORD = {
    "uniform on [0, scale)": "uniform",
    "normal, truncated at `lower` and `upper`": "truncated_normal",
    "uniform; zero": "uniform",
}
# A standard normal between -2 and 2 has this mass and this standard deviation.
_MASS, _STD = math.erf(math.sqrt(2)), 0.87962566103423978


def _truncated(z: np.ndarray) -> np.ndarray:
    """Return the density of a normal that is cut at 2 sigma, of std 1."""
    raw = z * _STD
    normal = np.exp(-(raw**2) / 2) / math.sqrt(2 * math.pi)
    return np.where(np.abs(raw) <= 2, normal * _STD / _MASS, 0.0)


def _on_sphere(z: np.ndarray, n: int) -> np.ndarray:
    """Return the density of one entry of a vector on the sphere of radius sqrt(n)."""
    inside = np.clip(1 - z**2 / n, 0, None)
    power = inside ** ((n - 3) / 2)
    log_factor = math.lgamma(n / 2) - math.lgamma((n - 1) / 2)
    return power * math.exp(log_factor) / math.sqrt(math.pi * n)


def _length(name: str, array: np.ndarray) -> int:
    """Return the length of the vectors: the longer side of a Haar, nGPT's last axis."""
    rows, columns = math.prod(array.shape[:-1]), array.shape[-1]
    return max(rows, columns) if name != "ngpt" else columns
