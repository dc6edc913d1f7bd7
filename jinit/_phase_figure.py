"""The phase diagram of an activation, as a figure."""

from typing import Any

import numpy as np

from ._dual import moment
from ._scalar import Scalar


def phase_figure(s: Scalar, name: str, path: Any) -> Any:
    """chi_1 at the fixed point, over sigma_w2 and sigma_b2; its level 1 is the edge."""
    from matplotlib.figure import Figure

    sigma_w2 = np.linspace(0.05, 4, 80)
    sigma_b2 = np.linspace(0, 1, 41)
    chi1 = _chi1(s, sigma_w2, sigma_b2)
    figure = Figure(figsize=(5, 3.8), layout="constrained")
    axes = figure.subplots()
    shown = axes.pcolormesh(
        sigma_w2, sigma_b2, np.log(chi1), cmap="RdBu_r", vmin=-1.5, vmax=1.5
    )
    # Where q grows without bound there is no fixed point, and no colour.
    axes.set_facecolor("lightgray")
    if np.nanmin(chi1) < 1 < np.nanmax(chi1):
        axes.contour(sigma_w2, sigma_b2, chi1, levels=[1], colors="black")
    axes.set(xlabel="sigma_w2", ylabel="sigma_b2", title=f"{name}: log chi_1")
    figure.colorbar(shown)
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure


def _chi1(s: Scalar, sigma_w2: np.ndarray, sigma_b2: np.ndarray) -> np.ndarray:
    """chi_1 over the grid; NaN where q has no bound.

    The moments are taken once, over a grid of log q, and interpolated.
    """
    q = np.geomspace(1e-6, 1e6, 121)
    of_f, of_df = (np.array([moment(s, g, value) for value in q]) for g in (s.f, s.df))
    now = np.ones((len(sigma_b2), len(sigma_w2)))
    for _ in range(2000):
        after = sigma_w2 * np.interp(now, q, of_f) + sigma_b2[:, None]
        after = np.clip(after, 0, 2 * q[-1])
        if np.allclose(after, now, rtol=1e-6, atol=1e-9):
            break
        now = after
    chi1 = sigma_w2 * np.interp(now, q, of_df)
    return np.where(now >= q[-1], np.nan, np.maximum(chi1, 1e-6))
