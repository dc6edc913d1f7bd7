"""The axes by which a scheme counts a parameter's fans are those of its product."""

from .._initializer.kernel_axes import KernelAxes
from .._scale.fans import fans
from .reader.records import Parameter


def kernel_axes(parameter: Parameter) -> KernelAxes:
    """Return layout, groups and, where the layout does not give them, the fans."""
    layout, groups, known = parameter.layout, parameter.groups, parameter.fans
    if layout is None:
        return KernelAxes(None, groups, known)
    # A lookup sums over nothing. A scheme that counts fans means the table's axes.
    if "embedding" in parameter.roles or not set(layout) & {"i", "o"}:
        return KernelAxes(layout, groups)
    counted = fans(parameter.shape, layout, groups=groups)
    return KernelAxes(layout, groups, None if counted == known else known)
