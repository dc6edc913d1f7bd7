"""Axes of scans, ensembles and experts are members, and neither inputs nor outputs."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import jinit
from jinit import Fans
from tests.support.networks import conv, floats, layouts, network, with_role


def mlp(p, x):
    return jax.nn.relu(x @ p["a"] + p["c"]) @ p["b"]


def test_the_first_layer_of_an_ensemble():
    """All members read one input, so that their axis is free, as an output is."""
    net = network(
        lambda p, x: jax.vmap(mlp, (0, None))(p, x),
        {"a": (3, 6, 8), "b": (3, 8, 4), "c": (3, 8)},
        floats(5, 6),
    )
    assert layouts(net) == {"a": ("bio", 6, 8), "b": ("bio", 8, 4)}
    assert net.parameters["a"].members == 3
    assert net.parameters["c"].roles == {"bias"}


def test_an_ensemble_of_convolutions():
    def member(p, x):
        return conv(jax.nn.relu(conv(x, p["a"])), p["b"])

    net = network(
        lambda p, x: jax.vmap(member, (0, None))(p, x),
        {"a": (7, 3, 3, 4, 8), "b": (7, 3, 3, 8, 2)},
        floats(2, 8, 8, 4),
    )
    assert layouts(net) == {"a": ("bkkio", 36, 72), "b": ("bkkio", 72, 18)}
    assert [p.groups for p in net.parameters.values()] == [1, 1]


EXPERTS = {"router": (6, 3), "wi": (3, 6, 8), "wo": (3, 8, 6)}
EXPERT_LAYOUTS = {
    "router": ("io", 6, 3),
    "wi": ("bio", 6, 8),
    "wo": ("bio", 8, 6),
}


def one_einsum(p, x):
    h = jax.nn.relu(jnp.einsum("bd,edm->bem", x, p["wi"]))
    return jnp.einsum("bem,emd,be->bd", h, p["wo"], jax.nn.softmax(x @ p["router"]))


def two_einsums(p, x):
    h = jax.nn.relu(jnp.einsum("bd,edm->bem", x, p["wi"]))
    y = jnp.einsum("bem,emd->bed", h, p["wo"])
    return jnp.einsum("bed,be->bd", y, jax.nn.softmax(x @ p["router"]))


def vmapped(p, x):
    expert = jax.vmap(lambda a, b: jax.nn.relu(x @ a) @ b)
    weights = jax.nn.softmax(x @ p["router"])
    return jnp.einsum("ebd,be->bd", expert(p["wi"], p["wo"]), weights)


def listed(p, x):
    weights = jax.nn.softmax(x @ p["router"])
    return sum(
        weights[:, e : e + 1] * (jax.nn.relu(x @ p["wi"][e]) @ p["wo"][e])
        for e in range(3)
    )


def ragged(p, x):
    weights, experts = jax.lax.top_k(jax.nn.softmax(x @ p["router"]), 1)
    order = jnp.argsort(experts[:, 0])
    sizes = jnp.bincount(experts[:, 0], length=3)
    h = jax.nn.relu(jax.lax.ragged_dot(x[order], p["wi"], sizes))
    y = jax.lax.ragged_dot(h, p["wo"], sizes)
    return y[jnp.argsort(order)] * weights


def dispatched(p, x):
    weights = jax.nn.softmax(x @ p["router"])
    mask = jax.nn.one_hot(jnp.argmax(weights, -1), 3)
    places = (jnp.cumsum(mask, 0) * mask).astype(int) - 1
    dispatch = mask[..., None] * jax.nn.one_hot(places, 4)
    gate = (weights * mask).sum(-1)
    h = jnp.einsum("sec,sd,edm->ecm", dispatch, x, p["wi"])
    y = jnp.einsum("ecm,emd->ecd", jax.nn.relu(h), p["wo"])
    return jnp.einsum("sec,ecd->sd", dispatch * gate[:, None, None], y)


@pytest.mark.parametrize(
    "experts", [one_einsum, two_einsums, vmapped, listed, ragged, dispatched]
)
def test_experts(experts):
    net = network(experts, EXPERTS, floats(5, 6))
    assert layouts(net) == EXPERT_LAYOUTS
    assert with_role(net, "expert") == {"wi", "wo"}
    assert with_role(net, "router") == {"router"}
    assert "readout" not in net.parameters["router"].roles


def test_sigmoid_routers_choose_by_top_k():
    def function(p, x):
        scores = jax.nn.sigmoid(x @ p["router"])
        best, _ = jax.lax.top_k(scores, 2)
        weights = jnp.where(scores >= best[:, -1:], scores, 0.0)
        h = jax.nn.relu(jnp.einsum("bd,edm->bem", x, p["wi"]))
        y = jnp.einsum("bem,emd->bed", h, p["wo"])
        return (y * weights[..., None]).sum(1)

    net = network(function, EXPERTS, floats(5, 6))
    assert with_role(net, "router") == {"router"}
    assert with_role(net, "expert") == {"wi", "wo"}


def test_kernels_that_are_looked_up_by_expert():
    net = network(
        lambda p, x, e: jnp.einsum("bi,bio->bo", x, p["w"][e]),
        {"w": (3, 6, 4)},
        floats(2, 6),
        jax.ShapeDtypeStruct((2,), jnp.int32),
    )
    assert layouts(net) == {"w": ("bio", 6, 4)}
    assert "embedding" not in net.parameters["w"].roles


def residual(c, p):
    return c + jax.nn.relu(c @ p["a"]) @ p["b"]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_scans_along_any_axis(axis):
    def function(p, x):
        stacked = jax.tree.map(lambda a: jnp.moveaxis(a, axis, 0), p)
        return jax.lax.scan(lambda c, p: (residual(c, p), None), x, stacked)[0]

    def whole(*shape):
        return (*shape[:axis], 5, *shape[axis:])

    net = network(function, {"a": whole(6, 8), "b": whole(8, 6)}, floats(2, 6))
    layout = {0: "bio", 1: "ibo", 2: "iob"}[axis]
    assert layouts(net) == {"a": (layout, 6, 8), "b": (layout, 8, 6)}
    assert {p.members for p in net.parameters.values()} == {5}
    assert {p.uses for p in net.parameters.values()} == {1}
    assert net.depth == 5
    assert not with_role(net, "recurrent")


def test_loops_that_count_through_stacked_kernels():
    def function(p, x):
        def step(i, c):
            return residual(c, jax.tree.map(lambda a: a[i], p))

        return jax.lax.fori_loop(0, 5, step, x)

    net = network(function, {"a": (5, 6, 8), "b": (5, 8, 6)}, floats(2, 6))
    assert layouts(net) == {"a": ("bio", 6, 8), "b": ("bio", 8, 6)}
    assert net.depth == 5
    assert not with_role(net, "recurrent")


def test_scans_inside_scans_count_by_their_lengths():
    def function(p, x):
        def inner(c, p):
            return jax.checkpoint(residual)(c, p), None

        def outer(c, p):
            return jax.lax.scan(inner, c, p)[0], None

        return jax.lax.scan(outer, x, p)[0]

    net = network(function, {"a": (2, 3, 6, 8), "b": (2, 3, 8, 6)}, floats(2, 6))
    assert layouts(net) == {"a": ("bbio", 6, 8), "b": ("bbio", 8, 6)}
    assert net.depth == 6
    assert [layer.count for layer in net.layers] == [6, 6]


def test_kernels_that_the_steps_share_are_used_at_every_step():
    def function(p, x):
        return jax.lax.scan(lambda c, _: (residual(c, p), None), x, length=4)[0]

    net = network(function, {"a": (6, 8), "b": (8, 6)}, floats(2, 6))
    assert layouts(net) == {"a": ("io", 6, 8), "b": ("io", 8, 6)}
    assert [p.uses for p in net.parameters.values()] == [4, 4]
    assert net.depth == 4


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        y = nn.Dense(8, name="up")(x)
        return x + nn.Dense(6, name="down")(nn.gelu(y)), None


class Stack(nn.Module):
    wrap: str

    @nn.compact
    def __call__(self, x):
        kinds = {
            "remat": nn.remat(Block),
            "jit": nn.jit(Block),
            "remat of jit": nn.remat(nn.jit(Block)),
        }
        if self.wrap in ("scan", "scan of remat"):
            kind = Block if self.wrap == "scan" else nn.remat(Block)
            scan = nn.scan(
                kind, variable_axes={"params": 1}, split_rngs={"params": True}, length=3
            )
            return scan(name="layers")(x, None)[0]
        for i in range(3):
            x, _ = kinds.get(self.wrap, Block)(name=f"layer_{i}")(x)
        return x


@pytest.mark.parametrize(
    "wrap", ["plain", "remat", "jit", "remat of jit", "scan", "scan of remat"]
)
def test_wrappers_are_opened(wrap):
    model, x = Stack(wrap), floats(2, 6)
    net = jinit.network(model, jax.eval_shape(model.init, jax.random.key(0), x), x)
    assert net.depth == 3
    kernels = [p for path, p in net.parameters.items() if "kernel" in path]
    assert len(kernels) == (2 if "scan" in wrap else 6)
    letters = "ibo" if "scan" in wrap else "io"
    for kernel in kernels:
        assert kernel.layout == letters
        is_up = "up" in kernel.path
        assert kernel.fans == (Fans(6, 8) if is_up else Fans(8, 6))
        assert ("residual_output" in kernel.roles) is not is_up
        assert kernel.activation == (None if is_up else "gelu")


def test_operations_with_derivatives_of_their_own_are_opened():
    @jax.custom_vjp
    def product(x, w):
        return x @ w

    product.defvjp(lambda x, w: (x @ w, (x, w)), lambda _, g: (g, g))

    @jax.custom_jvp
    def squared_relu(x):
        return jnp.square(jax.nn.relu(x))

    squared_relu.defjvps(lambda g, out, x: g)
    net = network(
        lambda p, x: product(squared_relu(product(x, p["a"])), p["b"]),
        {"a": (6, 8), "b": (8, 4)},
        floats(2, 6),
    )
    assert layouts(net) == {"a": ("io", 6, 8), "b": ("io", 8, 4)}
    function = net.parameters["b"].activation
    assert float(function(3.0)) == 9.0
    assert float(function(-1.0)) == 0.0


def test_what_a_loop_carries_unchanged_stays_what_it_is():
    def function(p, x, mask):
        def step(carry, _):
            i, x, mask, a, b = carry
            y = residual(x * mask, {"a": a, "b": b})
            return (i + 1, y, mask, a, b), None

        carry = (0, x @ p["in"], mask, p["a"], p["b"])
        (i, x, mask, _, last), _ = jax.lax.scan(step, carry, length=3)
        return (x * mask) @ last.T @ p["heads"][i]

    shapes = {"in": (5, 6), "a": (6, 8), "b": (8, 6), "heads": (4, 8, 2)}
    net = network(function, shapes, floats(2, 5), floats(2, 6))
    assert layouts(net) == {
        "in": ("io", 5, 6),
        "a": ("io", 6, 8),
        "b": ("io", 8, 6),
        "heads": ("bio", 8, 2),
    }
    assert net.parameters["b"].uses == 4
    assert net.parameters["a"].inputs == ("in", "b")


def test_branches_of_a_condition_are_united():
    def function(p, x):
        x = jax.lax.cond(
            x.sum() > 0, lambda x: x @ p["a"], lambda x: jnp.tanh(x @ p["b"]), x
        )
        return x @ p["c"]

    net = network(function, {"a": (6, 6), "b": (6, 6), "c": (6, 4)}, floats(2, 6))
    assert set(layouts(net).values()) == {("io", 6, 6), ("io", 6, 4)}
    assert set(net.parameters["c"].inputs) == {"a", "b"}


def test_a_while_is_read_once():
    def function(p, x):
        return jax.lax.while_loop(lambda c: c.sum() < 9, lambda c: residual(c, p), x)

    net = network(function, {"a": (6, 8), "b": (8, 6)}, floats(2, 6))
    assert layouts(net) == {"a": ("io", 6, 8), "b": ("io", 8, 6)}
    assert net.depth == 1


def test_a_learned_constant_may_be_convolved_with_a_kernel_for_each_input():
    # StyleGAN: a vmap over modulated kernels is a grouped convolution of copies.
    def generate(params, style):
        x = jnp.broadcast_to(params["const"], (style.shape[0], 4, 4, 6))
        kernels = params["w"] * style[:, None, None, :, None]
        return jax.vmap(lambda image, w: conv(image[None], w)[0])(x, kernels)

    shapes = {"const": (4, 4, 6), "w": (3, 3, 6, 5)}
    net = network(generate, shapes, floats(7, 6))
    assert layouts(net)["w"] == ("kkio", 54, 45)
