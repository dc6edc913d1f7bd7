"""The order of residual sums gives the index of each layer, also through scans."""

import jax
import jax.numpy as jnp
import pytest

import jinit
from jinit import recipes
from jinit._plan.layer_index import layer_index
from jinit._plan.model import Model
from tests.support.networks import floats

SIZE = 8


def attention(p, x, source=None):
    source = x if source is None else source
    q, k, v = x @ p["q"], source @ p["k"], source @ p["v"]
    return jax.nn.softmax(q @ k.mT) @ v @ p["o"]


def mlp(p, x):
    return (jax.nn.silu(x @ p["gate"]) * (x @ p["up"])) @ p["down"]


def layer(p, x):
    x = x + attention(p, x)
    return x + mlp(p, x)


def params(*before):
    square = dict.fromkeys("qkvo", floats(*before, SIZE, SIZE))
    wide = dict.fromkeys(("gate", "up"), floats(*before, SIZE, 12))
    return square | wide | {"down": floats(*before, 12, SIZE)}


X = floats(2, 5, SIZE)


def index_of(function, tree, *inputs, num_layers=None):
    net = jinit.network(function, tree, *(inputs or (X,)))
    return layer_index(Model.of(net), num_layers, "the test")


def starts(index):
    return {path: tuple(stack) for path, stack in index.stacks.items()}


def test_layers_are_counted_in_the_order_of_execution():
    # The names say the opposite of the order.
    def model(p, x):
        return layer(p["layer_0"], layer(p["layer_1"], layer(p["layer_2"], x)))

    index = index_of(model, {f"layer_{i}": params() for i in range(3)})
    assert index.number == 3
    assert starts(index)["layer_2/down"] == (0, (), ())
    assert starts(index)["layer_1/o"] == (1, (), ())
    assert starts(index)["layer_0/up"] == (2, (), ())


def test_parallel_branches_are_one_layer():
    def model(p, x):
        for one in p:
            x = x + attention(one, x) + mlp(one, x)
        return x

    index = index_of(model, [params(), params()])
    assert index.number == 2
    assert starts(index)["0/o"][0] == starts(index)["0/down"][0] == 0
    assert starts(index)["1/o"][0] == starts(index)["1/down"][0] == 1


def test_a_shared_expert_adds_no_layer():
    def model(p, x):
        for one in p:
            x = x + attention(one, x)
            x = x + mlp(one, x)
            x = x + mlp(one["shared"], x)
        return x

    tree = [params() | {"shared": params()} for _ in range(3)]
    for one in tree:
        for name in "qkvo":
            del one["shared"][name]
    index = index_of(model, tree)
    assert index.number == 3
    assert [starts(index)[f"{i}/shared/down"][0] for i in range(3)] == [0, 1, 2]


def test_a_cross_attention_begins_no_layer():
    def model(p, x, memory):
        for one in p:
            x = x + attention(one["self"], x)
            x = x + attention(one["cross"], x, memory)
            x = x + mlp(one["self"], x)
        return x

    index = index_of(model, [{"self": params(), "cross": cross()}] * 2, X, X)
    assert index.number == 2
    assert starts(index)["1/cross/o"][0] == starts(index)["1/self/down"][0] == 1


def cross():
    return {name: value for name, value in params().items() if name in "qkvo"}


def scanned(p, x, **options):
    return jax.lax.scan(lambda x, one: (layer(one, x), None), x, p, **options)[0]


def test_a_scan_is_as_many_layers_as_it_has_steps():
    index = index_of(scanned, params(4))
    assert index.number == 4
    assert starts(index)["down"] == (0, (0,), (1,))


def test_a_reversed_scan_counts_from_the_end():
    index = index_of(lambda p, x: scanned(p, x, reverse=True), params(4))
    assert starts(index)["down"] == (3, (0,), (-1,))


def test_layers_before_and_after_a_scan_and_several_layers_a_step():
    def model(p, x):
        x = layer(p["first"], x)

        def step(x, two):
            return layer(two["b"], layer(two["a"], x)), None

        x = jax.lax.scan(step, x, p["scanned"])[0]
        return layer(p["last"], x)

    tree = {"first": params(), "last": params()}
    tree["scanned"] = {"a": params(3), "b": params(3)}
    index = index_of(model, tree)
    assert index.number == 8
    assert starts(index)["first/o"] == (0, (), ())
    assert starts(index)["scanned/a/o"] == (1, (0,), (2,))
    assert starts(index)["scanned/b/o"] == (2, (0,), (2,))
    assert starts(index)["last/o"] == (7, (), ())


def test_two_scans_of_one_length_are_two():
    def model(p, x):
        return scanned(p["b"], scanned(p["a"], x))

    index = index_of(model, {"a": params(3), "b": params(3)})
    assert index.number == 6
    assert starts(index)["a/o"] == (0, (0,), (1,))
    assert starts(index)["b/o"] == (3, (0,), (1,))


def test_a_scan_of_scans_has_a_step_for_each_axis():
    def model(p, x):
        return jax.lax.scan(lambda x, one: (scanned(one, x), None), x, p)[0]

    index = index_of(model, params(2, 3))
    assert index.number == 6
    assert starts(index)["down"] == (0, (0, 1), (3, 1))
    # In the plan each of the six slices has the std of its own layer.
    net = jinit.network(model, params(2, 3), X)
    plan = jinit.plan(net, recipes.llama3())
    (leaf,) = [leaf for leaf in plan.leaves if leaf.path == "down"]
    assert leaf.init.axis == (0, 1) and leaf.init.step == (3, 1)


def test_time_is_no_layer():
    def model(p, xs):
        def step(h, x):
            h = jnp.tanh(x @ p["w"] + h @ p["u"])
            return h, layer(p["layer"], x)

        return jax.lax.scan(step, jnp.zeros((2, 5, SIZE)), xs)

    tree = {"w": floats(SIZE, SIZE), "u": floats(SIZE, SIZE), "layer": params()}
    assert index_of(model, tree, floats(4, 2, 5, SIZE)).number == 1


def test_without_attentions_two_sums_are_a_layer():
    def model(p, x):
        for one in p:
            x = x + mlp(one, x)
        return x

    tree = [{name: params()[name] for name in ("gate", "up", "down")}] * 4
    assert index_of(model, tree).number == 2
    assert index_of(model, tree, num_layers=4).number == 4
    assert starts(index_of(model, tree, num_layers=4))["3/down"][0] == 3
    with pytest.raises(ValueError, match="do not show which of them form one layer"):
        index_of(model, tree[:3])


def hybrid(p, x):
    """Two layers without an attention, then one with it."""
    for number, one in enumerate(p):
        x = x + (
            attention(one, x) if number == 2 else jnp.tanh(x @ one["q"]) @ one["o"]
        )
        x = x + mlp(one, x)
    return x


def test_attentions_in_some_layers_alone_do_not_count_layers():
    tree = [params() for _ in range(3)]
    for one in tree[:2]:
        del one["k"], one["v"]
    with pytest.raises(ValueError, match="6 residual sums.*Pass the number of layers"):
        index_of(hybrid, tree)
    index = index_of(hybrid, tree, num_layers=3)
    assert [starts(index)[f"{i}/down"][0] for i in range(3)] == [0, 1, 2]


def test_another_number_of_layers_is_an_error():
    def model(p, x):
        return layer(p[1], layer(p[0], x))

    with pytest.raises(ValueError, match="are 2 layers. `num_layers` is 3"):
        index_of(model, [params(), params()], num_layers=3)


def test_shared_parameters_have_no_index():
    def model(p, x):
        return layer(p, layer(p, x))

    index = index_of(model, params())
    with pytest.raises(ValueError, match="'down' has none: several layers share it"):
        index.of("down", "the test")

    def looped(p, x):
        return jax.lax.scan(lambda x, _: (layer(p, x), None), x, None, length=3)[0]

    index = index_of(looped, params())
    with pytest.raises(ValueError, match="the steps of a scan share it"):
        index.of("down", "the test")
    with pytest.raises(ValueError, match="it lies in no residual branch"):
        index.of("head", "the test")


def test_a_part_of_a_model_counts_its_own_layers():
    def model(p, x, y):
        for one in p["encoder"]:
            x = layer(one, x)
        for one in p["decoder"]:
            y = y + attention(one["self"], y)
            y = y + attention(one["cross"], y, x)
            y = y + mlp(one["self"], y)
        return y

    decoder = [{"self": params(), "cross": cross()}] * 2
    tree = {"encoder": [params()] * 3, "decoder": decoder}
    net = jinit.network(model, tree, X, X)
    rules = [*recipes.inside("encoder/**", recipes.llama3()), *recipes.llama3()]
    rules[len(recipes.llama3()) :] = recipes.inside("decoder/**", recipes.llama3())
    rows = {row["path"]: row["std"] for row in jinit.plan(net, rules).rows}
    for path, index in {
        "encoder/0/down": 0, "encoder/2/down": 2, "decoder/0/self/down": 0,
        "decoder/1/self/down": 1, "decoder/1/cross/o": 1,
    }.items():  # fmt: skip
        assert rows[path] == pytest.approx(0.02 / (2 * (index + 1)) ** 0.5), path


def test_an_ensemble_is_no_stack_of_layers():
    def model(p, x):
        return jax.vmap(layer, (0, None))(p, x)

    index = index_of(model, params(3))
    assert index.number == 1 and starts(index)["down"] == (0, (), ())
