"""A plan tells an initializer what the axes of its kernel are, by a `KernelAxes`.

`Initializer._with_axes` returns the same law for such a kernel. A scheme that does not
depend on axes, or whose settings name them, returns itself. A scheme that needs a
layout raises a ValueError if there is none.
"""

from typing import NamedTuple

from .._scale.fans import Fans


class KernelAxes(NamedTuple):
    """KernelAxes say what the axes of a kernel are, where a plan can tell it.

    `layout` is None where nothing shows it. `fans` are None where they are those of the
    layout and the groups. They differ in a transposed convolution, whose stride keeps
    some taps from an output.
    """

    layout: str | None
    groups: int = 1
    fans: Fans | None = None

    @property
    def are_default(self) -> bool:
        """Tell whether every scheme counts so by itself: (*window, in, out)."""
        letters = (self.layout or "").lstrip("k")
        return letters == "io" and self.groups == 1 and self.fans is None

    def known_layout(self) -> str:
        """Return the layout, or raise if nothing shows it."""
        if self.layout is None:
            raise ValueError("nothing shows which axes are inputs and which outputs.")
        return self.layout
