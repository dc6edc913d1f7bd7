"""This file has a table of activations, with their derivatives and kinks, in NumPy.

A gain is needed while a program is being traced, in more digits than float32 has, and
before anything is compiled. So the functions are NumPy's and not JAX's.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

Function = Callable[[np.ndarray], np.ndarray]

# SciPy's erf differs by an ulp in one value of 25, which would change gains, and takes
# 0.4 s to load.
_erf = np.vectorize(math.erf, otypes=[np.float64])

# Klambauer et al. (2017): with these two, E f = 0 and E f^2 = 1 for z ~ N(0, 1).
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


@dataclasses.dataclass(frozen=True)
class ActivationSpec:
    """An ActivationSpec has f and f' of (z, param), kinks, and the default `param`."""

    f: Callable[..., np.ndarray]
    df: Callable[..., np.ndarray]
    kinks: tuple[float, ...] = ()
    param: float | None = None


# 1 / (1 + exp(-z)) overflows for z below -709, with a warning; tanh does not.
def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(z / 2))


def _dsigmoid(z: np.ndarray) -> np.ndarray:
    return _sigmoid(z) * _sigmoid(-z)


def _softplus(z: np.ndarray) -> np.ndarray:
    return np.logaddexp(z, 0)


def _cdf(z: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + _erf(z / math.sqrt(2)))


def _density(z: np.ndarray) -> np.ndarray:
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _gelu_inner(z: np.ndarray) -> np.ndarray:
    # The cubic approximation of Phi by Hendrycks and Gimpel (2016), as in JAX.
    return np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))


def _dgelu_tanh(z: np.ndarray) -> np.ndarray:
    t = _gelu_inner(z)
    slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * z**2)
    return 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * slope


def _dmish(z: np.ndarray) -> np.ndarray:
    t = np.tanh(_softplus(z))
    return t + z * (1 - t * t) * _sigmoid(z)


def _step(z: np.ndarray, low: float, high: float) -> np.ndarray:
    return ((z > low) & (z < high)).astype(np.float64)


# `where` evaluates both branches, and exp of a large positive z would overflow, so the
# branch for negative z sees no positive one.
def _elu(z: np.ndarray, a: float) -> np.ndarray:
    return np.where(z > 0, z, a * np.expm1(np.minimum(z, 0)))


def _delu(z: np.ndarray, a: float) -> np.ndarray:
    return np.where(z > 0, 1, a * np.exp(np.minimum(z, 0)))


def _celu(z: np.ndarray, a: float) -> np.ndarray:
    return np.where(z > 0, z, a * np.expm1(np.minimum(z, 0) / a))


def _leaky(z: np.ndarray, a: float) -> np.ndarray:
    return np.where(z > 0, z, a * z)


def _dleaky(z: np.ndarray, a: float) -> np.ndarray:
    return np.where(z > 0, 1.0, a)


_LINEAR = ActivationSpec(lambda z: z, np.ones_like)
_SILU = ActivationSpec(
    lambda z: z * _sigmoid(z), lambda z: _sigmoid(z) + z * _dsigmoid(z)
)
_HARD_SILU = ActivationSpec(
    lambda z: z * np.clip(z + 3, 0, 6) / 6,
    lambda z: np.where(z >= 3, 1.0, (2 * z + 3) / 6 * _step(z, -3, 3)),
    (-3.0, 3.0),
)

ACTIVATIONS = {
    "linear": _LINEAR,
    "identity": _LINEAR,
    "relu": ActivationSpec(
        lambda z: np.maximum(z, 0), lambda z: _step(z, 0, np.inf), (0.0,)
    ),
    "leaky_relu": ActivationSpec(_leaky, _dleaky, (0.0,), 0.01),
    "prelu": ActivationSpec(_leaky, _dleaky, (0.0,), 0.25),
    "relu6": ActivationSpec(
        lambda z: np.clip(z, 0, 6), lambda z: _step(z, 0, 6), (0.0, 6.0)
    ),
    "elu": ActivationSpec(_elu, _delu, (0.0,), 1.0),
    "celu": ActivationSpec(
        _celu, lambda z, a: np.exp(np.minimum(z, 0) / a), (0.0,), 1.0
    ),
    "selu": ActivationSpec(
        lambda z: _SELU_SCALE * _elu(z, _SELU_ALPHA),
        lambda z: _SELU_SCALE * _delu(z, _SELU_ALPHA),
        (0.0,),
    ),
    "gelu": ActivationSpec(lambda z: z * _cdf(z), lambda z: _cdf(z) + z * _density(z)),
    "gelu_tanh": ActivationSpec(lambda z: 0.5 * z * (1 + _gelu_inner(z)), _dgelu_tanh),
    "silu": _SILU,
    "swish": _SILU,
    "mish": ActivationSpec(lambda z: z * np.tanh(_softplus(z)), _dmish),
    "softplus": ActivationSpec(_softplus, _sigmoid),
    # Softsign looks smooth, but f' has a kink at 0, where a panel must end.
    "softsign": ActivationSpec(
        lambda z: z / (1 + np.abs(z)), lambda z: (1 + np.abs(z)) ** -2.0, (0.0,)
    ),
    "squareplus": ActivationSpec(
        lambda z: 0.5 * (z + np.sqrt(z * z + 4)),
        lambda z: 0.5 * (1 + z / np.sqrt(z * z + 4)),
    ),
    "tanh": ActivationSpec(np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "hard_tanh": ActivationSpec(
        lambda z: np.clip(z, -1, 1), lambda z: _step(z, -1, 1), (-1.0, 1.0)
    ),
    "sigmoid": ActivationSpec(_sigmoid, _dsigmoid),
    "log_sigmoid": ActivationSpec(lambda z: -_softplus(-z), lambda z: _sigmoid(-z)),
    "hard_sigmoid": ActivationSpec(
        lambda z: np.clip(z + 3, 0, 6) / 6, lambda z: _step(z, -3, 3) / 6, (-3.0, 3.0)
    ),
    "hard_silu": _HARD_SILU,
    "hard_swish": _HARD_SILU,
    "erf": ActivationSpec(_erf, lambda z: 2 / math.sqrt(math.pi) * np.exp(-z * z)),
    "sin": ActivationSpec(np.sin, np.cos),
}

GATES = {"glu": "sigmoid", "swiglu": "silu", "geglu": "gelu", "reglu": "relu"}
