"""Classes and factors of tensors, read off shapes or rules; tables, serialization."""

import json
import pickle

import jax
import pytest

from jinit import mup
from jinit.mup._parametrization import Parametrization
from tests.support.trees import rows_by_path, struct
from tests.support.widths import mlp_shapes, transformer_shapes

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_the_classes_and_factors_of_an_mlp():
    rows = rows_by_path(mup.infer(mlp_shapes(16), mlp_shapes(64)))
    kernels = [rows[f"Dense_{i}/kernel"] for i in range(3)]
    assert [row["class"] for row in kernels] == ["input", "hidden", "output"]
    assert [row["grows"] for row in kernels] == [(1,), (0, 1), (0,)]
    assert [row["std"] for row in kernels] == [1, 0.5, 1]
    assert [row["multiplier"] for row in kernels] == [1, 1, 0.25]
    assert [row["lr"] for row in kernels] == [1, 0.25, 1]
    assert [row["decay"] for row in kernels] == [1, 4, 1]
    assert [row["epsilon"] for row in kernels] == [0.25, 0.25, 0.25]
    biases = [rows[f"Dense_{i}/bias"]["class"] for i in range(3)]
    assert biases == ["vector", "vector", "scalar"]
    sgd = rows_by_path(mup.infer(mlp_shapes(16), mlp_shapes(64), kind="sgd"))
    assert [sgd[f"Dense_{i}/kernel"]["lr"] for i in range(3)] == [4, 1, 4]
    assert [sgd[f"Dense_{i}/bias"]["lr"] for i in range(3)] == [4, 4, 1]


@pytest.mark.parametrize("heads", [2, 8])
def test_the_classes_of_a_transformer(heads):
    """Width by larger heads, and by more of them."""
    p = mup.infer(transformer_shapes(16), transformer_shapes(64, heads))
    rows = rows_by_path(p)
    attention = "Block_0/MultiHeadDotProductAttention_0"
    for name in ("query", "key", "value", "out"):
        row = rows[f"{attention}/{name}/kernel"]
        assert (row["class"], row["std"], row["lr"]) == ("hidden", 0.5, 0.25), name
    assert rows[f"{attention}/query/bias"]["class"] == "vector"
    assert rows["Embed_0/embedding"]["class"] == "input"
    assert rows["Block_0/LayerNorm_0/scale"]["class"] == "vector"
    assert rows["head/kernel"]["class"] == "output"
    assert p.readout_scale == 0.25


def test_heads_that_are_larger_and_more():
    p = mup.infer(transformer_shapes(16, 2), transformer_shapes(64, 4))
    by = {t.path: t for t in p.tensors}
    attention = "params/Block_0/MultiHeadDotProductAttention_0"
    assert by[f"{attention}/query/kernel"].layout == "ioo"
    assert by[f"{attention}/out/kernel"].layout == "iio"
    for name in ("query", "out"):
        assert by[f"{attention}/{name}/kernel"].rate("adam") == 0.25


@pytest.mark.parametrize(
    "name, base, target, role, layout",
    [
        ("Conv_0/kernel", (3, 3, 1, 8), (3, 3, 1, 16), "input", "kkio"),
        ("Conv_0/kernel", (3, 3, 8, 8), (3, 3, 16, 16), "hidden", "kkio"),
        ("Conv_0/kernel", (3, 3, 8, 2), (3, 3, 16, 2), "output", "kkio"),
        ("Conv_0/kernel", (3, 8, 2), (3, 16, 2), "output", "kio"),
        ("layers/Dense_0/kernel", (5, 8, 8), (5, 16, 16), "hidden", "bio"),
        ("layers/query/kernel", (5, 8, 2, 4), (5, 16, 2, 8), "hidden", "bioo"),
        ("layers/LayerNorm_0/scale", (5, 8), (5, 16), "vector", "oo"),
        ("cross/key/kernel", (7, 2, 4), (7, 4, 4), "input", "ioo"),
        ("pos", (1, 9, 8), (1, 9, 16), "input", "bio"),
        ("head/kernel", (8, 2, 3), (16, 2, 3), "output", "ioo"),
        ("w", (8, 2, 3), (16, 2, 3), "output", "ioo"),
    ],
)
def test_layouts(name, base, target, role, layout):
    path = name.split("/")
    for part in reversed(path):
        base, target = {part: base}, {part: target}
    trees = jax.tree.map(
        lambda s: struct(*s), (base, target), is_leaf=lambda s: isinstance(s, tuple)
        and all(isinstance(n, int) for n in s),
    )  # fmt: skip
    (tensor,) = mup.infer(*trees).tensors
    assert (tensor.mup_class, tensor.layout) == (role, layout)


def test_a_tree_that_is_one_array():
    p = mup.infer(struct(5, 8, 8), struct(5, 16, 16))
    assert p.rows[0]["class"] == "hidden" and p.rows[0]["path"] == ""
    assert mup.spectral(struct(8, 8)).rows[0]["lr"] == 1 / 8


def test_overrides_tie_an_embedding():
    shapes = (
        {"embed": {"embedding": struct(11, 16)}},
        {"embed": {"embedding": struct(11, 64)}},
    )
    assert mup.infer(*shapes).readout_scale == 1
    p = mup.infer(*shapes, overrides=[("**/embedding", "output")])
    assert p.readout_scale == 0.25
    tied, free = p.tensors[0].factors, mup.infer(*shapes).tensors[0].factors
    # A scale on the logits, and nothing else.
    assert tied._replace(multiplier=1.0) == free
    with pytest.raises(ValueError, match="embedding too.*readout='multiplier'"):
        mup.infer(*shapes, overrides=[("**/embedding", "output")], readout="weights")


def test_a_third_width_tells_what_two_do_not():
    base, target = {"w": struct(64, 10)}, {"w": struct(64, 10)}
    assert mup.infer(base, target).rows[0]["class"] == "scalar"
    p = mup.infer(base, target, delta_shapes={"w": struct(32, 10)})
    assert p.rows[0]["class"] == "output" and p.is_noop


def test_base_and_target_equal_is_a_noop_that_says_so():
    p = mup.infer(mlp_shapes(16), mlp_shapes(16))
    assert p.is_noop and "every factor is 1, and nothing changes" in str(p)
    assert "every factor" not in str(mup.infer(mlp_shapes(16), mlp_shapes(64)))


def test_the_table():
    text = str(mup.infer(mlp_shapes(16), mlp_shapes(64)))
    assert "params/Dense_1/kernel" in text and "hidden" in text
    assert "multiply the logits by p.readout_scale = 0.25" in text
    # A factor is no std, and the column says so; absolute numbers are what they are.
    assert "x std" in text and "x lr (adam)" in text and "x decay" in text
    absolute = str(mup.spectral({"w": struct(8, 8)}))
    assert "std" in absolute and "x std" not in absolute and "x lr" not in absolute


def test_errors_of_inference():
    with pytest.raises(
        ValueError, match="(?s)different structure.*'b' .* only in `shapes`"
    ) as e:
        mup.infer({"a": struct(2)}, {"a": struct(2), "b": struct(3)})
    assert "depth=" in str(e.value)
    with pytest.raises(ValueError, match="different numbers of axes"):
        mup.infer({"a": struct(2)}, {"a": struct(2, 2)})
    with pytest.raises(ValueError, match=r"'mix/w' .* ambiguous .*overrides=\[") as e:
        mup.infer({"mix": {"w": struct(3, 8, 2)}}, {"mix": {"w": struct(3, 16, 2)}})
    p = mup.infer({"mix": {"w": struct(3, 8, 2)}}, {"mix": {"w": struct(3, 16, 2)}},
                  overrides=[("mix/w", "bio")])  # fmt: skip
    assert p.rows[0]["class"] == "output"
    with pytest.raises(ValueError, match="matches no leaf"):
        mup.infer(mlp_shapes(4), mlp_shapes(8), overrides=[("**/nothing", "input")])
    with pytest.raises(ValueError, match="a letter per axis.*Did you mean 'output'"):
        mup.infer(mlp_shapes(4), mlp_shapes(8), overrides=[("**/kernel", "outputs")])
    with pytest.raises(TypeError, match="sequence of pairs"):
        mup.infer(mlp_shapes(4), mlp_shapes(8), overrides={"**/kernel": "output"})
    with pytest.raises(ValueError, match="only its axis 1 grows"):
        mup.infer(
            mlp_shapes(4), mlp_shapes(8), overrides=[("**/Dense_0/kernel", "hidden")]
        )
    with pytest.raises(ValueError, match="give both"):
        mup.infer(mlp_shapes(4), mlp_shapes(8), depth=(2, 4))
    with pytest.raises(ValueError, match="`kind` is 'lion'"):
        mup.infer(mlp_shapes(4), mlp_shapes(8), kind="lion")


def test_rules_without_a_base_say_the_same():
    rules = [
        ("**/Dense_0/kernel", "input"), ("**/Dense_1/kernel", "IO"),
        ("**/Dense_2/kernel", "output"), ("**/Dense_2/bias", "scalar"),
        ("**", "vector"),
    ]  # fmt: skip
    p = mup.from_rules(mlp_shapes(64), rules, width=(16, 64))
    assert p.rows == mup.infer(mlp_shapes(16), mlp_shapes(64)).rows
    with pytest.raises(ValueError, match="match no rule"):
        mup.from_rules(mlp_shapes(64), rules[:-1], width=(16, 64))
    with pytest.raises(ValueError, match="must be a whole number"):
        mup.from_rules(mlp_shapes(64), rules, width=(16, 48))
    with pytest.raises(TypeError, match=r"pair \(base, target\)"):
        mup.from_rules(mlp_shapes(64), rules, width=4)
    q = mup.from_rules({"q": struct(64, 8, 8)}, [("q", "IOo")], width=(16, 64))
    assert (q.rows[0]["class"], q.tensors[0].base) == ("hidden", (16, 2, 8))
    with pytest.raises(ValueError, match="ambiguous"):
        mup.from_rules({"q": struct(64, 8, 8)}, [("q", "hidden")], width=(16, 64))


def test_serialization():
    for p in (
        mup.infer(mlp_shapes(16), mlp_shapes(64), depth=(2, 8), depth_rule="completep"),
        mup.from_rules({"w": struct(8, 8)}, [("w", "hidden")], width=(4, 8)),
        mup.spectral({"w": struct(8, 16), "b": struct(16)}, kind="sgd"),
        mup.unit_scaling(mlp_shapes(16), mlp_shapes(64)),
    ):
        again = Parametrization.from_dict(json.loads(json.dumps(p.to_dict())))
        assert str(again) == str(p) and again.to_dict() == p.to_dict()
        again = pickle.loads(pickle.dumps(p))
        assert again == p and hash(again) == hash(p)
    with pytest.raises(TypeError, match="p.to_dict"):
        Parametrization.from_dict({"tensors": [{}]})
