"""`probe` finds nothing in models that are healthy: its silence is worth something."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import jinit
from tests.support.zoo import every, healthy

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(1)
X = jax.random.normal(jax.random.key(0), (64, 32))
SERIES = jax.random.normal(jax.random.key(0), (16, 12, 8))
# One of each kind; the others take half an hour.
FAST = {
    "gpt2", "llama, scanned", "deepnorm", "dit", "experts, mapped", "gru in Flax",
    "resnet v1", "rezero", "lora, beside", "unet", "variational autoencoder",
}  # fmt: skip
UNSUITED = {
    # LeCun's kernels are 30 times too large for a sine of 30 x.
    "siren",
    # Normalized queries and keys are multiplied by 12, for heads of another width.
    "residual values",
    # No gradient passes a `while`.
    "behind a while loop",
    # They are written for a mesh of shapes, which has no devices to run on.
    "tensor parallel", "fully sharded", "expert parallel",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _as_the_field_writes():
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize(
    "name",
    [
        name if name in FAST else pytest.param(name, marks=pytest.mark.slow)
        for name in every.models()
        if name not in UNSUITED
    ],
)
def test_healthy_models_of_the_zoo(name):
    report = jinit.probe(healthy.network(every.models()[name]()))
    assert report.verdict == []
    report.check()


class Block(nn.Module):
    scale: object = nn.initializers.ones
    factor: float = 1.0

    @nn.compact
    def __call__(self, x):
        y = nn.relu(nn.LayerNorm()(nn.Dense(64, kernel_init=jinit.he())(x)))
        y = nn.Dense(x.shape[-1], kernel_init=jinit.he())(y)
        return nn.relu(x + self.factor * nn.LayerNorm(scale_init=self.scale)(y))


class Net(nn.Module):
    head: object = nn.initializers.lecun_normal()
    block: object = Block

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(64, kernel_init=jinit.he())(x))
        for _ in range(4):
            x = self.block()(x)
        return nn.Dense(10, kernel_init=self.head)(x)


class Policy(nn.Module):
    @nn.compact
    def __call__(self, x):
        h = x
        for _ in range(2):
            h = nn.tanh(nn.Dense(64, kernel_init=jinit.orthogonal(2**0.5))(h))
        heads = [nn.Dense(n, kernel_init=jinit.orthogonal(0.01))(h) for n in (5, 3)]
        value = nn.Dense(1, kernel_init=jinit.orthogonal(1.0))(h)
        return *map(nn.log_softmax, heads), value


class SkipInit(nn.Module):
    @nn.compact
    def __call__(self, x):
        y = nn.Dense(64, kernel_init=jinit.he())(nn.relu(x))
        return x + self.param("gain", nn.initializers.zeros, ()) * y


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (Net(block=lambda: Block(nn.initializers.zeros)), X),
        (Net(block=lambda: Block(factor=0.0)), X),
        (Net(block=SkipInit), X),
        (Net(head=jinit.zeros), X),
        (Net(head=jinit.normal(1e-5)), X),
        (Policy(), X),
        (nn.Sequential([nn.RNN(nn.GRUCell(32)), nn.Dense(4)]), SERIES),
        (nn.Sequential([nn.RNN(nn.LSTMCell(32)), nn.Dense(4)]), SERIES),
        (nn.Sequential([nn.RNN(nn.SimpleCell(32)), nn.Dense(4)]), SERIES),
    ],
    ids=[
        "norms0",
        "gates0",
        "skip0",
        "head0",
        "head1e-5",
        "policy",
        "gru",
        "lstm",
        "rnn",
    ],
)  # fmt: skip
def test_what_starts_small_on_purpose(model, x):
    assert jinit.probe(model, model.init(KEY, x), x).verdict == []


def test_inputs_that_are_equal_tell_nothing():
    x = jnp.ones((8, 32))
    assert jinit.probe(Net(), Net().init(KEY, x), x).verdict == []
    one = X[:1]
    assert jinit.probe(Net(), Net().init(KEY, one), one).verdict == []


def test_a_mask_of_minus_infinity_is_no_trouble():
    def attend(w, x):
        logits = jnp.einsum("btd,bsd->bts", x @ w["q"], x @ w["k"]) / 8**0.5
        mask = jnp.tril(jnp.ones(logits.shape[1:], bool))
        logits = jnp.where(mask[None], logits, -jnp.inf)
        logits = jax.ad_checkpoint.checkpoint_name(logits, "masked")
        return jax.nn.softmax(logits) @ (x @ w["v"])

    keys = dict(zip("qkv", jax.random.split(KEY, 3), strict=True))
    w = {name: jinit.lecun()(key, (8, 8)) for name, key in keys.items()}
    assert jinit.probe(attend, w, SERIES).verdict == []


@pytest.mark.parametrize("is_normed", [False, True])
def test_a_gate_before_one_kernel_of_a_recurrent_cell(is_normed):
    def cell(p, x):
        def step(h, x):
            state = h
            if is_normed:
                state = (
                    p["scale"]
                    * h
                    * jax.lax.rsqrt(jnp.mean(h**2, -1, keepdims=True) + 1e-6)
                )
            z = jax.nn.sigmoid(x @ p["wz"] + state @ p["uz"])
            r = jax.nn.sigmoid(x @ p["wr"] + state @ p["ur"])
            n = jnp.tanh(x @ p["wn"] + (r * state) @ p["un"])
            h = z * h + (1 - z) * n
            return h, None

        h = jnp.zeros((len(x), 32))
        return jax.lax.scan(step, h, x.swapaxes(0, 1))[0] @ p["head"]

    keys = jax.random.split(KEY, 7)
    p = {f"w{c}": jinit.lecun()(k, (8, 32)) for c, k in zip("zrn", keys, strict=False)}
    for c, key in zip("zrn", keys[3:], strict=False):
        p[f"u{c}"] = jinit.orthogonal()(key, (32, 32))
    p |= {"scale": jnp.ones(32), "head": jinit.lecun()(keys[6], (32, 4))}
    assert jinit.probe(cell, p, SERIES).verdict == []
