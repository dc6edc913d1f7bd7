"""Every initializer keeps its law when a plan tells it the axes of a kernel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from jinit._initializer.foreign import with_axes
from jinit._initializer.kernel_axes import KernelAxes
from jinit._scale.fans import Fans

# A kernel in Flax's order, and the same kernel in others: the layout, and the axes by
# which `jnp.transpose` makes it.
IN_FLAX = {"io": (6, 10), "kkio": (3, 3, 6, 10)}
OTHERS = {
    "io": {"oi": (1, 0)},
    "kkio": {"oikk": (3, 2, 0, 1), "kkoi": (0, 1, 3, 2), "iokk": (2, 3, 0, 1)},
}
SCHEMES = [
    jinit.he(), jinit.he(mode="fan_out"), jinit.xavier(), jinit.lecun(),
    jinit.kaiming("tanh"), jinit.scaled_uniform(), jinit.small_init(),
    jinit.wang_init(4), jinit.he_normal(), jinit.glorot_uniform(),
    jinit.variance_scaling(1.0, "fan_geo_avg", "normal"), jinit.orthogonal(),
    jinit.scaled_orthogonal(), 0.5 * jinit.he(),
    jinit.with_dtype(jinit.xavier(), "float32"), jinit.normal(0.1), jinit.zeros,
]  # fmt: skip


@pytest.mark.parametrize("init", SCHEMES, ids=repr)
@pytest.mark.parametrize("order", IN_FLAX)
def test_the_std_does_not_depend_on_the_order_of_the_axes(init, order):
    shape = IN_FLAX[order]
    for layout, axes in OTHERS[order].items():
        known = with_axes(init, KernelAxes(layout))
        other = tuple(shape[axis] for axis in axes)
        assert known.std(other) == pytest.approx(init.std(shape)), layout
        # It is still a value that prints as Python.
        assert eval(repr(known), {"jinit": jinit}) == known
        assert jinit.from_config(jinit.to_config(known)) == known


@pytest.mark.parametrize("init", [jinit.dirac(), jinit.delta_orthogonal()], ids=repr)
def test_kernels_that_are_drawn_in_flax_s_order_are_transposed(init, key):
    shape = (3, 3, 6, 6)
    plain = init(key, shape)
    for layout, axes in OTHERS["kkio"].items():
        known = with_axes(init, KernelAxes(layout))
        drawn = known(key, tuple(shape[axis] for axis in axes))
        np.testing.assert_array_equal(drawn, jnp.transpose(plain, axes))
    with pytest.raises(ValueError, match="'bkkio'.*jinit.stacked"):
        with_axes(init, KernelAxes("bkkio"))
    stacked = with_axes(jinit.stacked(init), KernelAxes("boikk"))
    assert stacked(key, (2, 6, 6, 3, 3))[0].sum() == pytest.approx(
        float(init(jax.random.fold_in(key, 0), shape).sum()), abs=1e-5
    )


def test_sparse_kernels_take_all_axes_of_inputs():
    known = with_axes(jinit.sparse(0.5), KernelAxes("oikk"))
    assert known == jinit.sparse(0.5, axis=(1, 2, 3))
    assert with_axes(jinit.sparse(0.5, axis=1), KernelAxes("oi")).axis == 1


def test_groups_and_fans_that_the_shape_does_not_show():
    axes = KernelAxes("kkio", groups=5)
    shape = (3, 3, 2, 10)
    assert with_axes(jinit.he(mode="fan_out"), axes).std(shape) == (2 / 18) ** 0.5
    assert with_axes(jinit.glorot_normal(), axes).std(shape) == pytest.approx(
        (2 / (18 + 18)) ** 0.5
    )
    # The fan_in does not depend on groups, and JAX's scheme stays itself.
    assert with_axes(jinit.he_normal(), axes) == jinit.he_normal()
    # The user's own groups stay.
    init = jinit.he(mode="fan_out", groups=2)
    assert with_axes(init, axes).std(shape) == (2 / 45) ** 0.5
    flat = KernelAxes(None, fans=Fans(6, 10))
    for init in (jinit.xavier(), jinit.glorot_normal()):
        assert with_axes(init, flat).std((60,)) == pytest.approx((2 / 16) ** 0.5)
    assert with_axes(jinit.he(fan_in=3), flat).std((60,)) == (2 / 3) ** 0.5


def test_settings_that_name_axes_stay():
    axes = KernelAxes("oi")
    for init in (
        jinit.he(layout="io"),
        jinit.he(in_axis=0, out_axis=1),
        jinit.he(fan_in=7),
        jinit.he_normal(0, 1),
        jinit.orthogonal(column_axis=0),
        jinit.orthogonal(layout="io"),
        jinit.small_init(width=8),
        jinit.transposed(jinit.he()),
        jinit.torch_layout(jinit.he()),
    ):
        assert with_axes(init, axes) == init


def test_parts_of_composed_initializers():
    # Three blocks of outputs, in a kernel (out, in).
    blocks = with_axes(jinit.blocks((jinit.xavier(), 3), 0), KernelAxes("oi"))
    assert blocks.std((30, 6)) == pytest.approx((2 / 16) ** 0.5)
    stacked = with_axes(jinit.stacked(jinit.lecun()), KernelAxes("boi"))
    assert stacked.std((4, 10, 6)) == pytest.approx(6**-0.5)
    by_index = with_axes(
        jinit.stacked(lambda i: jinit.lecun() * (i + 1.0)), KernelAxes("boi")
    )
    drawn = by_index(jax.random.key(0), (2, 400, 100))
    assert float(drawn[1].std()) == pytest.approx(0.2, rel=0.05)
    padded = with_axes(jinit.padded(jinit.lecun(), 1), KernelAxes("oi"))
    drawn = padded(jax.random.key(0), (402, 102))
    assert float(drawn[1:-1, 1:-1].std()) == pytest.approx(0.1, rel=0.05)
    mask = jnp.ones((10, 6), bool)
    masked = with_axes(jinit.masked(mask, jinit.he(), jinit.zeros), KernelAxes("oi"))
    assert masked.a == jinit.he(layout="oi")


def test_schemes_that_need_a_layout_say_so():
    for init in (jinit.he(), jinit.he_normal(), jinit.orthogonal(), jinit.dirac()):
        with pytest.raises(ValueError, match="which axes are inputs"):
            with_axes(init, KernelAxes(None))
    for init in (jinit.normal(), jinit.zeros, jinit.he(fan_in=3)):
        assert with_axes(init, KernelAxes(None)) == init


def test_initializers_of_jax_are_refused_where_they_count_by_default():
    init = jax.nn.initializers.he_normal()
    assert with_axes(init, KernelAxes("io")) is init
    for wrapped in (init, jinit.scaled(init, 0.5), jinit.stacked(init)):
        layout = "boi" if isinstance(wrapped, type(jinit.stacked(init))) else "oi"
        with pytest.raises(ValueError, match="in_axis=-2 and out_axis=-1"):
            with_axes(wrapped, KernelAxes(layout))
    named = jax.nn.initializers.he_normal(1, 0)
    assert with_axes(named, KernelAxes("oi")) is named
