"""Branches: which kernels end one, and which layers have no part in its scale."""

import flax.linen as nn
import jax.numpy as jnp
import pytest

import jinit
from jinit import recipes
from tests.support.models import shapes_of
from tests.support.plans import stds_of
from tests.support.trees import struct

D = 16


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


X = struct(1, 5)


@pytest.mark.parametrize(
    "block, last",
    [(Inside, 1), (Outside, 0), (Gated, 2), (Bottleneck, 1)],
)
@pytest.mark.parametrize("name", [None, "layers", "mlp"])
@pytest.mark.parametrize("whole", [True, False])
def test_the_last_layer_is_the_one_that_writes_to_the_stream(block, last, name, whole):
    shapes = shapes_of(Net(block, name), X)
    found = stds_of(shapes if whole else shapes["params"], recipes.gpt2(8))
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
    found = stds_of(shapes, recipes.gpt2(8))
    assert found["params/layers/Dense_0/kernel"] == 0.005
    assert found["params/layers/Dense_1/kernel"] == 0.02


def test_layers_that_cannot_be_told_apart_are_named():
    shapes = shapes_of(Net(Grouped), X)
    with pytest.raises(
        ValueError, match="(?s)'params/Grouped_0/Dense_0/kernel' ends.*"
    ):
        jinit.plan(shapes, recipes.gpt2(8))
    # A pattern settles it, and so does a rule before the recipe's.
    found = stds_of(
        shapes, recipes.gpt2(8, residual_outputs="**/Grouped_0/Dense_0/kernel")
    )
    assert found["params/Grouped_0/Dense_0/kernel"] == 0.005
    own = jinit.Rule("**/Grouped_0/*/kernel", jinit.normal(0.5))
    found = stds_of(shapes, [own, *recipes.gpt2(8)])
    assert found["params/Grouped_0/Dense_1/kernel"] == 0.5


def test_without_anything_that_shows_the_stream_only_the_usual_form_is_taken():
    def shapes(*sizes):
        layers = {f"Dense_{i}": {"kernel": jnp.ones(s)} for i, s in enumerate(sizes)}
        return {"params": {"Block_0": layers}}

    found = stds_of(shapes((16, 64), (64, 16)), recipes.gpt2(8))
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
    shapes = shapes_of(ConvNet(), struct(1, 8, 8, 3))
    found = stds_of(shapes, recipes.fixup(16))
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

    found = stds_of(shapes_of(Stem(), X), recipes.fixup(16))
    assert found["params/Dense_0/kernel"] == (2 / 5) ** 0.5
    assert found["params/Outside_0/Dense_0/kernel"] == 0.0
    both = stds_of(shapes_of(Net(Outside), X), recipes.fixup(16))
    assert both["params/Dense_0/kernel"] == (2 / 5) ** 0.5
    assert both["params/Dense_1/kernel"] == 0.0


@pytest.mark.parametrize("recipe", [recipes.deepnorm, recipes.t_fixup])
def test_layers_outside_of_the_stack_have_no_part_in_its_scale(recipe):
    found = stds_of(shapes_of(Net(Inside), X), recipe(8))
    assert found["params/Dense_0/kernel"] == 5**-0.5
    assert found["params/Dense_1/kernel"] == D**-0.5
    gain = jinit.residual_scale(recipe.__name__, 8)
    gain = getattr(gain, "beta", gain)
    inside = found["params/Inside_0/Dense_1/kernel"]
    assert inside == pytest.approx(gain * (2 / (5 * D)) ** 0.5)


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
    found = stds_of(shapes, [*recipes.inside("encoder/**", encoder), *decoder])
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
    found = stds_of(shapes, recipes.vit(2))
    assert found["embedding/kernel"] == pytest.approx((3 * 48) ** -0.5)
    assert found["embedding/bias"] == pytest.approx((3 * 48) ** -0.5)
    assert found["mlp/bias"] == 0.0
    tables = {"e": {"embedding": jnp.ones((9, 4))}, "rel_embedding": jnp.ones((4, 32))}
    found = stds_of(tables, recipes.t5())
    assert found == {"e/embedding": 0.5, "rel_embedding": (2 / 36) ** 0.5}
    assert stds_of(tables, recipes.t5(embedding_std=1.0))["e/embedding"] == 1.0
