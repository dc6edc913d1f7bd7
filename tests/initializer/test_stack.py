"""Stacks and blocks: each part is the draw that it would be alone."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from tests.support import laws
from tests.support.counting import count_compilations
from tests.support.foreign import plain
from tests.support.split import slow_unless


def decaying(index):
    return jinit.he() * (index + 1) ** -0.5


def by_parity(index):
    return jinit.lecun() if index % 2 else jinit.orthogonal()


PARTS = [
    jinit.he(), jinit.he_normal(), jinit.uniform(2.0), 0.5 * jinit.xavier(),
    jinit.orthogonal(), jinit.constant(3.0), nn.initializers.lecun_normal(), plain,
    decaying, by_parity,
]  # fmt: skip


def part_of(init, index):
    return init(index) if init in (decaying, by_parity) else init


def assert_slices(init, axis, dtype, key, atol):
    shape = (4, 6, 10) if axis == 0 else (6, 10, 4)
    stack = jinit.stacked(init, axis)
    eager = stack(key, shape, dtype)
    jitted = jax.jit(lambda k: stack(k, shape, dtype))(key)
    for index in range(4):
        own = part_of(init, index)(jax.random.fold_in(key, index), (6, 10), dtype)
        for x in (eager, jitted):
            assert x.shape == shape and x.dtype == own.dtype == dtype
            part = np.asarray(jnp.take(x, index, axis), np.float32)
            np.testing.assert_allclose(part, np.asarray(own, np.float32), 0, atol)


# Every part at the first axis, and some at the last.
AXES = [(init, axis) for init in PARTS for axis in (0, -1)]
SOME = [case for case in AXES if case[1] == 0 or case[0] in (PARTS[0], decaying)]


@pytest.mark.parametrize("init, axis", slow_unless(SOME, AXES))
def test_slices_are_the_draws_of_their_own(init, axis, key):
    # Matrix products, and JAX's normal laws under jit, round otherwise.
    inexact = init in (plain, by_parity) or init == jinit.orthogonal()
    assert_slices(init, axis, "float32", key, atol=1e-6 if inexact else 0)


@pytest.mark.parametrize("init", [jinit.he(), decaying])
def test_slices_in_bfloat16(init, key):
    assert_slices(init, 0, "bfloat16", key, atol=0)


def test_each_layer_has_its_own_scale_and_fans(key):
    x = jinit.stacked(decaying)(key, (3, 400, 500))
    for index in range(3):
        std = (2 / 400 / (index + 1)) ** 0.5
        laws.assert_law(x[index], laws.normal(std))
        with pytest.raises(AssertionError):  # the fan that JAX's default axes give
            laws.assert_law(x[index], laws.normal((2 / 1200 / (index + 1)) ** 0.5))


def test_a_deep_stack_is_one_program(key):
    # Two shapes that no other test draws, so that nothing of them is compiled before.
    for shape in ((3, 7, 11), (96, 7, 13)):
        with count_compilations() as count:
            jinit.stacked(decaying)(key, shape).block_until_ready()
        assert 1 <= count() <= 2
    with count_compilations() as count:
        jinit.stacked(lambda i: jinit.he() * 0.1 * (i + 2))(key, shape)
    assert count() == 0


def test_std():
    assert jinit.stacked(jinit.he()).std((5, 512, 256)) == 0.0625
    assert jinit.stacked(decaying).std((5, 512, 256)) is None
    assert jinit.stacked(plain).std((5, 512, 256)) is None
    assert jinit.stacked(jinit.he()).std((0, 512, 256)) is None
    assert jinit.blocks((jinit.xavier(), 3)).std((8, 24)) == jinit.xavier().std((8, 8))
    assert jinit.blocks([jinit.xavier(), plain]).std((8, 24)) is None


@pytest.mark.parametrize("sizes", [None, (10, 4, 1)])
def test_blocks_are_the_draws_of_their_own(sizes, key):
    inits = [jinit.xavier(), nn.initializers.he_uniform(), plain]
    init = jinit.blocks(inits, axis=0, sizes=sizes)
    x, start = init(key, (15, 6)), 0
    for index, size in enumerate(sizes or (5, 5, 5)):
        own = inits[index](jax.random.fold_in(key, index), (size, 6))
        np.testing.assert_allclose(x[start : start + size], own, atol=1e-7)
        start += size


def test_blocks_have_the_fans_of_a_block(key):
    x = jinit.blocks((jinit.xavier(), 3))(key, (300, 900))
    laws.assert_law(x, laws.normal((2 / 600) ** 0.5))
    with pytest.raises(AssertionError):
        laws.assert_law(x, laws.normal((2 / 1200) ** 0.5))
    assert jinit.blocks((plain, 2)) == jinit.blocks([plain, plain])


def test_scaling_reaches_the_parts(key):
    init = jinit.blocks([jinit.he(), plain], axis=0)
    np.testing.assert_allclose(
        (init * -0.5)(key, (8, 4)), -0.5 * init(key, (8, 4)), rtol=1e-6
    )
    stack = jinit.stacked(plain)
    np.testing.assert_allclose((2 * stack)(key, (3, 8, 4)), 2 * stack(key, (3, 8, 4)))


def test_types_of_the_parts(key):
    half = jinit.blocks([jinit.he(dtype="float16")] * 2)
    assert half(key, (4, 4)).dtype == "float16"
    assert jinit.stacked(jinit.he(dtype="float16"))(key, (2, 4, 4)).dtype == "float16"
    mixed = jinit.blocks([jinit.he(dtype="float16"), jinit.he()])
    with pytest.raises(ValueError, match="different types.*float16"):
        mixed(key, (4, 4))
    assert mixed(key, (4, 4), "bfloat16").dtype == "bfloat16"


def test_in_a_plan(key):
    shapes = {"layers": {"kernel": jax.ShapeDtypeStruct((5, 300, 400), jnp.float32)}}
    plan = jinit.plan(shapes, [("**/kernel", jinit.stacked(decaying))])
    kernel = plan.init(key)["layers"]["kernel"]
    laws.assert_moments(kernel[4], 0.0, (2 / 300 / 5) ** 0.5, 3.0)
    (row,) = plan.rows
    assert row["layout"] == "bio" and row["std"] is None
    (row,) = jinit.plan(shapes, [("**", jinit.stacked(jinit.he()))]).rows
    assert (row["layout"], row["fan_in"], row["fan_out"]) == ("bio", 300, 400)
    (row,) = jinit.plan(
        {"w": jnp.ones((8, 24))}, [("w", jinit.blocks((jinit.he(), 3)))]
    ).rows
    assert (row["layout"], row["fan_in"], row["fan_out"]) == ("io", 8, 8)


ERRORS = [
    (lambda: jinit.stacked(3), TypeError, "`init` is 3"),
    (lambda: jinit.stacked(jinit.he(), (0, 1)), TypeError, "must be one integer"),
    (lambda: jinit.blocks(jinit.he()), TypeError, "`inits` is jinit.he"),
    (lambda: jinit.blocks([]), TypeError, "at least one"),
    (lambda: jinit.blocks([jinit.he(), 3.0]), TypeError, "nothing else"),
    (lambda: jinit.blocks((jinit.he(), 0)), ValueError, "`n` is 0"),
    (
        lambda: jinit.blocks((jinit.he(), 2), sizes=(1,)),
        ValueError,
        "one size for each",
    ),
]


@pytest.mark.parametrize("make, error, text", ERRORS)
def test_errors_of_the_makers(make, error, text):
    with pytest.raises(error, match=text):
        make()


CALLS = [
    (jinit.blocks((jinit.he(), 3)), (4, 8), "multiple of 3, the number of blocks"),
    (jinit.blocks((jinit.he(), 2), sizes=(1, 2)), (4, 8), r"sum to 3; they must agree"),
    (jinit.stacked(jinit.he(), 3), (2, 4, 8), "`axis` is 3"),
    (jinit.stacked(jinit.he()), (2, 4), "too few to tell inputs from outputs"),
    (jinit.stacked(jinit.he()), (0, 4), "too few to tell inputs from outputs"),
]


@pytest.mark.parametrize("init, shape, text", CALLS)
def test_errors_of_calls(init, shape, text, key):
    with pytest.raises(ValueError, match=text):
        init(key, shape)
    with pytest.raises(TypeError, match="must return an initializer"):
        jinit.stacked(lambda index: index)(key, (2, 4, 4))


def test_foreign_parts_have_no_configuration():
    with pytest.raises(ValueError, match="`inits` is .*plain"):
        jinit.to_config(jinit.blocks([jinit.he(), plain]))
