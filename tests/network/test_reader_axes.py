"""Reshapes keep the factors of axes, and labels fall into classes."""

import pytest

from jinit._network.reader.axes import Labels, regroup, size_of
from jinit._network.reader.values import origin, outer_piece, place, whole
from jinit._network.reader.views import with_axes


def split(factor, size):
    name, length = factor
    return (f"{name}<", size), (f"{name}>", length // size)


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [
        ([[("a", 6)]], (2, 3), [[("a<", 2)], [("a>", 3)]]),
        ([[("a", 2)], [("b", 3)]], (6,), [[("a", 2), ("b", 3)]]),
        (
            [[("a", 4)], [("b", 3)]],
            (2, 6),
            [[("a<", 2)], [("a>", 2), ("b", 3)]],
        ),
        ([[("a", 4)]], (1, 4, 1), [[], [("a", 4)], []]),
        ([[("a", 4)], [("b", 1)]], (1, 4), [[], [("a", 4), ("b", 1)]]),
        ([[("a", 4)], [("b", 3)]], (3, 4), None),
        ([[("a", 0)]], (0, 5), None),
    ],
)
def test_regroup(axes, shape, expected):
    axes = tuple(map(tuple, axes))
    result = regroup(axes, shape, split)
    if expected is None:
        assert result is None
        return
    assert [list(axis) for axis in result] == expected
    assert tuple(map(size_of, result)) == shape


def test_halves_of_a_label_are_put_together_again():
    labels = Labels()
    axes = labels.axes((2, 12))
    heads = labels.reshape(axes, (2, 3, 4))
    again = labels.reshape(axes, (2, 3, 4))
    assert heads == again
    assert labels.reshape(heads, (2, 12)) == axes
    # A shape that cuts through an axis has new labels.
    other = labels.reshape(axes, (3, 8))
    assert not {name for axis in other for name, _ in axis} & {
        name for axis in axes for name, _ in axis
    }


def test_classes_of_labels():
    labels = Labels()
    one, two, three = (labels.axis(4) for _ in range(3))
    labels.unite(one, two)
    labels.unite(two, three)
    roots = {labels.root(axis[0][0]) for axis in (one, two, three)}
    assert len(roots) == 1
    other = labels.axis(5)
    labels.unite(one, other)
    assert labels.root(other[0][0]) not in roots


def test_names_of_factors_tell_pieces_apart():
    name = origin(7, 2)
    pieces = {name, outer_piece(name, 4), outer_piece(outer_piece(name, 4), 3)}
    assert len(pieces) == 3
    assert {place(piece) for piece in pieces} == {(7, 2)}
    assert outer_piece(-1, 4) == -1


def test_a_view_of_a_parameter():
    view = whole(3, (4, 5))
    (term,) = view.terms
    assert [place(axis[0][0]) for axis in term.axes] == [(3, 0), (3, 1)]
    (turned,) = with_axes(view, lambda axes: axes[::-1]).terms
    assert turned.axes == term.axes[::-1]
