"""`depth_scaled`: each slice has the law of its layer."""

import jax
import numpy as np
import pytest

import jinit
from tests.support import laws

SHAPE = (4, 64, 96)


def factor(index):
    return (2 * (index + 1)) ** -0.5


def test_each_slice_has_the_std_of_its_index(key):
    w = np.asarray(jinit.depth_scaled(jinit.normal(0.02))(key, SHAPE))
    for index in range(4):
        std = 0.02 / (2 * (index + 1)) ** 0.5
        laws.assert_law(w[index].ravel(), laws.normal(std))
        with pytest.raises(AssertionError):
            laws.assert_law(
                w[index].ravel(), laws.normal(0.02 / (2 * index + 6) ** 0.5)
            )


@pytest.mark.parametrize(
    "axis, shape", [(0, (4, 8, 6)), (1, (8, 4, 6)), (-1, (8, 6, 4))]
)
@pytest.mark.parametrize("init", [jinit.normal(), jinit.he(), jinit.orthogonal()])
def test_a_slice_is_the_scaled_draw_of_its_own_key(axis, shape, init, key):
    w = jinit.depth_scaled(init, axis)(key, shape)
    for index, one in enumerate(np.moveaxis(np.asarray(w), axis, 0)):
        alone = (factor(index) * init)(jax.random.fold_in(key, index), (8, 6))
        np.testing.assert_allclose(one, alone, rtol=2e-6, atol=1e-7)


def test_the_start_and_the_step_move_the_index(key):
    plain = jinit.normal()(jax.random.fold_in(key, 1), (5, 3))
    for start, step, index in ((2, 1, 3), (2, 3, 5), (3, -1, 2)):
        w = jinit.depth_scaled(jinit.normal(), start=start, step=step)(key, (4, 5, 3))
        np.testing.assert_allclose(w[1], factor(index) * plain, rtol=1e-6)


def test_a_stack_of_stacks_has_a_step_for_each_axis(key):
    init = jinit.depth_scaled(jinit.normal(), (0, 2), start=1, step=(6, 2))
    w = np.asarray(init(key, (2, 5, 3, 7)))
    for outer in range(2):
        for inner in range(3):
            one = jax.random.fold_in(key, 3 * outer + inner)
            plain = jinit.normal()(one, (5, 7)) * factor(1 + 6 * outer + 2 * inner)
            np.testing.assert_allclose(w[outer, :, inner], plain, rtol=1e-6)


def test_the_fans_are_those_of_one_layer():
    init = jinit.depth_scaled(jinit.he(), 1)
    assert init.layout_and_fans((8, 4, 6)) == ("ibo", (8, 6))
    assert init.std((8, 4, 6)) is None
    assert init.std((8, 1, 6)) == pytest.approx(factor(0) * (2 / 8) ** 0.5)
    experts = jinit.depth_scaled(jinit.he(layout="bio"), 0)
    assert experts.layout_and_fans((3, 5, 8, 6)) == ("bbio", (8, 6))


def test_a_plan_tells_it_the_axes_of_a_network(key):
    def model(params, x):
        def one(x, w):
            return x + jax.nn.relu(x @ w[0].T) @ w[1].T, None

        return jax.lax.scan(one, x, (params["up"], params["down"]))[0]

    shapes = {"up": np.ones((3, 16, 8)), "down": np.ones((3, 8, 16))}
    net = jinit.network(model, shapes, np.ones((2, 8)))
    rule = ("**", jinit.depth_scaled(jinit.he()))
    plan = jinit.plan(net, [rule])
    assert [row["layout"] for row in plan.rows] == ["boi", "boi"]
    drawn = plan.init(key)["down"]
    for index in range(3):
        std = factor(index) * (2 / 16) ** 0.5
        laws.assert_moments(np.ravel(drawn[index]), 0.0, std, 3.0)


def test_it_is_a_value():
    init = jinit.depth_scaled(jinit.normal(0.02), (0, 1), start=2, step=(4, 1))
    assert repr(init) == (
        "jinit.depth_scaled(jinit.normal(stddev=0.02), axis=(0, 1), "
        "start=2, step=(4, 1))"
    )
    assert jinit.from_config(jinit.to_config(init)) == init


@pytest.mark.parametrize(
    "settings, error, text",
    [
        ({"step": (1, 2)}, ValueError, "give one step for each axis"),
        ({"axis": (0, 1), "step": 1}, ValueError, "give one step for each axis"),
        ({"axis": (0, 0), "step": (1, 1)}, ValueError, "axis"),
        ({"start": 0.5}, TypeError, "`start`"),
        ({"step": "a"}, TypeError, "`step`"),
    ],
)
def test_wrong_settings(settings, error, text):
    with pytest.raises(error, match=text):
        jinit.depth_scaled(jinit.he(), **settings)


def test_an_index_below_0_is_an_error(key):
    init = jinit.depth_scaled(jinit.normal(), start=1, step=-1)
    assert init(key, (2, 3)).shape == (2, 3)
    with pytest.raises(ValueError, match="has the index -1; indices begin at 0"):
        init(key, (3, 3))


def test_no_layers_give_an_empty_array(key):
    assert jinit.depth_scaled(jinit.he())(key, (0, 4, 3)).shape == (0, 4, 3)
