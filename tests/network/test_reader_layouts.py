"""The letters of a parameter's axes, and its fans, are those of its product."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import jinit
from jinit import Fans
from tests.support.networks import (
    conv,
    floats,
    layouts,
    network,
    params,
    rms,
    tokens,
    with_role,
)


@pytest.mark.parametrize(
    ("equation", "shape", "expected"),
    [
        ("bi,io->bo", (6, 4), ("io", 6, 4)),
        ("bi,oi->bo", (4, 6), ("oi", 6, 4)),
        ("bi,ohi->boh", (4, 3, 6), ("ooi", 6, 12)),
        ("bi,iho->hbo", (6, 3, 4), ("ioo", 6, 12)),
        ("bi,->bi", (), None),
    ],
)
def test_dense_in_every_order(equation, shape, expected):
    if expected is None:
        net = network(lambda p, x: x * p["w"], {"w": shape}, floats(2, 6))
        assert net.parameters["w"].layout is None
        return
    net = network(
        lambda p, x: jnp.einsum(equation, x, p["w"]), {"w": shape}, floats(2, 6)
    )
    assert layouts(net) == {"w": expected}


def test_axes_of_heads_count_together():
    net = network(
        lambda p, x: jnp.einsum("bhk,hkd->bd", x, p["out"]),
        {"out": (4, 8, 6)},
        floats(2, 4, 8),
    )
    assert layouts(net) == {"out": ("iio", 32, 6)}


def test_kernels_that_are_kept_flat_or_transposed():
    def function(p, x):
        heads = jnp.einsum("bd,dhk->bhk", x, p["flat"].reshape(6, 2, 4))
        kernel = jnp.transpose(p["swapped"].reshape(3, 2, 4), (1, 2, 0))
        return jnp.einsum("bhk,hkf->bf", heads, kernel)

    net = network(function, {"flat": (6, 8), "swapped": (3, 8)}, floats(5, 6))
    assert layouts(net) == {"flat": ("io", 6, 8), "swapped": ("oi", 8, 3)}


def test_factors_of_constants_and_casts_change_nothing():
    def function(p, x):
        kernel = (p["w"].astype(jnp.bfloat16) * math.sqrt(2 / 6)).astype(jnp.float32)
        return x @ jax.lax.stop_gradient(kernel)

    assert layouts(network(function, {"w": (6, 4)}, floats(2, 6))) == {
        "w": ("io", 6, 4)
    }


def test_axes_of_one_entry_have_letters():
    net = network(
        lambda p, x: jnp.tanh(x[:, None] @ p["a"]) @ p["b"],
        {"a": (1, 8), "b": (8, 1)},
        floats(5),
    )
    assert layouts(net) == {"a": ("io", 1, 8), "b": ("io", 8, 1)}


def test_a_product_that_is_written_out():
    net = network(
        lambda p, x: (x[:, :, None] * p["w"]).sum(1) + (x * p["v"]).sum(-1)[:, None],
        {"w": (6, 4), "v": (6,)},
        floats(2, 6),
    )
    assert net.parameters["w"].layout == "io"
    assert net.parameters["w"].fans == Fans(6, 4)
    assert net.parameters["v"].layout == "i"
    assert with_role(net, "matrix") == {"w", "v"}


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_convolutions(spatial):
    window = (3,) * spatial
    net = network(
        lambda p, x: conv(x, p["w"]),
        {"w": (*window, 5, 7)},
        floats(2, *(8,) * spatial, 5),
    )
    k = 3**spatial
    assert layouts(net) == {"w": ("k" * spatial + "io", 5 * k, 7 * k)}
    assert with_role(net, "convolution") == {"w"}


def test_convolutions_in_the_layout_of_other_libraries():
    def function(p, x):
        numbers = ("NCHW", "OIHW", "NCHW")
        return jax.lax.conv_general_dilated(
            x, p["w"], (1, 1), "SAME", dimension_numbers=numbers
        )

    net = network(function, {"w": (7, 5, 3, 3)}, floats(2, 5, 8, 8))
    assert layouts(net) == {"w": ("oikk", 45, 63)}


def test_grouped_depthwise_and_dilated_convolutions():
    model = nn.Sequential(
        [
            nn.Conv(8, (3, 3), feature_group_count=4),
            nn.Conv(8, (3, 3), feature_group_count=8, kernel_dilation=2),
        ]
    )
    x = floats(2, 8, 8, 4)
    net = jinit.network(model, jax.eval_shape(model.init, jax.random.key(0), x), x)
    grouped = net.parameters["layers_0/kernel"]
    depthwise = net.parameters["layers_1/kernel"]
    assert (grouped.layout, grouped.groups, grouped.fans) == ("kkio", 4, Fans(9, 18))
    assert (depthwise.groups, depthwise.fans) == (8, Fans(9, 9))


@pytest.mark.parametrize("transpose", [False, True])
def test_transposed_convolutions_count_the_taps_that_reach_an_output(transpose):
    model = nn.ConvTranspose(5, (4, 4), (2, 2), transpose_kernel=transpose)
    x = floats(2, 8, 8, 3)
    net = jinit.network(model, jax.eval_shape(model.init, jax.random.key(0), x), x)
    kernel = net.parameters["kernel"]
    assert kernel.layout == ("kkoi" if transpose else "kkio")
    # Two of the four taps of each axis meet an entry of the input.
    assert kernel.fans == Fans(3 * 2 * 2, 5 * 16)


def test_embeddings_by_lookup_by_one_hot_and_tied():
    def function(p, ids):
        x = p["table"][ids] + jax.nn.one_hot(ids, 10) @ p["hot"]
        return x @ p["table"].T

    net = network(function, {"table": (10, 4), "hot": (10, 4)}, tokens(2, 3))
    assert with_role(net, "embedding") == {"table", "hot"}
    assert with_role(net, "readout") == {"table"}
    table = net.parameters["table"]
    assert (table.layout, table.fans, table.uses) == ("io", Fans(1, 4), 2)
    assert not with_role(net, "input")


def test_constant_one_hots_look_up():
    """T5's biases of relative positions, as T5X has them."""

    def function(p, x):
        buckets = jnp.abs(jnp.arange(5)[:, None] - jnp.arange(5))
        chosen = (jnp.arange(6)[:, None, None] == buckets).astype(jnp.float32)
        return x @ p["w"] + jnp.einsum("bqk,bh->hqk", chosen, p["table"])

    net = network(function, {"w": (4, 5), "table": (6, 2)}, floats(2, 5, 4))
    assert net.parameters["table"].roles == {"embedding"}
    assert layouts(net)["table"] == ("io", 1, 2)


def test_lookups_under_a_vmap():
    net = network(
        lambda p, ids: jax.vmap(lambda i: p["table"][i])(ids),
        {"table": (10, 4)},
        tokens(5),
    )
    assert layouts(net) == {"table": ("io", 1, 4)}
    assert net.parameters["table"].roles == {"embedding"}


def test_depthwise_kernels_with_the_multiplier_last():
    def function(p, x):
        kernel = p["w"].reshape(3, 3, 1, -1)
        return conv(x, kernel, feature_group_count=4)

    for multiplier in (1, 2):
        shape = (3, 3, 4, multiplier)
        net = network(function, {"w": shape}, floats(2, 8, 8, 4))
        assert layouts(net) == {"w": ("kkoo", 9, 9 * multiplier)}


def test_tables_that_are_added_are_in_no_product():
    def function(p, x):
        x = x @ p["w"] + p["positions"][None, :5]
        return x + jax.image.resize(p["grid"], (5, 6), "bilinear")[None]

    shapes = {"w": (4, 6), "positions": (8, 6), "grid": (3, 6)}
    net = network(function, shapes, floats(2, 5, 4))
    for name in ("positions", "grid"):
        assert net.parameters[name].layout is None
        assert net.parameters[name].fans is None
    assert net.parameters["positions"].roles == {"bias"}
    assert net.parameters["grid"].reason == "a constant times it is added to data"


def test_fused_kernels_by_parts():
    def function(p, x):
        one, two = jnp.split(p["fused"], 2, axis=1)
        return jax.nn.silu(x @ one) * (x @ two)

    net = network(function, {"fused": (6, 8)}, floats(2, 6))
    fused = net.parameters["fused"]
    assert (fused.layout, fused.fans, fused.uses) == ("io", Fans(6, 8), 1)
    assert {"gate", "up"} <= fused.roles


def test_kernels_whose_shape_has_no_layout_have_their_products_fans():
    def function(p, x):
        x = jnp.tanh(x @ p["vector"].reshape(6, 8))
        rows = p["rows"].reshape(2, 8, 5).transpose(1, 0, 2)
        return jnp.einsum("bi,imo->bmo", x, rows)

    net = network(function, {"vector": (48,), "rows": (16, 5)}, floats(2, 6))
    assert [p.layout for p in net.parameters.values()] == [None, None]
    assert layouts(net) == {"vector": (None, 6, 8), "rows": (None, 8, 10)}


def test_adapters_beside_and_inside_their_matrix():
    beside = network(
        lambda p, x: x @ p["w"] + x @ p["a"] @ p["b"],
        {"w": (6, 4), "a": (6, 2), "b": (2, 4)},
        floats(3, 6),
    )
    inside = network(
        lambda p, x: x @ (p["w"] + 0.5 * p["a"] @ p["b"]),
        {"w": (6, 4), "a": (6, 2), "b": (2, 4)},
        floats(3, 6),
    )
    expected = {"w": ("io", 6, 4), "a": ("io", 6, 2), "b": ("io", 2, 4)}
    assert layouts(beside) == layouts(inside) == expected
    (layer,) = inside.layers
    assert layer.parameters == ("w", "a", "b")
    assert inside.depth == beside.depth == 0


def test_weight_norm_is_a_scale_of_its_kernel():
    def function(p, x):
        return x @ (p["g"] * p["v"] / jnp.linalg.norm(p["v"], axis=0))

    net = network(function, {"v": (6, 4), "g": (4,)}, floats(2, 6))
    assert net.parameters["g"].roles == {"scale"}
    assert net.parameters["v"].layout == "io"
    assert net.parameters["v"].uses == 1


def test_modulated_convolution_reads_its_style():
    def one(p, x, style):
        kernel = p["kernel"] * (style @ p["affine"])[:, None]
        kernel = kernel * jax.lax.rsqrt((kernel**2).sum((0, 1, 2)) + 1e-8)
        return conv(x[None], kernel)[0]

    net = network(
        lambda p, x, z: jax.vmap(one, (None, 0, 0))(p, x, z),
        {"kernel": (3, 3, 4, 6), "affine": (5, 4)},
        floats(2, 8, 8, 4),
        floats(2, 5),
    )
    assert layouts(net)["kernel"] == ("kkio", 36, 54)
    assert with_role(net, "readout") == {"kernel"}


def test_a_kernel_that_is_data_is_no_parameter():
    net = network(
        lambda p, x, z: jnp.einsum("bi,bio->bo", x, (z @ p["w"]).reshape(-1, 4, 6)),
        {"w": (5, 24)},
        floats(2, 4),
        floats(2, 5),
    )
    assert layouts(net) == {"w": ("io", 5, 24)}


def test_a_shard_has_the_layout_of_the_whole():
    mesh = jax.make_mesh((2,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec

    def local(a, b, x):
        return jax.lax.psum(jnp.tanh(x @ a) @ b, "x")

    def function(p, x):
        sharded = jax.shard_map(
            local,
            mesh=mesh,
            in_specs=(spec(None, "x"), spec("x"), spec()),
            out_specs=spec(),
        )
        return sharded(p["a"], p["b"], x)

    net = network(function, {"a": (6, 8), "b": (8, 4)}, floats(2, 6))
    assert layouts(net) == {"a": ("io", 6, 8), "b": ("io", 8, 4)}


def decoder(p, ids):
    x = p["embed"][ids]
    q, k, v = (jnp.einsum("btd,dhk->bthk", rms(x, p["norm"]), p[n]) for n in "qkv")
    x = x + jnp.einsum("bthk,hkd->btd", jax.nn.dot_product_attention(q, k, v), p["o"])
    h = jax.nn.silu(x @ p["gate"]) * (x @ p["up"])
    experts = jnp.einsum("btd,edm->btem", h, p["wi"])
    mixed = jnp.einsum(
        "btem,emd,bte->btd", experts, p["wo"], jax.nn.softmax(h @ p["router"])
    )
    return (x + mixed) @ p["embed"].T


DECODER = {
    "embed": (9, 8),
    "norm": (8,),
    "q": (8, 2, 4),
    "k": (8, 1, 4),
    "v": (8, 1, 4),
    "o": (2, 4, 8),
    "gate": (8, 12),
    "up": (8, 12),
    "router": (12, 3),
    "wi": (3, 12, 5),
    "wo": (3, 5, 8),
}


@pytest.mark.parametrize("kept", ["transposed", "flat", "in 16 bits", "scaled"])
def test_how_parameters_are_kept_changes_no_role_and_no_fans(kept):
    def changed(p, ids):
        whole = {
            "transposed": lambda a, shape: a.T,
            "flat": lambda a, shape: a.reshape(shape),
            "in 16 bits": lambda a, shape: a.astype(jnp.bfloat16).astype(jnp.float32),
            "scaled": lambda a, shape: 3 * a,
        }[kept]
        return decoder({n: whole(p[n], shape) for n, shape in DECODER.items()}, ids)

    shapes = dict(DECODER)
    for name, shape in DECODER.items():
        if kept == "transposed":
            shapes[name] = shape[::-1]
        elif kept == "flat":
            shapes[name] = (math.prod(shape),)
    one = network(decoder, DECODER, tokens(2, 5))
    other = network(changed, shapes, tokens(2, 5))
    assert list(one.parameters) == list(other.parameters)
    for a, b in zip(one.parameters.values(), other.parameters.values(), strict=True):
        assert (a.roles, a.fans, a.inputs) == (b.roles, b.fans, b.inputs)
        if kept == "transposed" and a.layout:
            assert a.layout == b.layout[::-1]
        elif kept != "flat":
            assert a.layout == b.layout
    assert one.branches == other.branches


def test_what_cannot_be_read_is_other_and_says_why():
    def function(p, x):
        kind = jax.ShapeDtypeStruct((2, 4), jnp.float32)
        y = jax.pure_callback(lambda x, w: x @ w, kind, x, p["called"])
        return jnp.concatenate([y, p["token"]]) * p["factor"]

    shapes = {"called": (6, 4), "token": (1, 4), "factor": (4,), "unused": (3,)}
    net = network(function, shapes, floats(2, 6), allow_unused=True)
    assert all(p.roles == {"other"} and p.reason for p in net.parameters.values())
    assert "pure_callback" in net.parameters["called"].reason
    assert net.parameters["unused"].reason == "it is never used"
    assert net.parameters["unused"].uses == 0


def test_params_of_state_space_layers():
    def function(p, u):
        lam = jnp.exp(-jnp.exp(p["log_rate"]) + 1j * p["frequency"])
        b = p["b"][0] + 1j * p["b"][1]
        rates = jnp.broadcast_to(lam, (12, 8))
        _, states = jax.lax.associative_scan(
            lambda x, y: (y[0] * x[0], y[0] * x[1] + y[1]), (rates, u @ b.T)
        )
        return (states @ (p["c"][0] + 1j * p["c"][1]).T).real + p["d"] * u

    shapes = {
        "log_rate": (8,),
        "frequency": (8,),
        "b": (2, 8, 4),
        "c": (2, 4, 8),
        "d": (4,),
    }
    net = network(function, shapes, floats(12, 4))
    # Real and imaginary parts are two members of one kernel.
    assert layouts(net) == {"b": ("boi", 4, 8), "c": ("boi", 8, 4)}
    assert net.depth == 0
    assert with_role(net, "other") == {"log_rate", "frequency", "d"}


def test_shapes_and_arrays_are_read_alike():
    arrays = jax.tree.map(lambda s: jnp.ones(s.shape), params(w=(6, 4)))
    one = jinit.network(lambda p, x: x @ p["w"], arrays, jnp.ones((2, 6)))
    other = network(lambda p, x: x @ p["w"], {"w": (6, 4)}, floats(2, 6))
    assert dict(one.parameters) == dict(other.parameters)
