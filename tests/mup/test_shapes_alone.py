"""Shapes alone tell layouts by biases, stacks and names, or the user is asked."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from jinit import mup
from tests.support.trees import struct
from tests.support.widths import network_of_zoo
from tests.support.zoo import adapted, in_nnx, resnet, t5, vision

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(autouse=True)
def _as_the_field_writes():
    with jax.numpy_rank_promotion("allow"):
        yield


def tree(width, shapes):
    """Return abstract parameters; letters stand for the width in a shape."""
    sizes = {"d": width, "h": 2 * width, "3d": 3 * width, "n": width // 8}
    params = {}
    for path, shape in shapes.items():
        *modules, name = path.split("/")
        node = params
        for module in modules:
            node = node.setdefault(module, {})
        node[name] = struct(*(sizes.get(size, size) for size in shape))
    return params


def infer(shapes, **options):
    return mup.infer(tree(16, shapes), tree(64, shapes), **options)


def classes(p):
    return {tensor.path: tensor.mup_class for tensor in p.tensors}


# (layers, biases): the order is (outputs, inputs), and the biases tell.
OUT_FIRST = {
    "0/weight": ("d", 5), "0/bias": ("d",), "1/weight": ("d", "d"), "1/bias": ("d",),
    "2/weight": (3, "d"), "2/bias": (3,),
}  # fmt: skip


def test_the_bias_beside_a_kernel_tells_its_outputs():
    p = infer(OUT_FIRST)
    by = {tensor.path: tensor for tensor in p.tensors}
    assert [by[f"{n}/weight"].mup_class for n in range(3)] == [
        "input", "hidden", "output",
    ]  # fmt: skip
    assert by["0/weight"].layout == by["2/weight"].layout == "oi"
    assert by["2/weight"].factors.multiplier == p.readout_scale == 0.25
    assert p.rows == infer(OUT_FIRST, overrides=[("**/weight", "oi")]).rows
    # The same shapes in the other order, and without biases in Flax's.
    transposed = {
        path: shape[::-1] if "weight" in path else shape
        for path, shape in OUT_FIRST.items()
    }
    assert classes(infer(transposed)) == classes(p)


@pytest.mark.parametrize(
    ("names", "order"),
    [
        ("w b", 1), ("w b", -1), ("w_in b_in", 1), ("w1 b1", -1), ("W b", -1),
        ("kernel bias", 1), ("kernel bias", -1), ("weight_hh bias", -1),
    ],
)  # fmt: skip
def test_biases_of_many_names(names, order):
    kernel, bias = names.split()
    shapes = {
        f"a/{kernel}": (5, "d")[::order], f"a/{bias}": ("d",),
        f"b/{kernel}": ("d", 3)[::order], f"b/{bias}": (3,),
    }  # fmt: skip
    p = infer(shapes)
    assert classes(p)[f"a/{kernel}"] == "input"
    assert classes(p)[f"b/{kernel}"] == "output"
    assert not any("shows the order" in text for text in p.remarks)


@pytest.mark.parametrize(
    ("kernel", "bias", "mup_class"),
    [
        (("d", 3, 3, 3), ("d", 1, 1), "input"),
        (("d", "d", 3, 3), ("d", 1, 1), "hidden"),
        ((3, "d", 3, 3), (3, 1, 1), "output"),
        # Flax's ConvTranspose with transpose_kernel: (window, outputs, inputs).
        ((3, 3, 3, "d"), (3,), "output"),
        ((3, 3, "d", 5), ("d",), "input"),
        ((3, 3, 5, "d"), ("d",), "input"),
        (("d", 3, 8), (3, 8), "output"),
        ((5, "n", 8), ("n", 8), "input"),
    ],
)
def test_biases_of_convolutions_and_heads(kernel, bias, mup_class):
    p = infer({"layer/weight": kernel, "layer/bias": bias})
    assert classes(p)["layer/weight"] == mup_class


def test_without_evidence_it_asks():
    shapes = {path: s for path, s in OUT_FIRST.items() if "weight" in path}
    with pytest.raises(ValueError, match=r"(?s)'0/weight'.*jinit\.network.*overrides="):
        infer(shapes)
    # The biases of others tell the order; an embedding and a readout still look alike.
    with pytest.raises(ValueError, match="'other/weight'.*may be an embedding"):
        infer(OUT_FIRST | {"other/weight": (11, "d")})
    p = infer(OUT_FIRST | {"embed/weight": (11, "d"), "lm_head/weight": (11, "d")})
    assert classes(p)["embed/weight"] == "input"
    assert classes(p)["lm_head/weight"] == "output" and p.readout_scale == 0.25
    with pytest.raises(ValueError, match=r"'conv/kernel' .* ambiguous"):
        infer({"conv/kernel": ("d", 3, 3, 3)})
    # Keys and values in one, (2, d, size), or keys with more heads, (inputs, d, size).
    with pytest.raises(ValueError, match=r"'attention/kv' .* ambiguous"):
        infer({"attention/kv": (2, "d", 8)})
    # Names that belong to no library are taken as (inputs, outputs), and named.
    p = infer({"first": (5, "d"), "last": ("d", 3)})
    assert classes(p) == {"first": "input", "last": "output"}
    (text,) = (text for text in p.remarks if "shows the order" in text)
    assert "first, last" in text


def test_keys_of_grouped_queries_and_routers_are_no_readouts():
    block = {
        "q_proj/kernel": ("d", "d"), "k_proj/kernel": ("d", 16),
        "v_proj/kernel": ("d", 16), "o_proj/kernel": ("d", "d"),
        "router/kernel": ("d", 4), "adapter/kernel": ("d", 2),
        "experts/kernel": (4, "d", "h"),
    }  # fmt: skip
    shapes = {f"layers_0/{path}": shape for path, shape in block.items()}
    shapes |= {"embed_tokens/embedding": (99, "d"), "norm/scale": ("d",)}
    p = infer(shapes)
    folded = {t.path.split("/")[1] for t in p.tensors if t.is_folded}
    assert folded == {"k_proj", "v_proj", "router", "adapter"}
    for tensor in p.tensors:
        if tensor.is_folded:
            assert tensor.factors[:4] == (0.25, 1, 0.25, 0.25), tensor.path
    assert p.readout_scale == 1 and classes(p)["layers_0/experts/kernel"] == "hidden"
    none, inside = p.remarks
    assert "overrides=[('embed_tokens/embedding', 'output')]" in none
    assert "layers_0/k_proj/kernel" in inside
    for end in ("head/kernel", "lm_head/kernel"):
        p = infer(shapes | {end: ("d", 99)})
        assert p.readout_scale == 0.25
        assert f"multiply the logits by p.readout_scale = 0.25 ({end})" in str(p)
    tied = infer(shapes, overrides=[("**/embedding", "output")])
    assert tied.readout_scale == 0.25
    weights = infer(shapes, readout="weights")
    assert weights.readout_scale == 1


def test_a_readout_that_is_not_known_trains_alike():
    """In a module of hidden tensors a readout has its factor in std and rates."""
    head = {"mlp/0/kernel": ("d", "d"), "mlp/1/kernel": ("d", 3), "norm/scale": ("d",)}
    p = infer(head)
    (readout,) = (tensor for tensor in p.tensors if tensor.path == "mlp/1/kernel")
    assert readout.is_folded and p.readout_scale == 1
    assert readout.factors == infer(head, readout="weights").tensors[1].factors
    # A module around the whole model is no block.
    alone = {path: shape for path, shape in head.items() if "mlp" in path}
    assert infer(alone).readout_scale == 0.25


class Block(nn.Module):
    heads: int

    @nn.compact
    def __call__(self, x, _):
        attention = nn.MultiHeadDotProductAttention(self.heads, name="attention")
        x = x + attention(nn.LayerNorm()(x))
        h = nn.gelu(nn.Dense(2 * x.shape[-1], name="wi")(x))
        return x + nn.Dense(x.shape[-1], name="wo")(h), None


class Scanned(nn.Module):
    width: int
    axis: int
    heads: int

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.width, name="embed")(x)
        scan = nn.scan(
            Block, {"params": self.axis}, split_rngs={"params": True}, length=3
        )
        return nn.Dense(10, name="head")(scan(self.heads, name="layers")(x, None)[0])


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("heads", [4, 8])
def test_layers_along_an_axis(axis, heads):
    x = jnp.ones((2, 5, 8))

    def shapes(width, heads):
        model = Scanned(width, axis, heads)
        return jax.eval_shape(model.init, jax.random.key(0), x)["params"]

    p = mup.infer(shapes(48, 4), shapes(96, heads))
    kernels = [
        t for t in p.tensors if t.parts[0] == "layers" and t.parts[-1] == "kernel"
    ]
    assert len(kernels) == 6
    for tensor in kernels:
        assert (tensor.mup_class, tensor.factors.adam) == ("hidden", 0.5), tensor.path
        assert tensor.layout[axis] == "b" and tensor.layout.count("b") == 1
    assert p.readout_scale == 0.5


@pytest.mark.parametrize(
    ("shape", "mup_class", "layout"),
    [
        (("d", 3, "n", 8), "hidden", "iboo"),
        ((3, "d", "n", 8), "hidden", "bioo"),
        (("d", 3, 2, 8), "output", "iboo"),
        ((3, "d", 2, 8), "output", "bioo"),
        ((3, "d", "d"), "hidden", "bio"),
    ],
)
def test_axes_that_do_not_grow_are_no_fans_of_growth(shape, mup_class, layout):
    (tensor,) = infer({"layers/query/kernel": shape}).tensors
    assert (tensor.mup_class, tensor.layout) == (mup_class, layout)
    assert tensor.factors.multiplier == 1


@pytest.mark.parametrize(
    "shape, name",
    [
        (("n", 32), "rel_embedding"), ((32, "n"), "rel_embedding"),
        ((1, 9, "d"), "pos_embed"), ((49, "n"), "relative_position_bias_table"),
    ],
)  # fmt: skip
def test_tables_are_looked_up(shape, name):
    (tensor,) = infer({f"encoder/{name}": shape}).tensors
    assert tensor.mup_class == "input"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (t5, "t5, layers along axis 0"), (t5, "t5, layers along axis 1"),
        *((resnet, name) for name in resnet.MODELS),
        *((vision, name) for name in ("vit",)),
        *((in_nnx, name) for name in in_nnx.MODELS),
    ],
)  # fmt: skip
def test_flax_models_are_read_as_their_networks_are(module, name):
    """Ties aside, which no shape shows, and inputs and vectors, whose factors agree."""
    base, target = (network_of_zoo(module, name, times) for times in (1, 2))
    p, q = mup.infer(base, target), mup.infer(base.params, target.params)
    for one, other in zip(p.tensors, q.tensors, strict=True):
        if "embedding" not in target.parameters[one.path].roles:
            assert one.factors == other.factors, one.path


def test_equinox_from_shapes():
    if not adapted.installed("equinox"):
        pytest.skip("equinox is not installed: pip install equinox")
    import equinox as eqx

    def shapes(width):
        model = eqx.filter_eval_shape(
            eqx.nn.MLP, 16, 4, width, 2, key=jax.random.key(0)
        )
        return eqx.filter(model, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))

    p = mup.infer(shapes(64), shapes(256))
    weights = [row["class"] for row in p.rows if row["path"].endswith("weight")]
    assert weights == ["input", "hidden", "output"]


def test_an_empty_tree_has_no_tensors():
    assert mup.infer({}, {}).rows == []
