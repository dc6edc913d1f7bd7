"""Fans against lines written by hand, and against JAX's own."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax._src.nn.initializers import _compute_fans

import jinit
from jinit import Fans, fans, fans_from_einsum
from jinit._scale.fans import jax_fans

# what, shape, arguments, fan_in, fan_out
HAND = [
    ("Dense", (784, 256), {}, 784, 256),
    ("Dense by layout", (784, 256), {"layout": "io"}, 784, 256),
    ("PyTorch's linear", (256, 784), {"layout": "oi"}, 784, 256),
    ("Conv 1-D", (5, 16, 32), {}, 80, 160),
    ("Conv 2-D", (3, 3, 64, 128), {}, 576, 1152),
    ("Conv 3-D", (2, 3, 4, 8, 16), {}, 192, 384),
    ("Conv 2-D of PyTorch", (128, 64, 3, 3), {"layout": "oikk"}, 576, 1152),
    ("Conv, 4 groups", (3, 3, 16, 128), {"groups": 4}, 144, 288),
    ("depthwise", (3, 3, 1, 128), {"groups": 128}, 9, 9),
    ("depthwise by layout", (3, 3, 1, 128), {"layout": "kkio", "groups": 128}, 9, 9),
    ("transposed, kernel flipped", (3, 3, 32, 128), {"layout": "kkoi"}, 1152, 288),
    ("query", (512, 8, 64), {"layout": "ioo"}, 512, 512),
    ("query by axes", (512, 8, 64), {"in_axis": 0, "out_axis": (1, 2)}, 512, 512),
    ("attention output", (8, 64, 512), {"layout": "iio"}, 512, 512),
    ("fused QKV", (512, 3, 8, 64), {"layout": "iboo"}, 512, 512),
    ("grouped-query key", (512, 2, 64), {"layout": "ioo"}, 512, 128),
    ("experts", (16, 512, 2048), {"layout": "bio"}, 512, 2048),
    ("scanned Dense", (24, 512, 2048), {"batch_axis": 0}, 512, 2048),
    ("scanned query", (24, 512, 8, 64), {"layout": "bioo"}, 512, 512),
    ("embedding", (32_000, 512), {"layout": "bo"}, 1, 512),
    ("bias", (512,), {"layout": "o"}, 1, 512),
    ("negative axes", (4, 5, 6), {"in_axis": -3, "out_axis": (-2, -1)}, 4, 30),
    ("no inputs", (0, 5), {}, 0, 5),
    ("empty window", (0, 3, 5), {}, 0, 0),
]


@pytest.mark.parametrize("what, shape, arguments, fan_in, fan_out", HAND)
def test_by_hand(what, shape, arguments, fan_in, fan_out):
    found = fans(shape, **arguments)
    assert found == Fans(fan_in, fan_out)
    assert type(found.fan_in) is int and type(found.fan_out) is int


EINSUM = [
    ("bd,df->bf", (512, 2048), 1, (512, 2048)),
    ("df,bd->bf", (512, 2048), 0, (512, 2048)),
    ("bd,df->bf", (512, 2048), -1, (512, 2048)),
    ("btd,dhk->bthk", (512, 8, 64), 1, (512, 512)),
    ("bthk,hkd->btd", (8, 64, 512), 1, (512, 512)),
    ("ebd, edf -> ebf", (16, 512, 2048), 1, (512, 2048)),
    ("abc,cde->abde", (256, 8, 32), 1, (256, 256)),
    ("...d,df->...f", (512, 2048), 1, (512, 2048)),
    ("bd,df", (512, 2048), 1, (512, 2048)),
    ("bd,...df->b...f", (16, 512, 2048), 1, (512, 2048)),
    ("btd,d->btd", (512,), 1, None),
]


@pytest.mark.parametrize("equation, shape, operand, expected", EINSUM)
def test_einsum(equation, shape, operand, expected):
    if expected is None:
        # A scale: every axis is shared, nothing is summed and nothing is new.
        with pytest.raises(ValueError, match="neither an input nor an output"):
            fans_from_einsum(equation, shape, operand)
    else:
        assert fans_from_einsum(equation, shape, operand) == expected


SHAPES = st.lists(st.integers(0, 9), min_size=2, max_size=5).map(tuple)


@st.composite
def shape_and_axes(draw, overlap: bool):
    shape = draw(SHAPES)
    axes = list(range(len(shape)))
    if overlap:
        pick = st.lists(st.sampled_from(axes), min_size=1, max_size=2, unique=True)
        return shape, draw(pick), draw(pick), draw(pick | st.just([]))
    first, second, *rest = draw(st.permutations(axes))
    return shape, [first], [second], rest[: draw(st.integers(0, 1))]


@settings(deadline=None)
@given(shape_and_axes(overlap=True))
def test_jax_names_count_as_jax_does(case):
    shape, in_axis, out_axis, batch_axis = case
    if 0 in shape:
        assert all(f >= 0 for f in jax_fans(shape, in_axis, out_axis, batch_axis))
    else:
        ours = jax_fans(shape, in_axis, out_axis, batch_axis)
        assert ours == _compute_fans(shape, in_axis, out_axis, batch_axis)


@settings(deadline=None)
@given(shape_and_axes(overlap=False))
def test_layouts_axes_and_jax_agree(case):
    shape, in_axis, out_axis, batch_axis = case
    letters = {**dict.fromkeys(in_axis, "i"), **dict.fromkeys(out_axis, "o")}
    letters |= dict.fromkeys(batch_axis, "b")
    layout = "".join(letters.get(axis, "k") for axis in range(len(shape)))
    by_layout = fans(shape, layout)
    by_axes = fans(shape, in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis)
    assert by_layout == by_axes
    if 0 not in shape:
        expected = _compute_fans(shape, in_axis, out_axis, batch_axis)
        assert by_axes == tuple(pytest.approx(f) for f in expected)
    negative = [axis - len(shape) for axis in in_axis]
    assert by_axes == fans(
        shape, in_axis=negative, out_axis=out_axis, batch_axis=batch_axis
    )


@settings(deadline=None)
@given(st.text("iokb", min_size=1, max_size=5), st.data())
def test_every_layout_counts_each_axis_once(layout, data):
    sizes = st.lists(st.integers(1, 7), min_size=len(layout), max_size=len(layout))
    shape = tuple(data.draw(sizes))
    if not set(layout) & set("io"):
        with pytest.raises(ValueError, match="neither an input nor an output"):
            fans(shape, layout)
        return
    found = fans(shape, layout)
    pairs = list(zip(shape, layout, strict=True))
    i, o, k = (math.prod(d for d, name in pairs if name == c) for c in "iok")
    assert found == (i * k, o * k)


ERRORS = [
    (lambda: fans((5,)), ValueError, r"`shape` is \(5,\), which has 1 axes"),
    (lambda: fans(()), ValueError, "too few"),
    (lambda: fans((3, 4), "ioo"), ValueError, "3 letters, and shape \\(3, 4\\) has 2"),
    (lambda: fans((3, 4), "ioo"), ValueError, "DenseGeneral.*`fan_in=`"),
    (lambda: fans((3, 4), "iz"), ValueError, "'z' has no meaning.*'k' window"),
    (lambda: fans((3, 4), 5), TypeError, "a string of one letter per axis"),
    (lambda: fans((3, 4), "kb"), ValueError, "neither an input nor an output"),
    (lambda: fans((3, 4), "io", in_axis=0), ValueError, "pass either the layout"),
    (lambda: fans((3, 4), in_axis=2), ValueError, r"has 2 axes.*\[-2, 1\]"),
    (lambda: fans((3, 4), in_axis=(0, 0)), ValueError, "twice"),
    (lambda: fans((3, 4), in_axis=0, out_axis=0), ValueError, "both name axis 0"),
    (lambda: fans((3, 4, 5), batch_axis=2), ValueError, "`out_axis` -1 and `batch_ax"),
    (lambda: fans((3, 4), groups=3), ValueError, "does not divide the 4 outputs"),
    (lambda: fans((3, 4), groups=0), ValueError, "`groups` is 0"),
    (lambda: fans((3, 4), in_axis="i"), TypeError, "`in_axis` is 'i'"),
    (lambda: fans((3, -4)), ValueError, "negative"),
    (lambda: fans((3, 4.0)), TypeError, "4.0 is not an integer"),
    (lambda: jax_fans((3,), -2, -1, ()), ValueError, "too few"),
    (lambda: jax_fans((3, 4), 7, -1, ()), ValueError, "has 2 axes"),
    (lambda: fans_from_einsum("bd,df->bf", (3, 4, 5)), ValueError, "must agree"),
    (lambda: fans_from_einsum("bd,df->bf", (3, 4), 2), ValueError, "has 2 operands"),
    (lambda: fans_from_einsum("bd,df->bf", (3, 4), "1"), TypeError, "an integer"),
    (lambda: fans_from_einsum("bd,dd->b", (3, 3)), ValueError, "repeats an axis"),
    (lambda: fans_from_einsum("bd,d1->b1", (3, 3)), ValueError, "letters for axes"),
    (lambda: fans_from_einsum("bd,df->bz", (3, 3)), ValueError, "has z, which no"),
    (lambda: fans_from_einsum(7, (3, 3)), TypeError, "a string"),
    (lambda: fans_from_einsum("b,...cdef->b", (3, 3)), ValueError, "at least 4 axes"),
]  # fmt: skip


@pytest.mark.parametrize("call, error, text", ERRORS)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_schemes_take_their_fans_from_an_equation():
    fan_in, fan_out = fans_from_einsum("btd,dhk->bthk", (512, 8, 64))
    init = jinit.xavier(fan_in=fan_in, fan_out=fan_out)
    assert init.std((512, 512)) == init.std((512, 8, 64)) == (2 / 1024) ** 0.5
