"""Recipes of vision models against the formulas of the official code, in 3 libraries.

The tables are by the layers' names of tests/support/vision_models.py. The recipes never
see a name: roles and layouts come from the equations, and Equinox has (out, in).
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from jinit import recipes
from tests.support import vision_models as models
from tests.support.in_libraries import LIBRARIES, in_linen
from tests.support.trees import struct
from tests.support.zoo import truth

KEY = jax.random.key(7)
IMAGE, TIME, LABEL = struct(2, 8, 8, 3), struct(2), struct(2, dtype="int32")
D = models.WIDTH


@pytest.fixture(autouse=True)
def _as_the_field_writes():
    with jax.numpy_rank_promotion("allow"):
        yield


def xavier(n, m):
    """torch.nn.init.xavier_uniform_ and flax.linen's: the std."""
    return math.sqrt(2 / (n + m))


def torch(n):
    """PyTorch's Linear and Conv, kaiming_uniform_(a=sqrt(5)): the std."""
    return 1 / math.sqrt(3 * n)


def big_vision(pooling):
    """google-research/big_vision, models/vit.py at 0127fb6."""
    table = {
        # nn.Conv's default, lecun_normal, of 2 x 2 x 3 numbers.
        "patches/w": 1 / math.sqrt(12),
        # get_posemb: normal(stddev=1/np.sqrt(width)).
        "positions": 1 / math.sqrt(D),
        "norm/w": 0,
    }
    names = ["attention0", "attention1"] + ["pool"] * pooling
    for name in names:
        for part in ("query", "key", "value", "out"):
            table[f"{name}_{part}/w"] = xavier(D, D)
    # MlpBlock: xavier_uniform, bias_init=normal(stddev=1e-6).
    for name in ["mlp0", "mlp1"] + ["pool_mlp"] * pooling:
        table |= {f"{name}_up/w": xavier(D, 4 * D), f"{name}_down/w": xavier(4 * D, D)}
        table |= {f"{name}_up/b": 1e-6, f"{name}_down/b": 1e-6}
    if pooling:
        # MAPHead: xavier_uniform of the shape (1, 1, d), whose fans are 1 and d.
        return table | {"probe": xavier(1, D)}
    return table | {"token": 0, "head/w": 0}


def dit():
    """facebookresearch/DiT, models.py at ed81ce2, initialize_weights."""
    table = {
        # xavier_uniform_(w.view([w.shape[0], -1])): 12 inputs, d outputs.
        "patches/w": xavier(12, D),
        "labels/w": 0.02,
        "time1/w": 0.02,
        "time2/w": 0.02,
        "modulation/w": 0,
        "last/w": 0,
    }
    for i in range(2):
        # timm's Attention has one Linear(d, 3 d).
        for part in ("query", "key", "value"):
            table[f"attention{i}_{part}/w"] = xavier(D, 3 * D)
        table[f"attention{i}_out/w"] = xavier(D, D)
        table[f"mlp{i}_up/w"], table[f"mlp{i}_down/w"] = [xavier(D, 4 * D)] * 2
        table[f"modulation{i}/w"] = 0
    return table


def resnet():
    """pytorch/vision, torchvision/models/resnet.py at f50e776."""
    sizes = {"stem": (3, 8, 3), "conv0a": (8, 4, 1), "conv0b": (4, 4, 3)}
    sizes |= {"conv0c": (4, 8, 1), "conv1a": (8, 4, 1), "conv1b": (4, 4, 3)}
    sizes |= {"conv1c": (4, 16, 1), "shortcut1": (8, 16, 1)}
    table = {"head/w": torch(16), "head/b": torch(16)}
    for name, (n, m, size) in sizes.items():
        # kaiming_normal_(mode="fan_out"), and torch's default for a bias.
        table[f"{name}/w"] = math.sqrt(2 / (m * size**2))
        table[f"{name}/b"] = torch(n * size**2)
    return table


def unet():
    """openai/guided-diffusion, guided_diffusion/unet.py at 22e0df8."""
    sizes = {"time1": 2, "time2": D, "first": 27, "down": 72, "up": 9 * D}
    blocks = {"left": (8, 8), "middle": (8, D), "right": (16, 8)}
    for name, (n, m) in blocks.items():
        sizes |= {f"{name}_conv1": 9 * n, f"{name}_time": D}
        sizes |= {f"{name}_skip": n} if n != m else {}
    sizes |= {f"attention_{part}": D for part in ("query", "key", "value")}
    # nn.Embedding of the labels.
    table = {"labels/w": 1}
    for name, n in sizes.items():
        table |= {f"{name}/w": torch(n), f"{name}/b": torch(n)}
    # zero_module: the last convolution of a block, proj_out, and the output's.
    for name in ("left_conv2", "middle_conv2", "right_conv2", "attention_out", "last"):
        table |= {f"{name}/w": 0, f"{name}/b": 0}
    return table


POOLED = functools.partial(models.vit, pooling=True)
DIFFUSED = (IMAGE, TIME, LABEL)
CASES = {
    "big_vision_vit": (recipes.big_vision_vit(), models.vit, [IMAGE], big_vision(0)),
    "big_vision_vit, pooling": (
        recipes.big_vision_vit(),
        POOLED,
        [IMAGE],
        big_vision(1),
    ),
    "dit": (recipes.dit(), models.dit, DIFFUSED, dit()),
    "resnet": (recipes.resnet(), models.bottlenecks, [IMAGE], resnet()),
    "unet": (recipes.unet(), models.unet, DIFFUSED, unet()),
}


def by_layer(path):
    """Return the layer and the part of it: w for a kernel, a scale or a table."""
    path = path.removeprefix("params/").removeprefix("layers/")
    layer, _, part = path.rpartition("/")
    return f"{layer}/{'b' if part == 'bias' else 'w'}" if layer else path


def made(library, architecture, *inputs):
    pytest.importorskip(library)
    return jinit.network(*LIBRARIES[library](architecture, *inputs))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", CASES)
def test_the_std_of_each_role_is_that_of_the_official_code(name, library):
    recipe, architecture, inputs, table = CASES[name]
    plan = jinit.plan(made(library, architecture, *inputs), recipe)
    actual = {by_layer(row["path"]): row["std"] for row in plan.rows}
    # Scales of norms are 1, and biases that the table does not have are 0.
    expected = {path: table.get(path, 0) for path in actual}
    assert set(table) <= set(actual)
    if name == "dit":
        # Fixed positions have no law.
        assert actual.pop("positions") is None
        expected.pop("positions")
    assert actual == pytest.approx(expected)


@pytest.mark.parametrize("name", CASES)
def test_names_and_order_do_not_matter(name):
    recipe, architecture, inputs, _ = CASES[name]
    net = made("flax.linen", architecture, *inputs)
    rows = {row["path"]: row["std"] for row in jinit.plan(net, recipe).rows}
    function, renamed, paths = truth.scrambled(net.apply, net.params)
    again = jinit.plan(jinit.network(function, renamed, *net.inputs), recipe).rows
    assert {paths[row["path"]]: row["std"] for row in again} == rows


# The largest entry of n in standard deviations: a uniform law ends at sqrt(3), a normal
# law that is truncated at 2 of its own at 2 / 0.87963, and of 256 normal numbers one is
# beyond 2.3 with a probability of 0.996.
UNIFORM, TRUNCATED, NORMAL = (1.6, 1.7321), (1.75, 2.2737), (2.2737, 6)
LAWS = {
    "big_vision_vit": {"mlp0_up/w": UNIFORM, "patches/w": TRUNCATED},
    "dit": {"patches/w": UNIFORM, "time2/w": NORMAL, "attention0_query/w": UNIFORM},
    "resnet": {"stem/w": NORMAL, "head/w": UNIFORM},
    "unet": {"up/w": UNIFORM, "labels/w": NORMAL},
}


@pytest.mark.parametrize("name", LAWS)
def test_the_laws(name):
    params, table = drawn(name)[1], CASES[name][-1]
    for layer, (low, high) in LAWS[name].items():
        (x,) = (x for path, x in params.items() if by_layer(path) == layer)
        assert low < float(jnp.abs(x).max()) / table[layer] < high, layer
        # The spread of a sample's std is at most sqrt(2 / 4 n) for these laws.
        ratio = float(jnp.sqrt((x**2).mean())) / table[layer]
        assert abs(ratio - 1) < 5 * (0.5 / x.size) ** 0.5


@functools.cache
def drawn(name, recipe=None):
    """Return the network of a recipe in Linen, and the parameters drawn by it."""
    default, architecture, inputs, _ = CASES[name]
    with jax.numpy_rank_promotion("allow"):
        net = jinit.network(*in_linen(architecture, *inputs))
        params = jinit.plan(net, recipe or default).init(KEY)
    flat = {
        "/".join(p.key for p in path): x
        for path, x in jax.tree_util.tree_leaves_with_path(params)
    }
    return net, flat


def random_inputs(name):
    rng = np.random.default_rng(0)
    return [
        jnp.asarray(rng.integers(0, 11, x.shape), x.dtype)
        if x.dtype == jnp.int32
        else jnp.asarray(rng.normal(size=x.shape), x.dtype)
        for x in CASES[name][2]
    ]


def nested(params):
    """Return the parameters as Linen has them."""
    tree = {}
    for path, x in params.items():
        layer, _, part = path.rpartition("/")
        if layer:
            tree.setdefault(layer, {})[part] = x
        else:
            tree[path] = x
    return tree


def outputs(name, params, architecture=None):
    """Return the output of a model in Linen for random inputs."""
    apply = compiled(name, architecture or CASES[name][1])
    return np.asarray(apply({"params": nested(params)}, *random_inputs(name)))


@functools.cache
def compiled(name, architecture):
    return jax.jit(in_linen(architecture, *CASES[name][2])[0].apply)


@pytest.mark.parametrize("name", CASES)
def test_an_audit_has_no_finding(name):
    """Zeros at the ends, and a law over axes of one's own, are meant so."""
    module = in_linen(CASES[name][1], *CASES[name][2])[0]
    variables = {"params": nested(drawn(name)[1])}
    assert not jinit.audit(module, variables, *random_inputs(name)).findings


def redrawn(params, *parts):
    """Return the parameters with other numbers in the layers whose name has a part."""
    rng = np.random.default_rng(1)
    return {
        path: jnp.asarray(rng.normal(size=x.shape), x.dtype)
        if any(part in path for part in parts)
        else x
        for path, x in params.items()
    }


def test_dit_gives_zero_and_its_blocks_are_the_identity():
    _, params = drawn("dit")
    assert not outputs("dit", params).any()
    # With another last layer the stream is seen, and the blocks do nothing to it.
    params = redrawn(params, "last")
    whole = outputs("dit", params)
    without = outputs("dit", params, functools.partial(models.dit, depth=0))
    assert whole.any()
    # Two programs may round sums in another order; one program gives equal bits.
    np.testing.assert_allclose(whole, without, rtol=1e-5, atol=1e-6)
    assert (whole == outputs("dit", redrawn(params, "attention", "mlp"))).all()
    assert not np.allclose(whole, outputs("dit", redrawn(params, "modulation0")))


def test_dit_has_the_positions_of_its_code():
    """get_2d_sincos_pos_embed: [sin x, cos x, sin y, cos y] of a 4 x 4 grid."""
    _, params = drawn("dit")
    expected = jinit.sincos_positions("mae", grid=(4, 4))(KEY, (1, 16, D))
    assert (params["positions"] == expected).all()
    wide = struct(2, 8, 4, 3), TIME, LABEL
    net = made("flax.linen", models.dit, *wide)
    with pytest.raises(ValueError, match="without a grid it is a square"):
        jinit.plan(net, recipes.dit()).init(KEY)
    jinit.plan(net, recipes.dit(grid=(4, 2))).init(KEY)


def test_unet_gives_zero_and_its_blocks_are_their_shortcuts():
    _, params = drawn("unet")
    assert not outputs("unet", params).any()
    params = redrawn(params, "last/")
    whole = outputs("unet", params)
    inside = ("_conv1", "attention_query", "attention_value", "_time", "labels")
    assert whole.any() and (whole == outputs("unet", redrawn(params, *inside))).all()


def test_resnet_with_zeros_has_blocks_that_are_their_shortcuts():
    _, params = drawn("resnet", recipes.resnet(zero_init_residual=True))
    zeros = {path for path, x in params.items() if "norm" in path and not x.any()}
    scales = {path for path in zeros if path.endswith("scale")}
    assert scales == {"norm0c/scale", "norm1c/scale"}
    whole = outputs("resnet", params)
    assert whole.any() and (whole == outputs("resnet", redrawn(params, "conv"))).all()
    _, params = drawn("resnet")
    whole = outputs("resnet", params)
    assert not np.allclose(whole, outputs("resnet", redrawn(params, "conv")))


def test_a_head_that_is_no_zero():
    """head_zeroinit=False, and SigLIP's text tower: nn.Dense's default."""
    net = made("flax.linen", models.vit, IMAGE)
    rows = jinit.plan(net, recipes.big_vision_vit(zero_head=False)).rows
    actual = {by_layer(row["path"]): row["std"] for row in rows}
    assert actual == pytest.approx(
        {path: big_vision(0).get(path, 0) for path in actual} | {"head/w": D**-0.5}
    )


def logits(library, recipe, has_bias):
    """Return the logits of two towers at right angles, and the two numbers."""
    architecture = functools.partial(models.towers, has_bias=has_bias)
    net = made(library, architecture, struct(3, 6), struct(3, 5))
    plan = jinit.plan(net, [*recipe, ("@bias", jinit.zeros), ("**", jinit.lecun())])
    params = plan.init(KEY)
    paths = {by_layer(row["path"]): row["path"] for row in plan.rows}
    leaves, structure = jax.tree.flatten(params)
    numbers = dict(zip(net.paths, leaves, strict=True))

    def angles(name):
        # Image and text use two coordinates each, so that their products are 0.
        x = np.zeros(numbers[paths[name]].shape, np.float32)
        rows = slice(0, 2) if name == "image/w" else slice(2, 4)
        x[(slice(None), rows) if library != "equinox" else rows] = 1
        return jnp.asarray(x)

    numbers |= {paths[name]: angles(name) for name in ("image/w", "text/w")}
    params = structure.unflatten(numbers[path] for path in net.paths)
    rng = np.random.default_rng(0)
    inputs = [jnp.asarray(rng.uniform(1, 2, x.shape), x.dtype) for x in net.inputs]
    return net.apply(params, *inputs), numbers[paths["scale"]], paths, numbers


@pytest.mark.parametrize("library", LIBRARIES)
def test_siglip_s_first_loss_in_closed_form(library):
    """big_vision: t' = log(temperature_init) and bias_init, 10 and -10 in its configs.

    The sigmoid loss of n images is -log s(-10) - (n - 1) log s(10) for each.
    """
    z, scale, paths, numbers = logits(library, recipes.siglip(), True)
    assert float(jnp.exp(scale)) == pytest.approx(10)
    assert float(numbers[paths["bias"]]) == -10
    labels = 2 * jnp.eye(3) - 1
    loss = -float(jax.nn.log_sigmoid(labels * z).sum(axis=-1).mean())
    expected = math.log1p(math.exp(10)) + 2 * math.log1p(math.exp(-10))
    assert loss == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("library", LIBRARIES)
def test_clip_s_first_scale(library):
    """openai/CLIP, clip/model.py at d05afc4: np.log(1 / 0.07)."""
    _, scale, _, _ = logits(library, recipes.clip(), False)
    assert float(jnp.exp(scale)) == pytest.approx(1 / 0.07)
