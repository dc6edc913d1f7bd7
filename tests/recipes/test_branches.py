"""Which kernels end a branch, which axes are inputs, what torch's layers do."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jinit
from jinit import recipes
from tests.support import laws

D = 16


def shapes_of(model, *inputs):
    return jax.eval_shape(model.init, jax.random.key(0), *inputs)


def stds(shapes, rules):
    return {row["path"]: row["std"] for row in jinit.plan(shapes, rules).rows}


class Inside(nn.Module):
    """Layers made in the order in which they run."""

    @nn.compact
    def __call__(self, x):
        y = nn.gelu(nn.Dense(4 * D)(nn.LayerNorm()(x)))
        return x + nn.Dense(D)(y)


class Outside(nn.Module):
    """In one expression: Linen makes the outer layer first, which is Dense_0."""

    @nn.compact
    def __call__(self, x):
        return x + nn.Dense(D)(nn.gelu(nn.Dense(4 * D)(x)))


class Gated(nn.Module):
    @nn.compact
    def __call__(self, x):
        gate, up = nn.Dense(4 * D)(x), nn.Dense(4 * D)(x)
        return x + nn.Dense(D)(nn.silu(gate) * up)


class Bottleneck(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.relu(nn.Dense(D // 4)(x))
        return x + nn.Dense(D)(y)


class Grouped(nn.Module):
    """Attention of plain layers, with fewer heads for keys and values."""

    @nn.compact
    def __call__(self, x):
        q, k, v = nn.Dense(D)(x), nn.Dense(D // 4)(x), nn.Dense(D // 4)(x)
        return x + q + jnp.tile(k + v, 4)


class Net(nn.Module):
    block: type[nn.Module]
    name_of_block: str | None = None

    @nn.compact
    def __call__(self, x):
        x = self.block(name=self.name_of_block)(nn.Dense(D)(x))
        return nn.Dense(3)(x)


X = jax.ShapeDtypeStruct((1, 5), jnp.float32)


@pytest.mark.parametrize(
    "block, last",
    [(Inside, 1), (Outside, 0), (Gated, 2), (Bottleneck, 1)],
)
@pytest.mark.parametrize("name", [None, "layers", "mlp"])
@pytest.mark.parametrize("whole", [True, False])
def test_the_last_layer_is_the_one_that_writes_to_the_stream(block, last, name, whole):
    shapes = shapes_of(Net(block, name), X)
    found = stds(shapes if whole else shapes["params"], recipes.gpt2(8))
    small = [path for path, std in found.items() if std == 0.02 / 4]
    prefix = "params/" if whole else ""
    assert small == [f"{prefix}{name or block.__name__ + '_0'}/Dense_{last}/kernel"]


def test_scanned_blocks_end_as_others_do():
    scan = nn.scan(
        lambda block, x, _: (block(x), None),
        variable_axes={"params": 0},
        split_rngs={"params": True},
        length=3,
    )

    class Scanned(nn.Module):
        @nn.compact
        def __call__(self, x):
            return scan(Outside(name="layers"), nn.Dense(D)(x), None)[0]

    shapes = shapes_of(Scanned(), X)
    found = stds(shapes, recipes.gpt2(8))
    assert found["params/layers/Dense_0/kernel"] == 0.005
    assert found["params/layers/Dense_1/kernel"] == 0.02


def test_layers_that_cannot_be_told_apart_are_named():
    shapes = shapes_of(Net(Grouped), X)
    with pytest.raises(
        ValueError, match="(?s)'params/Grouped_0/Dense_0/kernel' ends.*"
    ):
        jinit.plan(shapes, recipes.gpt2(8))
    # A pattern settles it, and so does a rule before the recipe's.
    found = stds(
        shapes, recipes.gpt2(8, residual_outputs="**/Grouped_0/Dense_0/kernel")
    )
    assert found["params/Grouped_0/Dense_0/kernel"] == 0.005
    own = jinit.Rule("**/Grouped_0/*/kernel", jinit.normal(0.5))
    found = stds(shapes, [own, *recipes.gpt2(8)])
    assert found["params/Grouped_0/Dense_1/kernel"] == 0.5


def test_without_anything_that_shows_the_stream_only_the_usual_form_is_taken():
    def shapes(*sizes):
        layers = {f"Dense_{i}": {"kernel": jnp.ones(s)} for i, s in enumerate(sizes)}
        return {"params": {"Block_0": layers}}

    found = stds(shapes((16, 64), (64, 16)), recipes.gpt2(8))
    assert found["params/Block_0/Dense_1/kernel"] == 0.005
    with pytest.raises(ValueError, match="neither names nor shapes"):
        jinit.plan(shapes((64, 16), (16, 64)), recipes.gpt2(8))


class ConvNet(nn.Module):
    """A residual net of Fixup's form, with a wider second stage."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3))(x)
        for width in (8, 16):
            x = ConvBlock(width)(x)
        return nn.Dense(10)(x.mean((1, 2)))


class ConvBlock(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        y = nn.relu(nn.Conv(self.width, (3, 3))(x))
        y = nn.Conv(self.width, (3, 3))(y)
        if x.shape[-1] != self.width:
            x = nn.Conv(self.width, (1, 1), name="shortcut")(x)
        return x + y


def test_fixup_of_a_convolutional_net():
    shapes = shapes_of(ConvNet(), jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32))
    found = stds(shapes, recipes.fixup(16))
    kernels = {k: v for k, v in found.items() if k.endswith("kernel")}
    assert kernels == {
        "params/Conv_0/kernel": pytest.approx((2 / 27) ** 0.5),
        "params/ConvBlock_0/Conv_0/kernel": pytest.approx((2 / 72) ** 0.5 / 4),
        "params/ConvBlock_0/Conv_1/kernel": 0.0,
        "params/ConvBlock_1/Conv_0/kernel": pytest.approx((2 / 72) ** 0.5 / 4),
        "params/ConvBlock_1/Conv_1/kernel": 0.0,
        "params/ConvBlock_1/shortcut/kernel": pytest.approx((2 / 8) ** 0.5),
        "params/Dense_0/kernel": 0.0,
    }


def test_the_first_layer_is_not_taken_for_fixup_s_readout():
    class Stem(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Outside()(nn.Dense(D)(x))

    found = stds(shapes_of(Stem(), X), recipes.fixup(16))
    assert found["params/Dense_0/kernel"] == (2 / 5) ** 0.5
    assert found["params/Outside_0/Dense_0/kernel"] == 0.0
    both = stds(shapes_of(Net(Outside), X), recipes.fixup(16))
    assert both["params/Dense_0/kernel"] == (2 / 5) ** 0.5
    assert both["params/Dense_1/kernel"] == 0.0


@pytest.mark.parametrize("recipe", [recipes.deepnorm, recipes.t_fixup])
def test_layers_outside_of_the_stack_have_no_part_in_its_scale(recipe):
    found = stds(shapes_of(Net(Inside), X), recipe(8))
    assert found["params/Dense_0/kernel"] == 5**-0.5
    assert found["params/Dense_1/kernel"] == D**-0.5
    gain = jinit.residual_scale(recipe.__name__, 8)
    gain = getattr(gain, "beta", gain)
    inside = found["params/Inside_0/Dense_1/kernel"]
    assert inside == pytest.approx(gain * (2 / (5 * D)) ** 0.5)


LAYOUTS = [
    (nn.DenseGeneral((2, 8)), (1, 16), "ioo"),
    (nn.DenseGeneral(16, axis=(-2, -1)), (1, 2, 8), "iio"),
    (nn.Conv(7, (3,)), (1, 4, 5), "kio"),
    (nn.Conv(7, (3, 3, 3)), (1, 4, 4, 4, 5), "kkkio"),
]


@pytest.mark.parametrize("layer, shape, layout", LAYOUTS)
def test_layouts_of_flax_s_layers(layer, shape, layout):
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            return layer.copy(parent=self, name=None)(x)

    shapes = shapes_of(Model(), jax.ShapeDtypeStruct(shape, jnp.float32))
    rows = jinit.plan(shapes, recipes.deepnorm(2)).rows
    assert [r["layout"] for r in rows if r["path"].endswith("kernel")] == [layout]


def test_a_kernel_of_unknown_axes_is_named_and_a_role_tells_them():
    shapes = {"mix": {"kernel": jnp.ones((16, 3, 5))}}
    for recipe in (recipes.deepnorm, recipes.t5, recipes.small_init, recipes.vit):
        with pytest.raises(ValueError, match="mix/kernel.*which of them are inputs"):
            jinit.plan(shapes, recipe(2))
    (row,) = jinit.plan(shapes, recipes.t_fixup(2, query="mix/kernel")).rows
    assert (row["layout"], row["fan_in"]) == ("ioo", 16)
    (row,) = jinit.plan(shapes, recipes.deepnorm(2, residual_outputs="mix/kernel")).rows
    assert (row["layout"], row["fan_in"]) == ("iio", 48)


def test_a_role_without_a_law_is_an_error():
    with pytest.raises(TypeError, match="recipes.fixup has no use for 'query'"):
        recipes.fixup(2, query="**/q/kernel")
    with pytest.raises(TypeError, match="recipes.gpt2 has no use for 'branches'"):
        recipes.gpt2(2, branches="**")


def test_the_two_stacks_of_an_encoder_decoder():
    kernel = {"Layer_0": {"up": {"kernel": jnp.ones((64, 64))}}}
    shapes = {"encoder": kernel, "decoder": kernel, "embedding": jnp.ones((9, 64))}
    encoder = recipes.deepnorm(18, part="encoder", other_layers=6)
    decoder = recipes.deepnorm(6, part="decoder", other_layers=18)
    found = stds(shapes, [*recipes.inside("encoder/**", encoder), *decoder])
    scale = jinit.residual_scale
    betas = {
        "encoder": scale("deepnorm", 18, part="encoder", other_layers=6).beta,
        "decoder": scale("deepnorm", 6, part="decoder", other_layers=18).beta,
    }
    for stack, beta in betas.items():
        assert found[f"{stack}/Layer_0/up/kernel"] == pytest.approx(beta / 8)
    assert found["embedding"] == 1 / 8
    # What lies outside of the part is not known to its rules, and is named.
    with pytest.raises(ValueError, match="(?s)'decoder/.*match no rule|match no rule"):
        jinit.plan(shapes, recipes.inside("encoder/**", encoder))
    with pytest.raises(TypeError, match="`pattern` is 3"):
        recipes.inside(3, encoder)


def test_vit_s_patches_and_t5_s_tables():
    shapes = {
        "embedding": {"kernel": jnp.ones((4, 4, 3, 8)), "bias": jnp.ones(8)},
        "mlp": {"kernel": jnp.ones((8, 8)), "bias": jnp.ones(8)},
    }
    found = stds(shapes, recipes.vit(2))
    assert found["embedding/kernel"] == pytest.approx((3 * 48) ** -0.5)
    assert found["embedding/bias"] == pytest.approx((3 * 48) ** -0.5)
    assert found["mlp/bias"] == 0.0
    tables = {"e": {"embedding": jnp.ones((9, 4))}, "rel_embedding": jnp.ones((4, 32))}
    found = stds(tables, recipes.t5())
    assert found == {"e/embedding": 0.5, "rel_embedding": (2 / 36) ** 0.5}
    assert stds(tables, recipes.t5(embedding_std=1.0))["e/embedding"] == 1.0


class Layers(nnx.Module):
    """Flax's counterparts of torch's layers; the numbers below are theirs."""

    def __init__(self, rngs):
        self.linear = nnx.Linear(20, 30, rngs=rngs)
        self.conv = nnx.Conv(6, 10, (3, 3), rngs=rngs)
        self.grouped_conv = nnx.Conv(6, 10, (3,), feature_group_count=2, rngs=rngs)
        self.conv_transpose = nnx.ConvTranspose(6, 10, (3,), rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, 20, decode=False, rngs=rngs)
        self.wide = nnx.LinearGeneral(12, (2, 5), rngs=rngs)
        self.lstm = nnx.LSTMCell(7, 20, rngs=rngs)
        self.fused_lstm = nnx.OptimizedLSTMCell(7, 20, rngs=rngs)
        self.gru = nnx.GRUCell(7, 20, rngs=rngs)
        self.simple = nnx.SimpleCell(7, 20, rngs=rngs)
        self.prelu = nnx.PReLU()


# The bound of each uniform law: 1 / sqrt(this).
UNDER_THE_ROOT = {
    "linear/kernel": 20, "linear/bias": 20, "conv/kernel": 54, "conv/bias": 54,
    "grouped_conv/kernel": 9, "grouped_conv/bias": 9, "conv_transpose/kernel": 30,
    "conv_transpose/bias": 30, "attention/query/kernel": 80 / 6,
    "attention/value/kernel": 80 / 6, "attention/out/kernel": 20, "wide/kernel": 12,
    "wide/bias": 12, "lstm/if_/kernel": 20, "lstm/hf/kernel": 20, "lstm/hf/bias": 20,
    "fused_lstm/dense_i/kernel": 20, "fused_lstm/dense_h/kernel": 20,
    "gru/dense_i/kernel": 20, "gru/dense_i/bias": 20, "simple/dense_i/kernel": 20,
}  # fmt: skip


@pytest.fixture(scope="module")
def torch_like():
    shapes = nnx.state(nnx.eval_shape(lambda: Layers(nnx.Rngs(0))), nnx.Param)
    plan = jinit.plan(shapes, recipes.torch_defaults())
    # `init` of the whole state, and back to paths.
    values = jax.tree.leaves(plan.init(jax.random.key(3)))
    return {
        row["path"]: np.asarray(v) for row, v in zip(plan.rows, values, strict=True)
    }


@pytest.mark.parametrize("path", UNDER_THE_ROOT)
def test_torch_s_laws(torch_like, path):
    limit = UNDER_THE_ROOT[path] ** -0.5
    laws.assert_law(torch_like[path], laws.uniform(-limit, limit))
    if torch_like[path].size > 100:
        with pytest.raises(AssertionError):
            laws.assert_law(torch_like[path], laws.uniform(-1.5 * limit, 1.5 * limit))


def test_torch_s_constants(torch_like):
    assert torch_like["prelu/negative_slope"] == 0.25
    for name in ("query", "key", "value", "out"):
        assert (torch_like[f"attention/{name}/bias"] == 0).all()


def test_layers_that_are_called_as_gates_are_layers():
    shapes = {
        "mlp": {
            "in": {"kernel": jnp.ones((8, 64)), "bias": jnp.ones(64)},
            "out": {"kernel": jnp.ones((64, 8)), "bias": jnp.ones(8)},
        }
    }
    found = stds(shapes, recipes.torch_defaults())
    assert found["mlp/in/kernel"] == found["mlp/in/bias"] == pytest.approx(24**-0.5)
    assert found["mlp/out/bias"] == pytest.approx((3 * 64) ** -0.5)


def test_torch_itself_agrees():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    modules = {
        "linear": torch.nn.Linear(20, 30),
        "conv": torch.nn.Conv2d(6, 10, 3),
        "grouped_conv": torch.nn.Conv1d(6, 10, 3, groups=2),
        "conv_transpose": torch.nn.ConvTranspose1d(6, 10, 3),
        "lstm/hf": torch.nn.LSTM(7, 20),
        "gru/dense_i": torch.nn.GRU(7, 20),
    }
    for path, layer in modules.items():
        weight = getattr(layer, "weight", None)
        weight = layer.weight_ih_l0 if weight is None else weight
        largest = UNDER_THE_ROOT[f"{path}/kernel"] ** -0.5
        assert 0.95 * largest < weight.abs().max().item() <= largest * (1 + 1e-6)
    attention = torch.nn.MultiheadAttention(20, 4)
    largest = UNDER_THE_ROOT["attention/query/kernel"] ** -0.5
    assert 0.95 * largest < attention.in_proj_weight.abs().max().item() <= largest
    assert not attention.in_proj_bias.any() and not attention.out_proj.bias.any()
    assert torch.nn.PReLU().weight.item() == 0.25
