"""In a network the parts of recurrent layers are read from equations.

A decay is a parameter that goes through a function before it multiplies data, and the
bias of its step is the bias that was added to these data. The reader notes both in a
`Passage`.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .._network.reader.factors import MULTIPLIES_DATA
from .._network.reader.records import Parameter, Passage
from .._network.record import Network
from .network_roles import Test

# The numbers at which the functions of parameters are compared.
_GRID = np.linspace(-3.0, 3.0, 13)
# Functions in float32 are equal up to this share of their greatest value.
_TOLERANCE = 1e-4

_softplus = np.log1p(np.exp(_GRID))
_sigmoid = 1 / (1 + np.exp(-_GRID))


def log_decays(net: Network) -> Test:
    """Tell which parameters multiply data as A = -exp(p)."""
    return _with_function(net, np.exp(_GRID))


def ring_decays(net: Network) -> Test:
    """Tell which parameters are decays behind a softplus or a sigmoid: RG-LRU's."""
    tests = [_with_function(net, _softplus), sigmoid_decays(net)]
    return lambda p: any(test(p) for test in tests)


def sigmoid_decays(net: Network) -> Test:
    """Tell which parameters are decays behind a sigmoid or the logarithm of one."""
    # log sigmoid(x) = -softplus(-x).
    tests = [_with_function(net, values) for values in (_softplus[::-1], _sigmoid)]
    return lambda p: any(test(p) for test in tests)


def step_biases(net: Network) -> Test:
    """Tell which biases are the last that were added to the steps of a decay."""
    is_decay, passages = log_decays(net), _passages(net)
    paths = {
        passages[p.path].shifts[-1]
        for p in net.parameters.values()
        if is_decay(p) and passages[p.path].shifts
    }
    return lambda p: p.path in paths


def forget_biases(net: Network) -> Test:
    """Tell which biases are those of a forget gate: log sigmoid follows them."""
    passages = _passages(net)
    return lambda p: (
        "bias" in p.roles and p.path in passages and "log1p" in passages[p.path].after
    )


def gates(net: Network) -> Test:
    """Tell which kernels are those of forget gates, or of gates beside them."""
    kernels = _forget_kernels(net)
    return lambda p: any(_is_sister(p, kernel) for kernel in kernels)


def input_biases(net: Network) -> Test:
    """Tell which biases belong to the input gate beside a forget gate."""
    is_forget, is_gate = forget_biases(net), gates(net)

    def test(p: Parameter) -> bool:
        before = [net.parameters.get(path) for path in p.inputs]
        return (
            "bias" in p.roles
            and not is_forget(p)
            and len(before) == 1
            and before[0] is not None
            and is_gate(before[0])
        )

    return test


def skips(net: Network) -> Test:
    """Tell which parameters multiply data as they are, as the D of a state space."""
    passages = _passages(net)
    return lambda p: (
        p.reason == MULTIPLIES_DATA
        and p.path in passages
        and _is_multiple(_values(passages[p.path].function), _GRID)
    )


def centered_scales(net: Network) -> Test:
    """Tell which scales of norms start at 0, since the model adds 1 to them."""
    passages = _passages(net)

    def test(p: Parameter) -> bool:
        if "scale" not in p.roles or p.path not in passages:
            return False
        values = _values(passages[p.path].function)
        return bool(np.allclose(values, _GRID + 1, atol=_TOLERANCE))

    return test


def depthwise(net: Network) -> Test:
    """Tell which convolutions have a separate window for each channel."""
    return lambda p: "convolution" in p.roles and p.groups > 1


def width_of_stream(net: Network, p: Parameter) -> int | None:
    """Return the width of the stream around a parameter, by the end of its branch."""
    branches = [b for b in net.branches if p.path in b.layers] or list(net.branches)
    ends = [net.parameters[path] for b in branches for path in b.ends]
    widths = {end.fans.fan_out for end in ends if end.fans is not None}
    return widths.pop() if len(widths) == 1 else None


def scanned_axes(net: Network, path: str) -> tuple[int, ...]:
    """Return the axes of a parameter that the steps of scans choose from."""
    axes = net._read.reading.steps.get(path, {}).values()
    return tuple(axis for axis in axes if axis is not None)


def _passages(net: Network) -> Any:
    return net._read.reading.passages


def _values(function: Callable[[Any], Any]) -> np.ndarray:
    return np.asarray(function(np.asarray(_GRID, np.float32)), np.float64)


def _is_multiple(values: np.ndarray, reference: np.ndarray) -> bool:
    """Tell whether two functions are equal up to a factor, of either sign."""
    factor = float(values @ reference / (reference @ reference))
    error = float(np.max(np.abs(values - factor * reference)))
    size = float(np.max(np.abs(values)))
    return math.isfinite(error) and size > 0 and error <= _TOLERANCE * size


def _with_function(net: Network, reference: np.ndarray) -> Test:
    """Return a test for a function of entries, before they multiply data."""
    passages: dict[str, Passage] = _passages(net)
    known: dict[str, bool] = {}

    def test(p: Parameter) -> bool:
        # A parameter raised to a power of data, `a ** r`, also has the role "other".
        if p.roles != {"other"} or p.path not in passages:
            return False
        if p.path not in known:
            values = _values(passages[p.path].function)
            known[p.path] = _is_multiple(values, reference)
        return known[p.path]

    return test


def _forget_kernels(net: Network) -> list[Parameter]:
    is_forget = forget_biases(net)
    biases = [p for p in net.parameters.values() if is_forget(p)]
    return [net.parameters[b.inputs[0]] for b in biases if _has_one_kernel(net, b)]


def _has_one_kernel(net: Network, bias: Parameter) -> bool:
    return len(bias.inputs) == 1 and bias.inputs[0] in net.parameters


def _is_sister(one: Parameter, other: Parameter) -> bool:
    """Tell whether two kernels have the same inputs, shape and layout."""
    here, there = (one.inputs, one.shape), (other.inputs, other.shape)
    return here == there and one.layout == other.layout
