"""Parameters meet data in convolutions, also in those of a vmap over kernels."""

import math
from collections.abc import Sequence
from typing import Any

from jax.extend.core import JaxprEqn

from .atoms import shape_of
from .axes import Axis
from .meetings import joined, learned, match, modulated, note, output, replaced, result
from .uses import Log, Use
from .values import Data, View


def convolution(log: Log, eqn: JaxprEqn, values: Sequence[Any]) -> Any:
    """Read a convolution of two values, at least one of which is no constant."""
    left, right = values
    # A learned constant is convolved at the beginning of StyleGAN.
    if isinstance(left, View):
        left = learned(log, left, shape_of(eqn.invars[0]))
    if isinstance(right, Data) and right.pending is not None and isinstance(left, Data):
        view, use, _ = right.pending
        replaced(log, use, use)
        new: Data = convolution(log, eqn, [left, view])
        return modulated(log, new, right)
    dims = eqn.params["dimension_numbers"]
    if not isinstance(right, View):
        return _convolved(log, eqn, left, right)
    data = (
        left
        if isinstance(left, Data)
        else log.base(Data().copy(axes=log.labels.axes(shape_of(eqn.invars[0]))))
    )
    letters = ["k"] * len(dims.rhs_spec)
    letters[dims.rhs_spec[0]], letters[dims.rhs_spec[1]] = "o", "i"
    groups = eqn.params["feature_group_count"]
    idle = math.prod(eqn.params["lhs_dilation"])
    use = note(log, "convolution", right, data, letters, groups=groups, idle=idle)
    use.side = 0
    match(use.contracted, right, dims.rhs_spec[1], data.axes[dims.lhs_spec[1]])
    axes: list[Axis] = [()] * len(dims.out_spec)
    axes[dims.out_spec[1]] = output(log, use, right, dims.rhs_spec[0])
    _grouped(log, use, right, data, dims)
    shape = shape_of(eqn.outvars[0])
    for there, here in zip(dims.lhs_spec, dims.out_spec, strict=True):
        if here != dims.out_spec[1]:
            same = shape_of(eqn.invars[0])[there] == shape[here]
            axes[here] = data.axes[there] if same else log.labels.axis(shape[here])
    return result(log, use, data, tuple(axes))


def _grouped(log: Log, use: Use, view: View, data: Data, dims: Any) -> None:
    """Tell a vmap over kernels, which JAX makes a grouped convolution, from groups."""
    outer = use.main.axes[dims.rhs_spec[0]]
    features = [factor for factor in data.axes[dims.lhs_spec[1]] if factor[1] > 1]
    # The features of a depthwise convolution are one axis, those of members are two.
    if len(outer) < 2 or len(features) < 2 or features[0][1] != outer[0][1]:
        return
    if use.groups % outer[0][1]:
        return
    name, size = outer[0]
    # JAX puts the members' kernels side by side, and their number into the groups.
    use.groups //= size
    if name >= 0:
        use.letters[name] = "b"
        use.outputs.pop(name, None)
        use.batched[name] = tuple(features[:1])
    use.contracted = {n: axis[1:] or axis for n, axis in use.contracted.items()}


def _convolved(log: Log, eqn: JaxprEqn, left: Any, right: Any) -> Data:
    """Return data behind a convolution that no parameter is in."""
    axes = log.labels.axes(shape_of(eqn.outvars[0]))
    operands = [value for value in (left, right) if isinstance(value, Data)]
    new = joined(operands[0], operands[-1]).copy(axes=axes, meeting=None)
    if len(operands) == 1:
        new.scalar, new.gated = operands[0].scalar, operands[0].gated
    return log.base(new)
