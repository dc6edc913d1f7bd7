"""PyTorch's defaults: the laws of torch's layers for their counterparts in Flax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jinit
from jinit import recipes
from tests.support import laws
from tests.support.plans import stds_of


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
    found = stds_of(shapes, recipes.torch_defaults())
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
