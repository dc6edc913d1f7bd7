"""`lsuv`: every layer's output has the std that is wanted, in every kind of model."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

import jinit
from tests.support.trees import same

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(4)
X = jax.random.normal(KEY, (32, 24))


def stds(model, variables, x=X, **options):
    report = jinit.probe(model, variables, x, **options)
    return {row["path"]: row["std"] for row in report.rows}


def set_up(model, x=X, **options):
    variables = model.init(KEY, x)
    return jinit.lsuv(model, variables, x, **options)


class Deep(nn.Module):
    depth: int = 8
    bias: object = jinit.constant(0.0)
    kernel: object = jinit.lecun()
    dtype: object = None

    @nn.compact
    def __call__(self, x):
        for _ in range(self.depth):
            x = nn.Dense(24, kernel_init=self.kernel, bias_init=self.bias,
                         dtype=self.dtype)(x)  # fmt: skip
            x = nn.silu(x)
        return x


@pytest.mark.parametrize(
    ("bias", "target"), [(jinit.constant(0.0), 1.0), (jinit.normal(0.1), 0.3)]
)
def test_one_pass_sets_a_deep_network_and_a_second_looks(bias, target):
    model = Deep(bias=bias)
    variables = model.init(KEY, X)
    assert min(stds(model, variables).values()) < 0.12
    new, history = jinit.lsuv(model, variables, X, target_std=target)
    layers = {p: s for p, s in stds(model, new).items() if "Dense" in p}
    assert len(layers) == 8
    assert all(s == pytest.approx(target, rel=1e-3) for s in layers.values())
    assert history.steps == 2
    # Kernels are scaled, and nothing else is touched.
    for path, layer in new["params"].items():
        old = variables["params"][path]
        chex.assert_trees_all_equal(layer["bias"], old["bias"])
        ratio = np.asarray(layer["kernel"] / old["kernel"])
        assert np.ptp(ratio) < 1e-5 * ratio.mean() and ratio.mean() > 0


def test_its_own_result_stays_as_it_is():
    model = Deep(4)
    new, _ = set_up(model)
    again, history = jinit.lsuv(model, new, X)
    assert same(new, again) and history.steps == 1
    # Within the tolerance nothing is changed, either.
    loose, _ = jinit.lsuv(model, new, X, target_std=1.015)
    chex.assert_trees_all_equal(new, loose)
    strict, _ = jinit.lsuv(model, new, X, target_std=1.015, tol=0.001)
    assert not same(new, strict)


@pytest.mark.parametrize("scale", [1e-25, 1e15])
def test_scales_whose_squares_are_out_of_range(scale):
    model = Deep(3, kernel=scale * jinit.lecun())
    new, _ = set_up(model)
    assert stds(model, new)["Dense_2"] == pytest.approx(1, rel=0.02)


def test_an_orthonormal_start():
    new, _ = set_up(Deep(3), orthonormal=True)
    for layer in new["params"].values():
        gram = np.asarray(layer["kernel"].T @ layer["kernel"])
        assert np.allclose(gram / gram[0, 0], np.eye(24), atol=1e-4)
    again, _ = jinit.lsuv(Deep(3), new, X, orthonormal=True)
    chex.assert_trees_all_close(new, again, rtol=0.03, atol=1e-8)


class Image(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(8, (3, 3))(x))
        x = x + nn.Conv(8, (3, 3), name="branch")(nn.GroupNorm(4)(x))
        x = nn.relu(nn.ConvTranspose(6, (2, 2), (2, 2), transpose_kernel=True)(x))
        x = nn.relu(nn.Conv(6, (3, 3), feature_group_count=6, name="depthwise")(x))
        x = x.reshape(x.shape[0], -1, 6)
        x = x + nn.MultiHeadDotProductAttention(2, name="attention")(x)
        return nn.DenseGeneral((2, 3), axis=(1, 2), name="head")(x)


def test_convolutions_branches_and_attention():
    x = jax.random.normal(KEY, (4, 4, 4, 3))
    model = Image()
    new, history = set_up(model, x)
    found = stds(model, new, x)
    names = ["Conv_0", "branch", "ConvTranspose_0", "depthwise", "head"]
    names += [f"attention/{part}" for part in ("query", "key", "value", "out")]
    assert history.steps == 2
    assert {row["path"] for row in history.rows} == set(names)
    assert all(found[name] == pytest.approx(1, rel=0.02) for name in names)


class Shared(nn.Module):
    @nn.compact
    def __call__(self, x):
        layer = nn.Dense(24, kernel_init=jinit.normal(1.0), bias_init=jinit.normal(0.3))
        first = nn.relu(layer(x))
        return nn.Dense(5, name="head")(nn.relu(layer(first)))


def test_shared_weights_are_scaled_for_their_first_use():
    new, history = set_up(Shared())
    found = stds(Shared(), new)
    assert found["Dense_0"] == pytest.approx(1, rel=0.02)
    assert found["head"] == pytest.approx(1, rel=0.02)
    assert history.steps == 2


class Stack(nn.Module):
    axis: int = 0

    @nn.compact
    def __call__(self, x):
        scan = nn.scan(
            lambda layer, x, _: (nn.relu(layer(x)), None),
            variable_axes={"params": self.axis}, split_rngs={"params": True}, length=5,
        )  # fmt: skip
        layer = nn.Dense(24, name="inner", bias_init=jinit.normal(0.1))
        x, _ = scan(layer, x, None)
        return nn.Dense(3, name="head")(x)


@pytest.mark.parametrize("axis", [0, 1])
def test_each_layer_of_a_scanned_stack_is_set(axis):
    model = Stack(axis)
    new, history = set_up(model)
    found = stds(model, new)
    paths = [f"inner[{i}]" for i in range(5)] + ["head"]
    assert [row["path"] for row in history.rows if row["step"] == 1] == paths
    assert all(found[path] == pytest.approx(1, rel=0.02) for path in paths)
    assert history.steps == 2


def test_a_recurrent_cell_is_set_for_the_first_step_that_says_anything():
    model = nn.RNN(nn.SimpleCell(24))
    x = jax.random.normal(KEY, (16, 6, 5))
    new, _ = set_up(model, x)
    found = stds(model, new, x)
    assert found["cell/i[0]"] == pytest.approx(1, rel=0.02)
    assert found["cell/h[0]"] == 0 or found["cell/h[0]"] < 1e-6
    assert found["cell/h[1]"] == pytest.approx(1, rel=0.02)


def test_weight_norms_are_scaled_by_their_gains():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.WeightNorm(nn.Dense(24))(x))
            return nn.WeightNorm(nn.Dense(7))(x)

    variables = Net().init(KEY, X)
    new, _ = jinit.lsuv(Net(), variables, X)
    found = stds(Net(), new)
    assert found["Dense_0"] == pytest.approx(1, rel=0.02)
    assert found["Dense_1"] == pytest.approx(1, rel=0.02)
    for path in ("Dense_0", "Dense_1"):
        chex.assert_trees_all_equal(new["params"][path], variables["params"][path])


def test_bfloat16_dropout_batch_norm_and_skip():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            x = nn.Dense(64, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)(x)
            x = nn.BatchNorm(use_running_average=not train)(x)
            x = nn.Dropout(0.3, deterministic=not train)(nn.relu(x))
            x = nn.Dense(64, name="left")(x)
            return nn.Dense(8, kernel_init=jinit.constant(0.0), name="zero")(nn.relu(x))

    model = Net()
    variables = model.init(KEY, X, False)
    options = {"rngs": {"dropout": KEY}, "train": True}
    new, history = jinit.lsuv(model, variables, X, skip=["left", "z*"], **options)
    found = stds(model, new, **options)
    assert found["Dense_0"] == pytest.approx(1, rel=0.02)
    chex.assert_trees_all_equal(new["params"]["left"], variables["params"]["left"])
    chex.assert_trees_all_equal(new["batch_stats"], variables["batch_stats"])
    assert new["params"]["Dense_0"]["kernel"].dtype == jnp.bfloat16
    assert {row["path"] for row in history.rows} == {"Dense_0"}


def test_functions_whose_values_are_named_by_their_weights():
    def model(variables, x):
        x = jax.nn.relu(checkpoint_name(x @ variables["a"], "a"))
        layer = variables["b"]
        y = checkpoint_name(x @ layer["kernel"] + layer["bias"][None], "b")

        def step(y, w):
            return jax.nn.relu(checkpoint_name(y @ w, "c")), None

        return jax.lax.scan(step, y, variables["c"])[0]

    variables = {
        "a": jinit.normal()(KEY, (24, 24)),
        "b": {"kernel": jinit.normal()(KEY, (24, 12)), "bias": jnp.ones(12)},
        "c": jinit.normal()(KEY, (3, 12, 12)),
    }
    new, history = jinit.lsuv(model, variables, X)
    found = stds(model, new)
    for path in ("a", "b", "c[0]", "c[1]", "c[2]"):
        assert found[path] == pytest.approx(1, rel=0.02)
    assert history.steps == 2


class Block(nnx.Module):
    def __init__(self, rngs):
        self.inner = nnx.Linear(24, 24, rngs=rngs)

    def __call__(self, x):
        return x + nnx.relu(self.inner(x))


class Net(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Conv(1, 4, (3,), rngs=rngs)
        make = nnx.vmap(Block, in_axes=(0,), out_axes=0)
        self.blocks = nnx.split_rngs(splits=3)(make)(rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)
        self.head = nnx.Linear(24, 2, rngs=rngs)

    def __call__(self, x):
        x = self.first(x[..., None]).mean(-1)
        run = nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0),
                       out_axes=nnx.Carry)  # fmt: skip
        return self.head(self.drop(run(x, self.blocks)))


def test_nnx_models_with_stacks():
    model = Net(nnx.Rngs(0))
    before = jax.tree.map(jnp.array, nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    new, history = jinit.nnx.lsuv(model, X)
    found = {row["path"]: row["std"] for row in jinit.nnx.probe(new, X).rows}
    paths = ["first", *(f"blocks/inner[{i}]" for i in range(3)), "head"]
    assert {row["path"] for row in history.rows} == set(paths)
    assert all(found[path] == pytest.approx(1, rel=0.02) for path in paths)
    chex.assert_trees_all_equal(before, nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    assert isinstance(new, Net) and new(X).shape == (32, 2)


def test_a_history_is_rows_a_table_and_a_figure(tmp_path):
    _, history = set_up(Deep(4))
    rows = [row for row in history.rows if row["step"] == 1]
    assert [row["path"] for row in rows] == [f"Dense_{i}" for i in range(4)]
    # The factor is what was lacking: the layers before it are set by then.
    assert all(r["std"] * r["factor"] == pytest.approx(1, rel=1e-4) for r in rows)
    assert "Dense_3" in str(history) and f"{rows[1]['std']:.4g}" in str(history)
    figure = history.plot(tmp_path / "lsuv.png")
    assert (tmp_path / "lsuv.png").stat().st_size > 5000
    assert list(figure.axes[0].lines[0].get_ydata()) == [row["std"] for row in rows]
    assert figure.get_suptitle().startswith("lsuv: the std in ")
    assert figure.axes[0].texts[0].get_text() == "pass 1"


def broken(kernel=None, x=X, bias=0.0, **options):
    kernel = jinit.lecun() if kernel is None else kernel

    class Two(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Dense(8, name="fine")(x))
            bias_init = jinit.normal(bias) if bias else jinit.constant(0.0)
            return nn.Dense(8, name="sick", kernel_init=kernel, bias_init=bias_init)(x)

    return jinit.lsuv(Two(), Two().init(KEY, x), x, **options)


class Normed(nn.Module):
    """What its kernel's size does not change."""

    @nn.compact
    def __call__(self, x):
        w = self.param("kernel", jinit.normal(), (24, 8))
        return 5 * (x @ w) / jnp.linalg.norm(w)


class Members(nn.Module):
    @nn.compact
    def __call__(self, x):
        kind = nn.vmap(
            nn.Dense,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            axis_size=3,
        )
        return kind(4)(x)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: broken(jinit.constant(np.nan)), ValueError, "sick is not finite"),
        (lambda: broken(x=X * np.nan), ValueError, "fine is not finite"),
        (lambda: broken(x=X * 0), ValueError, "fine cannot be scaled"),
        (lambda: broken(x=X[:0]), ValueError, "output of fine is empty"),
        (lambda: broken(target_std=-1), ValueError, "`target_std`"),
        (lambda: broken(tol=0), ValueError, "`tol`"),
        (lambda: broken(max_iter=0), ValueError, "`max_iter`"),
        (lambda: broken(orthonormal="yes"), TypeError, "`orthonormal`"),
        (lambda: broken(skip=["nothing"]), ValueError, "'nothing', which matches no"),
        (lambda: broken(skip=["*"]), ValueError, "`skip` matches all layers"),
        # One pattern, not its letters.
        (lambda: broken(skip="head"), ValueError, "'head', which matches no"),
        (lambda: set_up(nn.Sequential([Normed()])), ValueError, "no layer to set"),
        (lambda: jinit.lsuv(3, {}, X), TypeError, "must be a Linen module"),
        (lambda: jinit.nnx.lsuv(Deep(), X), TypeError, "jinit.lsuv"),
        (lambda: jinit.lsuv(Net(nnx.Rngs(0)), {}, X), TypeError, "could not be called"),
    ],
)  # fmt: skip
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
