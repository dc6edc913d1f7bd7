"""Each axis of a value is a product of factors, so that reshapes lose nothing.

A factor is a pair (name, size). The names of a parameter's factors say which axis of
which parameter they are; those of data are labels, and two axes that a model uses as
one (by adding, or by a batch axis of a product) get labels of one class.
"""

from collections.abc import Callable, Sequence

Factor = tuple[int, int]
Axis = tuple[Factor, ...]
Axes = tuple[Axis, ...]

# The name of a factor of a parameter's view that no axis of the parameter has.
BROADCAST = -1


def regroup(
    axes: Axes,
    shape: Sequence[int],
    split: Callable[[Factor, int], tuple[Factor, Factor]],
) -> Axes | None:
    """Return the axes of a reshaped value; None where an axis cuts through a factor.

    `split(factor, size)` cuts a factor in two, of which the first has the given size.
    """
    if 0 in shape:
        return None
    left = [factor for axis in reversed(axes) for factor in reversed(axis)]
    result = []
    for size in shape:
        taken: list[Factor] = []
        count = 1
        # An axis of one entry keeps its name where the new shape has one there, too.
        if size == 1 and left and left[-1][1] == 1:
            taken.append(left.pop())
        while count < size:
            if not left:
                return None
            factor = left.pop()
            rest = size // count
            if size % count or (factor[1] and rest % factor[1]):
                if size % count or not rest or factor[1] % rest:
                    return None
                factor, inner = split(factor, rest)
                left.append(inner)
            taken.append(factor)
            count *= factor[1]
        result.append(tuple(taken))
    if result:
        # What is left has one entry, as the multiplier of a depthwise kernel may.
        result[-1] += tuple(reversed(left))
    return tuple(result)


def size_of(axis: Axis) -> int:
    """Return the length of an axis from its factors."""
    length = 1
    for _, size in axis:
        length *= size
    return length


class Labels:
    """Labels of the axes of data, in classes that grow when axes are used as one."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._halves: dict[tuple[int, int], tuple[int, int]] = {}
        self._wholes: dict[tuple[int, int], Factor] = {}
        # The labels of axes along which a value was repeated.
        self.repeated: set[int] = set()

    def fresh(self) -> int:
        """Return a new label, in a class by itself."""
        self._parent.append(len(self._parent))
        return len(self._parent) - 1

    def axis(self, size: int) -> Axis:
        """Return an axis with a new label."""
        return ((self.fresh(), size),)

    def axes(self, shape: Sequence[int]) -> Axes:
        """Return one new axis for each length."""
        return tuple(map(self.axis, shape))

    def repeat(self, size: int) -> Axis:
        """Return a new axis along which a value is repeated."""
        axis = self.axis(size)
        self.repeated.update(label for label, _ in axis)
        return axis

    def root(self, label: int) -> int:
        """Return the label that stands for the class."""
        parent = self._parent
        while parent[label] != label:
            parent[label] = parent[parent[label]]
            label = parent[label]
        return label

    def unite(self, one: Axis, other: Axis) -> None:
        """Put the labels of two axes into one class, where their factors agree."""
        # Axes whose factors differ are not compared: no fact rests on them.
        if one is other or len(one) != len(other):
            return
        for (left, size), (right, length) in zip(one, other, strict=True):
            if left != right and size == length:
                self._parent[self.root(left)] = self.root(right)

    def split(self, factor: Factor, size: int) -> tuple[Factor, Factor]:
        """Cut a factor in two; the same cut gives the same labels."""
        label, whole = factor
        key = (label, size)
        if key not in self._halves:
            halves = self._halves[key] = (self.fresh(), self.fresh())
            self._wholes[halves] = factor
            if label in self.repeated:
                self.repeated.update(halves)
        outer, inner = self._halves[key]
        return (outer, size), (inner, whole // size)

    def reshape(self, axes: Axes, shape: Sequence[int]) -> Axes:
        """Return the axes of a reshaped value; new labels where nothing fits."""
        result = regroup(axes, shape, self.split)
        if result is None:
            return self.axes(shape)
        return tuple(map(self._joined, result))

    def _joined(self, axis: Axis) -> Axis:
        """Put halves that were cut apart together again."""
        if len(axis) < 2:
            return axis
        axis = tuple(factor for factor in axis if factor[1] > 1) or axis[:1]
        joined: list[Factor] = []
        for factor in axis:
            joined.append(factor)
            while len(joined) > 1:
                whole = self._wholes.get((joined[-2][0], joined[-1][0]))
                if whole is None:
                    break
                joined[-2:] = [whole]
        return tuple(joined)
