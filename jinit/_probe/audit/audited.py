"""An audited parameter is a parameter with its array, its numbers and its law."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from ..._core.results import Row
from ..._network.reader.records import Parameter
from ..._network.record import Network
from . import laws, measured
from .law import Around, Law, around
from .laws import Judged
from .measured import Measured


class Audited(NamedTuple):
    """An Audited is a parameter with its array, its measured numbers and its law."""

    parameter: Parameter
    array: np.ndarray
    measured: Measured
    judged: Judged
    right_std: float | None

    @property
    def path(self) -> str:
        """Return the path of the parameter."""
        return self.parameter.path

    @property
    def is_kernel(self) -> bool:
        """Tell whether the parameter is multiplied as a matrix or a convolution."""
        return bool(self.parameter.roles & {"matrix", "convolution"})

    @property
    def ratio(self) -> float | None:
        """Return the measured std over the one that keeps the signal."""
        return self.measured.std / self.right_std if self.right_std else None

    def row(self, mistake: Law | None) -> Row:
        """Return the row of a report; a mistake that is certain is the law."""
        p, law = self.parameter, self.judged.text
        if mistake is not None:
            law = f"{mistake.text} ({self.measured.family})"
        return {
            "path": p.path,
            "shape": p.shape,
            "roles": sorted(p.roles),
            "layout": p.layout,
            "fan_in": p.fans and p.fans.fan_in,
            "fan_out": p.fans and p.fans.fan_out,
            "mean": self.measured.mean,
            "std": self.measured.std,
            "right_std": self.right_std,
            "ratio": self.ratio,
            "law": law,
        }


def audited(net: Network) -> dict[str, Audited]:
    """Measure and judge each parameter of a network, in the order of first use."""
    paths = net._adapted.paths
    arrays = dict(zip(paths, jax.device_get(jax.tree.leaves(net.params)), strict=True))
    network = around(net)
    return {
        path: _one(parameter, np.asarray(arrays[path]), network)
        for path, parameter in net.parameters.items()
    }


def _one(parameter: Parameter, array: np.ndarray, network: Around) -> Audited:
    numbers = measured.measured(array)
    if numbers.special is None and numbers.family is not None:
        gain = _orthogonal(parameter, array)
        if gain is not None:
            law = "orthogonal" if abs(gain - 1) < 1e-3 else f"orthogonal * {gain:.4g}"
            numbers = numbers._replace(special=law)
    right = laws.right_std(parameter)
    judged = laws.judged(parameter, numbers, network)
    return Audited(parameter, array, numbers, judged, right)


def _orthogonal(parameter: Parameter, array: np.ndarray) -> float | None:
    """Return the gain of an orthogonal kernel; of a stack that of the first member."""
    if array.ndim < 2:
        return None
    layout = parameter.layout or "i" * (array.ndim - 1) + "o"
    members = [n for n, letter in enumerate(layout) if letter == "b"]
    inputs = [n for n, letter in enumerate(layout) if letter in "ik"]
    outputs = [n for n, letter in enumerate(layout) if letter == "o"]
    array = np.transpose(array, (*members, *inputs, *outputs))
    array = array[(0,) * len(members)]
    rows = math.prod(array.shape[: len(inputs)])
    return measured.orthogonal_gain(array.reshape(rows, -1))


Everything = Mapping[str, Audited]


def readers(everything: Everything, path: str) -> list[Any]:
    """Return the kernels that read the outputs of a parameter."""
    return [
        one
        for one in everything.values()
        if one.is_kernel and path in one.parameter.inputs
    ]
