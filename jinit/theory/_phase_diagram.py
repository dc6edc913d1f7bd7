"""`plot_phase_diagram` draws the phases of an activation."""

from typing import Any

import numpy as np

from .._core import names
from .._core.figure_titles import title
from .._core.results import saved
from .._scale.gains import Activation
from ._dual import moment
from ._maps import resolved, scalar_of
from ._scalar import Scalar


# matplotlib is no requirement of jinit. A Figure, unlike pyplot, keeps no list of all
# figures and opens no window.
def phase_figure(s: Scalar, name: str, path: Any) -> Any:
    """Draw chi_1 at the fixed point over sigma_w2 and sigma_b2; 1 is the edge."""
    from matplotlib.figure import Figure

    sigma_w2 = np.linspace(0.05, 4, 80)
    sigma_b2 = np.linspace(0, 1, 41)
    chi1 = _chi1(s, sigma_w2, sigma_b2)
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    shown = axes.pcolormesh(
        sigma_w2, sigma_b2, np.log(chi1), cmap="RdBu_r", vmin=-1.5, vmax=1.5
    )
    # Where q grows without bound there is no fixed point, and no colour.
    axes.set_facecolor("lightgray")
    if np.nanmin(chi1) < 1 < np.nanmax(chi1):
        axes.contour(sigma_w2, sigma_b2, chi1, levels=[1], colors="black")
        _name(axes, 0.03, "left", "ordered")
        _name(axes, 0.97, "right", "chaotic")
    elif np.isnan(chi1).any():
        _name(axes, 0.97, "right", "signals grow without bound")
    axes.set(
        xlabel="sigma_w2, the variance of a weight times fan_in",
        ylabel="sigma_b2, the variance of a bias",
    )
    title(figure, _sentence(name, sigma_w2, chi1))
    bar = figure.colorbar(shown)
    bar.set_label("log chi_1\n(below 0 gradients vanish, above 0 they explode)")
    return saved(figure, path)


def _name(axes: Any, place: float, side: str, text: str) -> None:
    """Name a phase; the panel is light in dark styles, too."""
    axes.text(
        place, 0.95, text, transform=axes.transAxes, ha=side, va="top", color="black",
        bbox={"facecolor": "white", "linewidth": 0, "pad": 2},
    )  # fmt: skip


def _sentence(name: str, sigma_w2: np.ndarray, chi1: np.ndarray) -> str:
    """Say where the edge of chaos is for the least and for the largest bias."""
    ends = [_crossing(sigma_w2, line) for line in (chi1[0], chi1[-1])]
    parts = [
        f"{edge:.2g} (sigma_b2 = {bias})"
        for edge, bias in zip(ends, (0, 1), strict=True)
        if edge is not None
    ]
    if not parts:
        side = "ordered" if np.nanmean(chi1) < 1 else "chaotic"
        return f"{name} has no edge of chaos in this range: it is {side}"
    if len({f"{edge:.2g}" for edge in ends}) == 1:
        return f"{name}: the edge of chaos is at sigma_w2 = {ends[0]:.2g}"
    return f"{name}: the edge of chaos is at sigma_w2 = {' to '.join(parts)}"


def _crossing(sigma_w2: np.ndarray, chi1: np.ndarray) -> float | None:
    """Return the least sigma_w2 at which chi_1 reaches 1, or None."""
    (above,) = np.nonzero(chi1 >= 1)
    if not above.size or above[0] == 0:
        return None
    here = slice(above[0] - 1, above[0] + 1)
    return float(np.interp(1.0, chi1[here], sigma_w2[here]))


def _chi1(s: Scalar, sigma_w2: np.ndarray, sigma_b2: np.ndarray) -> np.ndarray:
    """Return chi_1 over the grid; it is NaN where q has no bound.

    The moments are taken once, over a grid of log q, and interpolated.
    """
    q = np.geomspace(1e-6, 1e6, 121)
    moments, slopes = (np.array([moment(s, g, x) for x in q]) for g in (s.f, s.df))
    now = np.ones((len(sigma_b2), len(sigma_w2)))
    for _ in range(2000):
        after = sigma_w2 * np.interp(now, q, moments) + sigma_b2[:, None]
        # A q that grows ends at the clip, beyond the grid, where chi_1 becomes NaN
        # below.
        after = np.clip(after, 0, 2 * q[-1])
        if np.allclose(after, now, rtol=1e-6, atol=1e-9):
            break
        now = after
    chi1 = sigma_w2 * np.interp(now, q, slopes)
    return np.where(now >= q[-1], np.nan, np.maximum(chi1, 1e-6))


def plot_phase_diagram(activation: Activation, path: Any = None) -> Any:
    """Draw the ordered and the chaotic phase over sigma_w2 and sigma_b2, and the edge.

    Args:
      activation: a name, or any function of a scalar.
      path: the file of a picture; by default no file is written.

    Returns:
      The matplotlib figure.

    Raises:
      ValueError: if the activation cannot be integrated.

    Example:
      >>> from jinit import theory
      >>> theory.plot_phase_diagram("tanh").axes[0].get_xlabel()
      'sigma_w2, the variance of a weight times fan_in'

    References:
      Poole, Lahiri, Raghu, Sohl-Dickstein and Ganguli, "Exponential expressivity in
        deep neural networks through transient chaos", NeurIPS 2016.
    """
    s = scalar_of(activation)
    name = activation if isinstance(activation, str) else names.public_name(activation)
    return resolved(activation, lambda: phase_figure(s, name, path))
