"""Residual sums, their branches and the depth are read from who descends from whom."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import jinit
from tests.support.networks import conv, floats, network, rms, with_role

MLP = {"a": (6, 8), "b": (8, 6)}
TWO = MLP | {"c": (6, 8), "d": (8, 6)}


def mlp(p, x, up="a", down="b"):
    return jax.nn.relu(x @ p[up]) @ p[down]


def pre_norm(p, x):
    x = x + mlp(p, rms(x))
    return x + mlp(p, rms(x), "c", "d")


def post_norm(p, x):
    x = rms(x + mlp(p, x))
    return rms(x + mlp(p, x, "c", "d"))


def sandwich(p, x):
    x = x + rms(mlp(p, rms(x)))
    return x + rms(mlp(p, rms(x), "c", "d"))


def deep_norm(p, x):
    x = rms(2.2 * x + mlp(p, x))
    return rms(2.2 * x + mlp(p, x, "c", "d"))


def parallel(p, x):
    h = rms(x)
    return x + mlp(p, h) + mlp(p, h, "c", "d")


def parallel_summed_first(p, x):
    h = rms(x)
    return x + (mlp(p, h) + mlp(p, h, "c", "d"))


def over_a_list(p, x):
    return sum([x, mlp(p, x), mlp(p, x, "c", "d")])


def scaled(p, x):
    x = x + p["skip"] * mlp(p, x)
    return x + p["vector"] * mlp(p, x, "c", "d")


@pytest.mark.parametrize(
    "function",
    [
        pre_norm,
        post_norm,
        sandwich,
        deep_norm,
        parallel,
        parallel_summed_first,
        over_a_list,
        scaled,
    ],
)
def test_two_branches(function):
    shapes = TWO | ({"skip": (), "vector": (6,)} if function is scaled else {})
    net = network(function, shapes, floats(2, 6))
    # Two branches that are summed first are added to the stream once.
    assert net.depth == (1 if function is parallel_summed_first else 2)
    assert with_role(net, "residual_output") == {"b", "d"}
    assert [branch.ends for branch in net.branches] == [("b",), ("d",)]
    assert [branch.layers for branch in net.branches] == [("a", "b"), ("c", "d")]


def test_a_branch_begins_where_it_leaves_the_stream():
    net = network(
        lambda p, x: pre_norm(p, x @ p["in"]), TWO | {"in": (5, 6)}, floats(2, 5)
    )
    assert [branch.begin for branch in net.branches] == [("in",), ("in", "b")]
    assert net.branches[0].count == 1


def test_sums_that_are_not_residual():
    def function(p, x, y):
        wide = x @ p["a"] + y @ p["c"]
        gates = jax.nn.sigmoid(x @ p["e"])
        h = gates * jnp.tanh(wide) + (1 - gates) * (x @ p["f"])
        return jnp.concatenate([h, jax.nn.relu(h)], -1) @ p["d"]

    shapes = {"a": (6, 8), "c": (6, 8), "e": (6, 8), "f": (6, 8), "d": (16, 3)}
    net = network(function, shapes, floats(2, 6), floats(2, 6))
    assert net.depth == 0
    assert not net.branches
    assert not with_role(net, "residual_output")


def test_a_loss_that_compares_with_the_input_is_no_branch():
    net = network(lambda p, x: jnp.mean((x - mlp(p, x)) ** 2), MLP, floats(2, 6))
    assert net.depth == 0


def test_differences_from_the_stream_and_sums_by_scatter():
    def function(p, x):
        x = x @ p["in"]
        x = x - mlp(p, rms(x))
        return x.at[:, :3].add(mlp(p, rms(x), "c", "d")[:, :3])

    net = network(function, TWO | {"in": (5, 6)}, floats(2, 5))
    assert net.depth == 2
    assert with_role(net, "residual_output") == {"b", "d"}


def test_a_branch_holds_what_descends_from_its_beginning():
    def function(p, x, y):
        encoded = y @ p["encoder"]
        q, k, v = rms(x) @ p["q"], encoded @ p["k"], encoded @ p["v"]
        return x + jax.nn.softmax(q @ k.T) @ v @ p["o"]

    shapes = {"encoder": (5, 6)} | dict.fromkeys("qkvo", (6, 6))
    net = network(function, shapes, floats(3, 6), floats(4, 5))
    (branch,) = net.branches
    assert branch.layers == ("q", "o")
    assert branch.begin == ("data",)


def test_an_estimator_that_gradients_pass_straight_is_no_branch():
    def function(p, x):
        h = x @ p["a"]
        code = jnp.round(jnp.tanh(h @ p["e"]))
        return (h + jax.lax.stop_gradient(code - h)) @ p["b"]

    assert network(function, MLP | {"e": (8, 8)}, floats(2, 6)).depth == 0


def test_an_adapter_beside_its_matrix_is_one_branch():
    def function(p, x):
        h = jax.nn.relu(x @ p["a"])
        return x + (h @ p["b"] + 0.5 * (h @ p["down"] @ p["up"]))

    net = network(function, MLP | {"down": (8, 2), "up": (2, 6)}, floats(2, 6))
    assert net.depth == 1
    assert with_role(net, "residual_output") == {"b", "up"}


def test_an_adapter_alone_is_no_branch():
    net = network(
        lambda p, x: x @ p["w"] + x @ p["down"] @ p["up"],
        {"w": (6, 4), "down": (6, 2), "up": (2, 4)},
        floats(3, 6),
    )
    assert net.depth == 0


def test_long_skips_that_are_added_and_those_that_are_put_beside():
    def added(p, x):
        one = jax.nn.relu(x @ p["a"])
        two = jax.nn.relu(one @ p["b"])
        return (one + two @ p["c"]) @ p["d"]

    def beside(p, x):
        one = jax.nn.relu(x @ p["a"])
        two = jax.nn.relu(one @ p["b"])
        return jnp.concatenate([one, two @ p["c"]], -1) @ p["d"]

    shapes = {"a": (6, 8), "b": (8, 9), "c": (9, 8), "d": (8, 3)}
    net = network(added, shapes, floats(2, 6))
    assert (net.depth, net.branches[0].begin) == (1, ("a",))
    assert net.branches[0].layers == ("b", "c")
    assert network(beside, shapes | {"d": (16, 3)}, floats(2, 6)).depth == 0


class Block(nn.Module):
    features: int
    strides: int = 1

    @nn.compact
    def __call__(self, x, train):
        norm = lambda name: nn.BatchNorm(use_running_average=not train, name=name)  # noqa: E731
        strides = (self.strides, self.strides)
        y = nn.Conv(self.features, (3, 3), strides, use_bias=False, name="one")(x)
        y = nn.relu(norm("norm_one")(y))
        y = nn.Conv(self.features, (3, 3), use_bias=False, name="two")(y)
        y = norm("norm_two")(y)
        if x.shape != y.shape:
            x = nn.Conv(self.features, (1, 1), strides, use_bias=False, name="short")(x)
            x = norm("norm_short")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.max_pool(nn.relu(nn.Conv(8, (3, 3), name="stem")(x)), (2, 2), (2, 2))
        for i, (features, strides) in enumerate([(8, 1), (16, 2), (16, 1)]):
            x = Block(features, strides, name=f"block_{i}")(x, train)
        return nn.Dense(10, name="head")(x.mean((1, 2)))


@pytest.mark.parametrize("train", [False, True])
def test_projection_shortcuts_with_batch_norms(train):
    model, x = ResNet(), floats(2, 16, 16, 3)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    if train:
        net = jinit.network(
            lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"])[0],
            variables,
            x,
        )
    else:
        net = jinit.network(model, variables, x)
    assert net.depth == 3
    ends = with_role(net, "residual_output")
    assert ends == {f"block_{i}/two/kernel" for i in range(3)}
    scales = with_role(net, "scale")
    assert scales == {path for path in net.parameters if path.endswith("scale")}
    assert with_role(net, "readout") == {"head/kernel"}
    assert with_role(net, "input") == {"stem/kernel"}
    assert net.parameters["block_0/two/kernel"].activation == "relu"


def test_squeeze_and_excitation_does_not_end_a_branch():
    def function(p, x):
        y = conv(jax.nn.relu(conv(x, p["a"])), p["b"])
        pooled = y.mean((1, 2), keepdims=True)
        return x + y * jax.nn.sigmoid(jax.nn.relu(pooled @ p["c"]) @ p["d"])

    shapes = {"a": (3, 3, 6, 8), "b": (3, 3, 8, 6), "c": (6, 2), "d": (2, 6)}
    net = network(function, shapes, floats(2, 8, 8, 6))
    assert net.depth == 1
    assert with_role(net, "residual_output") == {"b"}


def test_a_condition_does_not_end_a_branch():
    def function(p, x, time):
        shift, gate = jnp.split(jax.nn.silu(time) @ p["c"], 2, axis=-1)
        return x + gate * mlp(p, rms(x) + shift)

    net = network(function, MLP | {"c": (4, 12)}, floats(2, 6), floats(2, 4))
    assert net.depth == 1
    assert with_role(net, "residual_output") == {"b"}


def test_dropout_and_drop_path():
    def function(p, x, key):
        keep = jax.random.bernoulli(key, 0.9, (2, 1))
        return x + jnp.where(keep, mlp(p, x) / 0.9, 0.0)

    key = jax.eval_shape(lambda: jax.random.key(0))
    net = network(function, MLP, floats(2, 6), key)
    assert net.depth == 1
    assert with_role(net, "residual_output") == {"b"}


def test_steps_over_time_do_not_add_to_the_depth():
    def function(p, xs):
        def step(h, x):
            return jnp.tanh(x @ p["w"] + h @ p["u"]), x + mlp(p, x)

        return jax.lax.scan(step, jnp.zeros((2, 8)), xs)[1]

    shapes = MLP | {"w": (6, 8), "u": (8, 8)}
    # The state of the recurrent part is dropped.
    net = network(function, shapes, floats(7, 2, 6), allow_unused=True)
    assert net.depth == 1


def test_state_space_layers_add_their_input_without_a_branch():
    def function(p, xs):
        rate = jnp.exp(-jnp.exp(p["rate"]))

        def step(h, x):
            h = rate * h + p["b"] @ x
            return h, p["c"] @ h + p["d"] * x

        return xs + jax.lax.scan(step, jnp.zeros(8), xs)[1] @ p["out"]

    shapes = {"rate": (8,), "b": (8, 6), "c": (6, 8), "d": (6,), "out": (6, 6)}
    net = network(function, shapes, floats(9, 6))
    assert net.depth == 1
    assert with_role(net, "residual_output") == {"out"}
    assert with_role(net, "recurrent") == {"rate"}
