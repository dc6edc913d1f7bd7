"""`audit` names what is drawn wrongly, with the number and the cure; else it is silent.

The defects are those of public code, written anew in miniature: see each test.
"""

import math
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import jinit
from tests.support.trees import rows_by_path

pytestmark = pytest.mark.usefixtures("quick_compilation", "_as_the_field_writes")

KEYS = jax.random.split(jax.random.key(14), 16)
lecun = jax.nn.initializers.lecun_normal()


@pytest.fixture
def _as_the_field_writes():
    """Most code bases add biases of lower rank."""
    with jax.numpy_rank_promotion("allow"):
        yield


def categories(audit):
    return {finding.path: finding.category for finding in audit.findings}


def norm(x):
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6)


def experts(p, x):
    h = norm(x)
    weights = jax.nn.softmax(h @ p["gate"])
    y = jax.nn.silu(jnp.einsum("bd,edm->bem", h, p["wi_0"]))
    y = y * jnp.einsum("bd,edm->bem", h, p["wi_1"])
    return (x + jnp.einsum("bem,emd,be->bd", y, p["wo"], weights)) @ p["out"]


def of_experts(init, e=8, d=64, m=96):
    shapes = {"wi_0": (e, d, m), "wi_1": (e, d, m), "wo": (e, m, d)}
    kernels = {n: init(KEYS[i], s) for i, (n, s) in enumerate(shapes.items())}
    return kernels | {"gate": lecun(KEYS[3], (d, e)), "out": lecun(KEYS[4], (d, d))}


def blocks(p, x):
    split = x.reshape(len(x), *p["w"].shape[:2])
    mixed = jnp.einsum("bgi,gio->bgo", split, p["w"])
    return jax.nn.gelu(mixed.reshape(len(x), -1)) @ p["out"]


def perceptron(p, x):
    return jax.nn.relu(x @ p["up"]) @ p["down"]


def cross_entropy(labels):
    def loss(logits):
        return -jnp.mean(jnp.sum(labels * jax.nn.log_softmax(logits), -1))

    return loss


def test_experts_whose_axis_is_taken_for_the_inputs():
    """As in MaxText's moe.py: in_axis=0 and out_axis=1 of (experts, d, m)."""
    init = jax.nn.initializers.variance_scaling(
        1.0, "fan_in", "truncated_normal", in_axis=0, out_axis=1
    )
    audit = jinit.audit(experts, of_experts(init), jnp.ones((3, 64)))
    assert categories(audit) == dict.fromkeys(
        ("wi_0", "wi_1", "wo"), "fans over the wrong axes"
    )
    row = rows_by_path(audit)["wi_0"]
    text = "lecun over axes (0, 2): fan_in 8 x 96 = 768"
    assert row["law"].startswith(text)
    # 1 / sqrt(8 * 96) in the place of 1 / sqrt(64), which the first layer needs.
    assert row["ratio"] == pytest.approx(math.sqrt(64 / 768), rel=0.02)
    assert audit.findings[0].value == pytest.approx(768**-0.5, rel=0.02)
    message = str(audit.findings[0])
    assert f"{text}; the product contracts axis 1 alone: fan_in 64" in message
    assert "jinit.lecun(layout='bio')" in message
    cured = of_experts(jinit.lecun(layout="bio"))
    jinit.audit(experts, cured, jnp.ones((3, 64))).check()


@pytest.mark.parametrize("name", ["lecun", "he", "xavier"])
@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_members_that_are_counted_as_inputs(name, distribution):
    """As in RecurrentGemma's BlockDiagonalLinear and MaxText's grouped linear."""
    shape = count, width, units = 10, 24, 40
    init = getattr(jax.nn.initializers, f"{name}_{distribution}")()
    params = {"w": init(KEYS[0], shape)}
    params["out"] = lecun(KEYS[1], (count * units, 8))
    audit = jinit.audit(blocks, params, jnp.ones((3, count * width)))
    assert categories(audit) == {"w": "members counted as inputs"}
    message = str(audit.findings[0])
    assert "The members along axis 0 are counted as inputs" in message
    # The root of the ten members.
    assert re.search(r"3\.1\d times too small", message)
    right = getattr(jinit, name)(layout="bio", distribution=distribution)
    params["w"] = right(KEYS[0], shape)
    assert f"jinit.{name}(layout='bio')" in message
    jinit.audit(blocks, params, jnp.ones((3, count * width))).check()


def test_groups_that_are_counted_as_inputs():
    class Grouped(nn.Module):
        kernel: object

        @nn.compact
        def __call__(self, x):
            conv = nn.Conv(
                64, (3, 3), feature_group_count=8, kernel_init=self.kernel, name="conv"
            )
            return nn.Dense(10)(nn.relu(conv(x)).mean((1, 2)))

    x = jnp.ones((2, 8, 8, 64))

    def audit(init):
        model = Grouped(init)
        return jinit.audit(model, model.init(KEYS[0], x), x)

    # The layer has 64 inputs, of which each output reads 8.
    audit_of_wrong = audit(jinit.normal((9 * 64) ** -0.5))
    assert categories(audit_of_wrong) == {"conv/kernel": "groups counted as inputs"}
    assert "fan_in 8 x 72 = 576" in str(audit_of_wrong.findings[0])
    audit(nn.linear.default_kernel_init).check()


def test_transposed_kernels_and_heads():
    """JAX's initializers take the last axis for the outputs, whatever is contracted."""
    params = {"up": lecun(KEYS[0], (256, 64)), "down": lecun(KEYS[1], (32, 256))}
    audit = jinit.audit(
        lambda p, x: jax.nn.relu(x @ p["up"].T) @ p["down"].T, params, jnp.ones((2, 64))
    )
    assert categories(audit) == dict.fromkeys(params, "fans over the wrong axes")
    assert "jinit.lecun(layout='oi')" in str(audit.findings[0])
    heads = {"q": lecun(KEYS[0], (64, 4, 16)), "out": lecun(KEYS[1], (64, 8))}

    def project(p, x):
        return jnp.einsum("bd,dhk->bhk", x, p["q"]).reshape(len(x), -1) @ p["out"]

    audit = jinit.audit(project, heads, jnp.ones((2, 64)))
    assert categories(audit) == {"q": "fans over the wrong axes"}
    assert "fan_in 64 x 4 = 256" in str(audit.findings[0])


def test_a_head_whose_first_loss_is_far_from_guessing():
    """As in the T5 of transformers, whose head is drawn with std 1."""
    vocabulary, width = 500, 128

    def model(p, ids):
        h = p["table"][ids]
        return norm(h + norm(h) @ p["w"]) @ p["head"]

    ids = jax.random.randint(KEYS[0], (8, 16), 0, vocabulary)
    labels = jax.nn.one_hot(jnp.roll(ids, 1), vocabulary)
    params = {
        "table": jinit.normal(1.0)(KEYS[1], (vocabulary, width)),
        "w": lecun(KEYS[2], (width, width)),
        "head": jinit.normal(1.0)(KEYS[3], (width, vocabulary)),
    }
    audit = jinit.audit(model, params, ids, loss=cross_entropy(labels))
    assert categories(audit) == {"head": "first loss"}
    message = str(audit.findings[0])
    assert f"guessing costs {math.log(vocabulary):.4g}" in message
    # The largest of 500 logits of variance `width` lies about 3 std above the others.
    assert audit.findings[0].value == pytest.approx(3 * math.sqrt(width), rel=0.2)
    assert "draw it with std 0.0884" in message
    # Without a loss nobody knows that the outputs are logits.
    silent = jinit.audit(model, params, ids)
    assert not silent.findings
    assert [note.path for note in silent.notes] == ["head"]
    for head in (lecun(KEYS[3], (width, vocabulary)), jnp.zeros((width, vocabulary))):
        healthy = params | {"head": head}
        jinit.audit(model, healthy, ids, loss=cross_entropy(labels)).check()


def test_a_first_loss_of_squares_or_of_probabilities():
    x = jax.random.normal(KEYS[0], (64, 16))
    params = {"up": jinit.he()(KEYS[1], (16, 64)), "down": lecun(KEYS[2], (64, 3))}
    labels = jax.nn.one_hot(jnp.arange(64) % 3, 3)

    def softmax(p, x):
        return jax.nn.softmax(perceptron(p, x))

    def squares(y):
        return jnp.mean((y - labels) ** 2)

    def logs(y):
        return -jnp.mean(jnp.sum(labels * jnp.log(y), -1))

    def audit(model, factor, loss):
        scaled = params | {"down": factor * params["down"]}
        return categories(jinit.audit(model, scaled, x, loss=loss))

    assert not audit(perceptron, 1.0, squares) and not audit(softmax, 1.0, logs)
    assert audit(perceptron, 20.0, squares) == {"down": "first loss"}
    assert audit(softmax, 20.0, logs) == {"down": "first loss"}
    assert audit(perceptron, 1.0, lambda y: y.sum() * jnp.nan) == {"down": "first loss"}
    with pytest.raises(ValueError, match="must return a scalar"):
        audit(perceptron, 1.0, lambda y: y)


def test_logarithms_of_zero_in_16_bits():
    """As in the state-space models of transformers: log(uniform) in bfloat16."""

    def model(p, x):
        decay = jnp.exp(-jnp.exp(p["log_a"].astype(jnp.float32)))
        return (x @ p["up"] * decay) @ p["down"]

    draw = jax.random.uniform(KEYS[0], (8192,), jnp.bfloat16, 0, 16)
    params = {
        "up": lecun(KEYS[1], (8, 8192)),
        "log_a": jnp.log(draw),
        "down": lecun(KEYS[2], (8192, 4)),
    }
    wrong = int(jnp.sum(jnp.isinf(params["log_a"])))
    assert wrong > 0
    audit = jinit.audit(model, params, jnp.ones((2, 8)))
    assert categories(audit) == {"log_a": "not finite"}
    assert audit.findings[0].value == wrong
    assert f"{wrong} of 8,192 entries" in str(audit.findings[0])
    assert "in float32, and round" in str(audit.findings[0])
    assert rows_by_path(audit)["log_a"]["law"] == "-"
    wide = jax.random.uniform(KEYS[0], (8192,), jnp.float32, 1e-3, 16)
    params["log_a"] = jnp.log(wide).astype(jnp.bfloat16)
    jinit.audit(model, params, jnp.ones((2, 8))).check()


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_draws_in_16_bits(dtype):
    def audit(init, cast=dtype):
        up, down = init(KEYS[0], (128, 256), dtype), init(KEYS[1], (256, 64), dtype)
        params = {"up": up.astype(cast), "down": down.astype(cast)}
        return jinit.audit(perceptron, params, jnp.ones((2, 128), cast))

    wrong = audit(jax.nn.initializers.he_normal())
    # One cause is one finding, which names all.
    assert categories(wrong) == {"up": "few distinct values"}
    assert len(wrong.findings) == 1
    message = str(wrong.findings[0])
    assert message.startswith("2 parameters (") and "They are up, down." in message
    # JAX draws 7 bits in bfloat16, and 10 in float16.
    assert wrong.findings[0].value <= (128 if dtype == jnp.bfloat16 else 1024)
    audit(jinit.he_normal()).check()
    audit(jinit.lecun_uniform()).check()
    if dtype == jnp.bfloat16:
        cast = audit(jax.nn.initializers.he_normal(), jnp.float32)
        assert "few distinct values" in set(categories(cast).values())
        audit(jinit.he_normal(), jnp.float32).check()


def test_a_key_that_is_used_twice():
    params = {"up": lecun(KEYS[0], (64, 128)), "down": 0.1 * lecun(KEYS[0], (128, 8))}
    audit = jinit.audit(perceptron, params, jnp.ones((2, 64)))
    assert categories(audit) == {"down": "equal values"}
    assert "up, down" in str(audit.findings[0]) and "split" in str(audit.findings[0])
    params["down"] = jax.random.uniform(KEYS[0], (128, 8), minval=-0.1, maxval=0.1)
    audit = jinit.audit(perceptron, params, jnp.ones((2, 64)))
    assert categories(audit) == {"down": "equal values"}


def test_equal_members_of_an_ensemble():
    def ensemble(p, x):
        return jax.vmap(perceptron, (0, None))(p, x)

    up = lecun(KEYS[0], (32, 64))
    split = jax.random.split(KEYS[1], 4)
    params = {"up": jnp.stack([up] * 4)}
    params["down"] = jax.vmap(lambda key: lecun(key, (64, 8)))(split)
    audit = jinit.audit(ensemble, params, jnp.ones((2, 32)))
    assert categories(audit) == {"up": "equal values"}
    assert "4 members along axis 0" in str(audit.findings[0])
    params["up"] = jax.vmap(lambda key: lecun(key, (32, 64)))(KEYS[2:6])
    jinit.audit(ensemble, params, jnp.ones((2, 32))).check()


def test_constant_kernels_and_zeros_on_purpose():
    x, drawn = jnp.ones((2, 64)), {"up": lecun(KEYS[0], (64, 128))}
    drawn["down"] = lecun(KEYS[1], (128, 8))

    def audit(**kernels):
        return categories(jinit.audit(perceptron, drawn | kernels, x))

    assert audit(up=jnp.full((64, 128), 0.01)) == {"up": "constant"}
    assert audit(up=jnp.zeros((64, 128))) == {"up": "constant"}
    assert audit(down=jnp.zeros((128, 8))) == {}
    both = {"up": jnp.zeros((64, 128)), "down": jnp.zeros((128, 8))}
    assert audit(**both) == {"up": "constant"}

    def lora(p, x):
        return perceptron({"up": p["up"] + p["a"] @ p["b"], "down": p["down"]}, x)

    def residual(p, x):
        x = x + jax.nn.relu(norm(x) @ p["up"]) @ p["end"]
        return norm(x) @ p["head"]

    pair = {"a": jinit.he()(KEYS[2], (64, 4)), "b": jnp.zeros((4, 128))}
    jinit.audit(lora, drawn | pair, x).check()
    ends = {"up": drawn["up"], "end": jnp.zeros((128, 64)), "head": jnp.zeros((64, 8))}
    jinit.audit(residual, ends, x).check()

    def low_rank(p, x):
        return (x @ p["up"] + jnp.tanh(x @ p["a"]) @ p["b"]) @ p["down"]

    # The first factor of RWKV-7's pairs is 0; one that is no bottleneck is a mistake.
    pair = {"a": jnp.zeros((64, 4)), "b": lecun(KEYS[2], (4, 128))}
    jinit.audit(low_rank, drawn | pair, x).check()
    pair = {"a": jnp.zeros((64, 64)), "b": lecun(KEYS[2], (64, 128))}
    assert categories(jinit.audit(low_rank, drawn | pair, x)) == {"a": "constant"}


def test_a_gain_of_another_activation_matters_in_deep_plain_networks():
    def audit(init, depth, between=lambda x: x, f=jax.nn.relu):
        def model(params, x):
            for w in params[:-1]:
                x = f(between(x @ w))
            return x @ params[-1]

        keys = jax.random.split(KEYS[0], depth + 1)
        params = [init(key, (64, 64)) for key in keys]
        return jinit.audit(model, params, jax.random.normal(KEYS[1], (16, 64)))

    sick = audit(jinit.lecun(), 14)
    assert set(categories(sick).values()) == {"wrong gain"}
    assert "jinit.kaiming('relu')" in str(sick.findings[0])
    # Thirteen or fourteen relus halve the square of the signal.
    assert sick.findings[0].value == pytest.approx(2**-7, rel=0.5)
    audit(jinit.he(), 14).check()
    audit(jinit.lecun(), 4).check()
    audit(jinit.lecun(), 14, norm).check()
    audit(jinit.kaiming("tanh"), 14, f=jnp.tanh).check()
    # Tanh bends back what a smaller gain leaves, so that the signal shrinks slowly.
    audit(jinit.lecun(), 14, f=jnp.tanh).check()


def test_depth_scaling_is_a_note():
    class Block(nn.Module):
        scale: float

        @nn.compact
        def __call__(self, x, _):
            y = nn.gelu(nn.Dense(128)(nn.LayerNorm()(x)))
            return x + nn.Dense(64, kernel_init=jinit.lecun() * self.scale)(y), None

    def audit(scale, depth=24):
        stack = nn.scan(
            Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=depth,
        )
        model, x = stack(scale), jax.random.normal(KEYS[0], (4, 64))
        return jinit.audit(model, model.init(KEYS[1], x, None), x, None)

    unscaled, scaled = audit(1.0), audit(24**-0.5)
    assert [note.category for note in unscaled.notes] == [
        "branch ends without depth scaling"
    ]
    assert "1 / sqrt(24) = 0.204" in str(unscaled.notes[0])
    unscaled.check()
    assert not scaled.notes and not scaled.findings
