"""A plan tells an initializer the axes of its kernel by a `KernelAxes`.

`Initializer._with_axes` returns the same law for such a kernel. A scheme that does not
depend on axes, or whose settings name them, returns itself. A scheme that needs a
layout raises a ValueError if there is none.
"""

from typing import NamedTuple

from .._scale.fans import Fans


class KernelAxes(NamedTuple):
    """KernelAxes tell the axes of a kernel, as far as a plan knows them.

    `layout` is None where nothing shows it. `fans` are None where they are those of the
    layout and the groups. They differ in a transposed convolution, whose stride keeps
    some taps from an output.
    """

    layout: str | None
    groups: int = 1
    fans: Fans | None = None

    @property
    def are_default(self) -> bool:
        """Tell whether the axes are (*window, in, out), which every scheme assumes."""
        letters = (self.layout or "").lstrip("k")
        return letters == "io" and self.groups == 1 and self.fans is None

    def known_layout(self) -> str:
        """Return the layout, or raise if nothing shows it."""
        if self.layout is None:
            raise ValueError("nothing shows which axes are inputs and which outputs.")
        return self.layout
