"""Pennington et al. 2017: a law gives the spread of the Jacobian's singular values.

On the edge of chaos the squared singular values have mean 1 and variance
L (mu_2 / mu_1^2 - 1 - s), with s = -1 for Gaussian and 0 for orthogonal kernels.
Orthogonal tanh networks approach isometry as the bias, and with it q, goes to 0; relu
networks never do.
"""

import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import jinit
from benchmarks.papers._result import Result, panels
from examples._data import Images
from jinit import theory

Weights = Literal["gaussian", "orthogonal"]
WEIGHTS: tuple[Weights, ...] = ("gaussian", "orthogonal")
INITS = {"gaussian": jinit.lecun(), "orthogonal": jinit.orthogonal()}
FUNCTIONS = {"linear": lambda z: z, "relu": jax.nn.relu, "tanh": jnp.tanh}
DEPTHS = (4, 8)
BIASES = (0.05, 1e-3, 1e-5)


class Case(NamedTuple):
    """A case is a kind of network on the edge of chaos."""

    activation: str
    weights: Weights
    depth: int
    sigma_b2: float = 0.0


def run(quick: bool, images: Images) -> Result:
    """Compare variances with the law, and follow orthogonal tanh along the edge."""
    del images
    width, draws = (120, 2) if quick else (400, 4)
    cases = [
        Case(name, weights, depth)
        for name in ("linear", "relu") for weights in WEIGHTS
        for depth in DEPTHS[quick:]
    ]  # fmt: skip
    edge = [Case("tanh", "orthogonal", DEPTHS[-1], b) for b in BIASES]
    rows = [_compared(case, width, draws) for case in (*cases, *edge)]
    laws, along = rows[: len(cases)], rows[len(cases) :]
    tanh = [row["variance"] for row in along]
    relu = [row["variance"] for row in laws if row["activation"] == "relu"]
    off = max(row["off"] for row in rows)
    share = max(abs(r["variance"] / r["law"] - 1) for r in rows if r["law"] > 0)
    return Result(
        "Pennington, Schoenholz and Ganguli 2017",
        "the variance of the squared singular values is L (mu_2 / mu_1^2 - 1 - s); "
        "orthogonal tanh networks reach isometry, relu networks never",
        f"variance within {100 * share:.0f} % of the law's in {len(rows)} kinds of "
        f"networks of width {width}; orthogonal tanh of {DEPTHS[-1]} layers: "
        f"{', '.join(f'{v:.3f}' for v in tanh)} for sigma_b2 = "
        f"{', '.join(f'{b:g}' for b in BIASES)}; relu: {min(relu):.1f} or more",
        {"width": width, "spectra": rows},
        {
            "the law holds": off < 1,
            "orthogonal tanh approaches isometry": tanh[0] > tanh[1] > tanh[2]
            and tanh[2] < 0.05,
            "relu does not": min(relu) > 0.5 * DEPTHS[0],
        },
        _figure(laws, along),
    )


def _compared(case: Case, width: int, draws: int) -> dict[str, Any]:
    """Compare the measured variance with the law's, in units of a bound."""
    point = theory.critical(case.activation, sigma_b2=case.sigma_b2)
    law = theory.jacobian_spectrum(
        case.activation, point.sigma_w2, case.sigma_b2, case.depth, case.weights,
        q=point.q,
    )  # fmt: skip
    keys = jax.random.split(jax.random.key(case.depth), draws)
    spectra = [np.asarray(_squared(key, case, point, width)) for key in keys]
    variances = [np.var(s / s.mean()) for s in spectra]
    # Chance decides which of n gates are open, and moves the sum over L layers by
    # 2 sqrt(L / n). The bound is four times that, plus a term of order L^2 / n, by
    # which a finite width differs from the law.
    noise = 2 * math.sqrt(case.depth / width / draws) * min(1, law.variance)
    bound = 4 * noise + 2 * case.depth**2 / width * min(1, law.variance) + 1e-4
    variance = float(np.mean(variances))
    return {
        **case._asdict(),
        "variance": variance,
        "law": law.variance,
        "off": abs(variance - law.variance) / bound,
    }


def _squared(key: jax.Array, case: Case, point: Any, width: int) -> jax.Array:
    """Return the squared singular values of a network's Jacobian at its fixed q."""
    keys = jax.random.split(key, case.depth + 1)
    z = jax.random.normal(keys[-1], (width,))
    z = z * (math.sqrt(point.q * width) / jnp.linalg.norm(z))
    total, function = jnp.eye(width), FUNCTIONS[case.activation]
    bias = jinit.normal(math.sqrt(point.sigma_b2))
    for key in keys[:-1]:
        kernel_key, bias_key = jax.random.split(key)
        w = math.sqrt(point.sigma_w2) * INITS[case.weights](kernel_key, (width, width))
        total = (total * jax.vmap(jax.grad(function))(z)[None]) @ w
        z = function(z) @ w + bias(bias_key, (width,))
    return jnp.linalg.svd(total, compute_uv=False) ** 2


def _figure(laws: list[dict[str, Any]], along: list[dict[str, Any]]) -> Figure:
    figure, axes = panels(
        ["variance of the squared singular values", "orthogonal tanh, along the edge"],
        ["the law's", "sigma_b2"], ["measured", "variance"],
    )  # fmt: skip
    for name in ("linear", "relu"):
        for weights in INITS:
            rows = [
                r for r in laws if (r["activation"], r["weights"]) == (name, weights)
            ]
            x, y = ([row[field] for row in rows] for field in ("law", "variance"))
            axes[0].plot(x, y, "o", label=f"{weights} {name}")
    most = max(row["law"] for row in laws)
    axes[0].plot([0, most], [0, most], color="gray", lw=0.8, label="law")
    axes[0].legend()
    axes[1].set(xscale="log", yscale="log")
    axes[1].plot(BIASES, [row["variance"] for row in along], "o", label="measured")
    axes[1].plot(BIASES, [row["law"] for row in along], color="gray", label="law")
    axes[1].legend()
    return figure
