"""`probe` names the layer that is sick, also where a norm hides it in the signal."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import pytest

import jinit

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(1)
X = jax.random.normal(jax.random.key(0), (64, 32))
SERIES = jax.random.normal(jax.random.key(0), (8, 12, 32))


class Tower(nn.Module):
    """Perceptrons behind norms on a stream."""

    act: object = nn.gelu

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(32, name="stem")(x)
        for i in range(4):
            y = self.act(nn.Dense(64, name=f"up_{i}")(nn.LayerNorm()(x)))
            x = x + nn.Dense(32, name=f"down_{i}")(y)
        return nn.Dense(10, name="head")(nn.LayerNorm()(x))


class Attention(nn.Module):
    """Attention without shortcuts averages over positions until all are alike."""

    depth: int = 2
    shortcut: float = 1.0

    @nn.compact
    def __call__(self, x):
        for i in range(self.depth):
            y = nn.MultiHeadDotProductAttention(4, name=f"attention_{i}")(x)
            x = nn.LayerNorm()(self.shortcut * x + y)
        return nn.Dense(10)(x)


def changed(model, x, factors, bias=None):
    """Return variables with some kernels multiplied, or the bias of a layer set."""
    variables = model.init(KEY, x)

    def change(path, w):
        path = "/".join(key.key for key in path)
        for part, factor in factors.items():
            if re.search(part, path) and path.endswith("kernel"):
                return w * factor
        if bias is not None and bias[0] in path and path.endswith("bias"):
            return jnp.broadcast_to(bias[1], w.shape)
        return w

    return jax.tree_util.tree_map_with_path(change, variables)


def verdict(model, x, factors, bias=None, loss=None):
    return jinit.probe(model, changed(model, x, factors, bias), x, loss=loss).verdict


def categories(findings):
    return {finding.category for finding in findings}


@pytest.mark.parametrize("factor", [3.0, 30.0])
def test_one_layer_that_its_norm_hides(factor):
    first = verdict(Tower(), X, {"up_2": factor})[0]
    assert first[:2] == ("large layer", "up_2")
    assert first.value == pytest.approx(factor, rel=0.2)


def test_all_layers_too_large_or_too_small():
    assert verdict(Tower(), X, {"": 3.0})[0].category == "large layer"
    assert verdict(Tower(), X, {"": 0.3})[0].category == "small layers"
    assert verdict(Tower(), X, {}) == []


def test_a_branch_that_drowns_the_stream():
    findings = verdict(Tower(), X, {"down_2": 10.0})
    large = next(f for f in findings if f.category == "large branch")
    assert "down_2" in large.path and large.value > 3


def test_half_of_the_units_dead_behind_any_activation():
    bias = jnp.where(jnp.arange(64) < 32, -100.0, 0.0)
    for act in (nn.relu, nn.gelu, nn.silu):
        first = verdict(Tower(act), X, {}, ("up_1", bias))[0]
        assert first.category == "dead" and "up_1" in str(first), act
        # What is said to be usual is not what was found.
        assert "usual: 0%, which is the share of units with fresh" in str(first), act
        assert first.value == pytest.approx(0.5, abs=0.03)


def test_a_softmax_that_chooses_one_key():
    findings = verdict(Attention(), SERIES, {"attention_1/query": 30.0})
    sharp = [f for f in findings if f.category == "sharp attention"]
    assert [f.path for f in sharp] == ["attention_1/softmax"] and sharp[0].value > 10


def test_one_head_that_is_saturated_is_enough():
    model = Attention()
    variables = model.init(KEY, SERIES)
    kernel = variables["params"]["attention_0"]["query"]["kernel"]
    one = kernel.at[:, 1].multiply(40)
    variables["params"]["attention_0"]["query"]["kernel"] = one
    findings = jinit.probe(model, variables, SERIES).verdict
    assert any(f[:2] == ("sharp attention", "attention_0/softmax") for f in findings)


def test_positions_that_become_alike():
    model = Attention(8, 0.0)
    variables = changed(model, SERIES, {"query": 0.01})
    findings = jinit.probe(model, variables, SERIES).verdict
    assert "positions alike" in categories(findings)
    assert "positions alike" not in categories(verdict(Attention(8), SERIES, {}))


def test_the_first_loss_is_compared_with_guessing():
    labels = jnp.arange(64) % 10

    def loss(logits):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    findings = verdict(Tower(), X, {"head": 4.0}, loss=loss)
    first = next(f for f in findings if f.category == "first loss")
    assert first.path == "head" and first.value > 2.3 + 1.5 and "2.3" in str(first)
    assert verdict(Tower(), X, {}, loss=loss) == []
    # A loss that is no cross entropy has no guess to compare with.
    findings = verdict(Tower(), X, {"head": 4.0}, loss=lambda y: jnp.mean(y**4))
    assert "first loss" not in categories(findings)


def experts(w, x):
    weights = jax.nn.softmax(x @ w["router"])
    up = jax.nn.relu(jnp.einsum("td,edm->tem", x, w["up"]))
    return jnp.einsum("tem,emd,te->td", up, w["down"], weights)


def test_a_router_that_sends_all_to_one_expert():
    shapes = {"router": (32, 4), "up": (4, 32, 64), "down": (4, 64, 32)}
    w = {
        name: jinit.lecun(layout="bio" if len(shape) == 3 else "io")(KEY, shape)
        for name, shape in shapes.items()
    }
    x = X + 3
    assert "router" not in categories(jinit.probe(experts, w, X).verdict)
    collapsed = w | {"router": w["router"].at[:, 2].add(0.5)}
    findings = jinit.probe(experts, collapsed, x).verdict
    assert any(f[:2] == ("router", "router") for f in findings)
    zeros = w | {"router": jnp.zeros((32, 4))}
    assert "router" not in categories(jinit.probe(experts, zeros, x).verdict)


def test_gates_of_a_recurrent_cell_that_are_saturated():
    model = nn.Sequential([nn.RNN(nn.GRUCell(32)), nn.Dense(4)])
    variables = changed(model, SERIES, {"": 30.0})
    assert "saturated" in categories(jinit.probe(model, variables, SERIES).verdict)


def test_gradients_that_adam_does_not_see():
    findings = verdict(Tower(), X, {}, loss=lambda y: 1e-9 * jnp.mean(y**2))
    assert "gradient below epsilon" in categories(findings)
    findings = verdict(Tower(), X, {}, loss=lambda y: jnp.mean(y**2))
    assert "gradient below epsilon" not in categories(findings)


def is_whole(text):
    """Tell whether one sentence says what is usual, and another one what helps."""
    parts = [part for part in re.split(r"\.\s+", text) if part]
    has_number = re.search(r"\d", parts[0])
    is_usual = re.search(r"usual|like (it|them)|guessing", parts[0])
    return len(parts) == 2 and text.endswith(".") and has_number and is_usual


def test_every_finding_is_two_whole_sentences():
    tanh = nn.Sequential([f for _ in range(16) for f in (nn.Dense(64), nn.tanh)])
    plain = nn.Sequential([f for _ in range(3) for f in (nn.Dense(8), nn.relu)])
    recurrent = nn.Sequential([nn.RNN(nn.GRUCell(32)), nn.Dense(4)])

    def loss(logits):
        labels = jnp.arange(64) % 10
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    findings = [
        *verdict(Tower(nn.relu), X, {}, ("up_1", -100.0)),
        *verdict(Tower(), X, {"head": 4.0}, loss=loss),
        *verdict(Tower(), X, {}, loss=lambda y: 1e-9 * jnp.mean(y**2)),
        *verdict(Attention(), SERIES, {"attention_1/query": 30.0}),
        *verdict(Attention(8, 0.0), SERIES, {"query": 0.01}),
        *verdict(recurrent, SERIES, {"": 30.0}),
        *verdict(tanh, X, {"": 0.3}, ("layers_4", 0.5)),
        *verdict(plain, X, {}, ("layers_2", -9.0)),
        *jinit.probe(lambda w, x: jnp.log(-((x @ w) ** 2)), jnp.eye(32), X).verdict,
    ]
    assert len(categories(findings)) >= 10
    for finding in findings:
        assert is_whole(str(finding)), str(finding)


def test_a_sentence_says_what_is_usual_and_one_what_to_try():
    for factors in ({"up_2": 30.0}, {"down_2": 10.0}, {"": 3.0}, {"": 0.3}):
        for finding in verdict(Tower(), X, factors):
            text = str(finding)
            assert is_whole(text), text


def test_who_has_he_is_not_told_to_try_he():
    class Plain(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(8):
                # Twice the signal, behind a layer with the std of he().
                x = 2 * nn.relu(nn.Dense(64, kernel_init=jinit.he())(x))
            return nn.Dense(10)(x)

    findings = verdict(Plain(), X, {})
    assert findings[0].category == "signal grows" and "he()" not in str(findings[0])


def test_a_constant_has_no_kurtosis():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3, kernel_init=jinit.zeros)(x)

    report = jinit.probe(Net(), Net().init(KEY, X), X)
    assert report.rows[0]["kurtosis"] != report.rows[0]["kurtosis"]
    assert report.to_dict()["rows"][0]["kurtosis"] is None
    assert "-3" not in str(report)


class Windows(nn.Module):
    """Convolutions of a window of one channel each, as in MobileNet."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(16, (3, 3), kernel_init=jinit.he(), name="stem")(x))
        for i in range(3):
            init = jinit.he()
            y = nn.Conv(16, (3, 3), (2, 2), feature_group_count=16, kernel_init=init,
                        name=f"deep_{i}")(x)  # fmt: skip
            x = nn.relu(nn.Conv(16, (1, 1), kernel_init=init)(nn.relu(y)))
        return nn.Dense(10, name="head")(x.mean((1, 2)))


def test_units_that_are_dead_by_chance_are_no_finding():
    # One place is left of each image, where half of the windows' centres are negative.
    x = jax.random.normal(KEY, (8, 4, 4, 3))
    report = jinit.probe(Windows(), Windows().init(KEY, x), x)
    rows = {row["path"]: row["dead"] for row in report.rows}
    assert max(rows.values()) >= 0.25
    assert "dead" not in categories(report.verdict)
    # All of them are not dead by chance, on so few images either.
    variables = changed(Windows(), x, {}, ("deep_2", -100.0))
    findings = jinit.probe(Windows(), variables, x).verdict
    assert any(f.category == "dead" and "deep_2" in str(f) for f in findings)


def test_few_or_equal_inputs_leave_units_dead_by_chance():
    model = Tower(nn.relu)
    for x in (jnp.broadcast_to(X[:1], X.shape), X[:1] + 1e-3 * X):
        assert "dead" not in categories(verdict(model, x, {}))
        # All of them are dead by a bias.
        findings = verdict(model, x, {}, ("up_1", -100.0))
        assert "dead" in categories(findings)
    # A single input leaves half of the units at 0.
    assert "dead" not in categories(verdict(model, X[:1], {}))


def test_an_activation_of_zeros_has_a_slope():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            y = nn.gelu(nn.Dense(64, kernel_init=jinit.zeros)(x))
            return nn.Dense(10)(x + nn.Dense(32)(y))

    assert verdict(Net(), X, {}) == []


def test_small_layers_without_norms():
    model = nn.Sequential([nn.RNN(nn.GRUCell(32)), nn.Dense(4)])
    findings = verdict(model, SERIES[..., :16], {"": 0.3})
    assert findings[0].category == "small layers" and "the state" in str(findings[0])
    assert verdict(model, SERIES[..., :16], {}) == []


def test_a_norm_that_one_window_of_many_lacks():
    class Net(nn.Module):
        drop: int = -1

        @nn.compact
        def __call__(self, x):
            x = nn.Conv(8, (3, 3), name="stem")(x)
            for i, width in enumerate((8, 12, 16, 20, 24, 28)):
                y = x if i == self.drop else nn.GroupNorm(4)(x)
                x = nn.Conv(width, (3, 3), name=f"window_{i}")(nn.silu(y))
            return nn.Dense(10)(x.mean((1, 2)))

    x = jax.random.normal(KEY, (8, 6, 6, 3))
    assert verdict(Net(), x, {}) == []
    findings = verdict(Net(3), x, {})
    assert [f[:2] for f in findings if f.category == "no norm"] == [
        ("no norm", "window_3")
    ]


def test_a_std_that_is_rounding_alone_is_marked():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            bias = jinit.constant(0.1)
            return nn.Dense(3, kernel_init=1e-9 * jinit.lecun(), bias_init=bias)(x)

    report = jinit.probe(Net(), Net().init(KEY, X), X)
    (line,) = [line for line in str(report).splitlines() if "Dense_0" in line]
    assert line.split()[-8:-5] == ["0.1", "-", "0.1"]


def test_a_nan_is_named_where_it_is():
    w = {"a": jnp.eye(32), "b": jnp.eye(32).at[0, 0].set(jnp.nan)}

    def model(w, x):
        return jax.nn.relu(x @ w["a"]) @ w["b"]

    (weight,) = jinit.probe(model, w, X).verdict
    assert weight[:2] == ("not finite", "b") and "the parameter b itself" in str(weight)
    w["b"] = w["a"]
    (batch,) = jinit.probe(model, w, X.at[0, 0].set(jnp.nan)).verdict
    assert batch[:2] == ("not finite", "a") and "the batch that a reads" in str(batch)
    assert is_whole(str(weight)) and is_whole(str(batch))


def test_norms_are_spoken_of_where_there_are_some():
    assert "a norm may hide" in str(verdict(Tower(), X, {"up_2": 30.0})[0])
    plain = nn.Sequential([nn.Dense(32) for _ in range(5)])
    for factors in ({"layers_2": 30.0}, {"": 3.0}):
        (large, *_) = verdict(plain, X, factors)
        assert large.category == "large layer" and "norm" not in str(large)
        assert is_whole(str(large))


def test_shares_of_0_make_whole_sentences():
    model = Attention(8, 0.0)
    variables = changed(model, SERIES, {"query": 0.0, "key": 0.0})
    findings = jinit.probe(model, variables, SERIES).verdict
    alike = next(f for f in findings if f.category == "positions alike")
    assert "the share of their rms that differs is" in str(alike)
    assert is_whole(str(alike))
