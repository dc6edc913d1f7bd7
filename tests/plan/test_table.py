"""Plans as tables: the rows, the standard deviations that they predict, the text."""

import functools

import jax
import jax.nn.initializers as jax_initializers
import pytest

import jinit
from tests.support import laws
from tests.support.trees import struct

# Of the standard deviation that the rows give, not of the code that draws.
WIDE = {
    "dense": (struct(200, 300), jinit.he(), 3),
    "conv": (struct(3, 3, 40, 60), jinit.xavier(gain="tanh"), 3),
    "torch": (struct(60, 40, 3, 3), jinit.lecun(layout="oikk"), 3),
    "query": (struct(128, 8, 64), jinit.he_uniform(-3, (-2, -1)), 1.8),
    "scaled": (struct(200, 300), 0.1 * jinit.normal(2.0), 3),
    "half": (struct(200, 300, dtype="bfloat16"), jinit.he(), 3),
}


@pytest.mark.parametrize("wrong", [1.0, 1.03])
@pytest.mark.parametrize("name", WIDE)
def test_rows_predict_the_std(name, wrong, key):
    leaf, init, kurtosis = WIDE[name]
    plan = jinit.plan({name: leaf}, [(name, init)])
    check = functools.partial(
        laws.assert_moments, plan.init(key)[name], 0.0, kurtosis=kurtosis
    )
    if wrong == 1.0:
        check(plan.rows[0]["std"])
    else:
        with pytest.raises(AssertionError):
            check(plan.rows[0]["std"] * wrong)


def test_rows():
    tree = {
        "a": struct(3, 3, 8, 16),
        "b": struct(16, dtype="bfloat16"),
        "c": struct(16, 4),
        "d": struct(8, 2, 4),
        "e": struct(40, 8),
        "f": struct(7),
    }
    rules = [
        ("a", 0.5 * jinit.he()),
        ("b", jinit.zeros),
        ("c", jax_initializers.normal(0.1)),
        ("d", jinit.xavier(layout="ioo")),
        ("e", jinit.variance_scaling(1.0, "fan_in", "normal", out_axis=0)),
        ("f", jinit.lecun(fan_in=10)),
    ]
    rows = jinit.plan(tree, rules).rows
    keys = [
        "path",
        "shape",
        "dtype",
        "layout",
        "fan_in",
        "fan_out",
        "initializer",
        "std",
        "parameters",
    ]
    assert all(list(row) == keys for row in rows)
    std = 0.5 * (2 / 72) ** 0.5
    expected = [
        ["a", (3, 3, 8, 16), "float32", "kkio", 72, 144, "0.5 * jinit.he()", std, 1152],
        ["b", (16,), "bfloat16", None, None, None, "jinit.zeros", 0.0, 16],
        ["c", (16, 4), "float32", None, None, None, "normal.<locals>.init", None, 64],
        ["d", (8, 2, 4), "float32", "ioo", 8, 8, "jinit.xavier(layout='ioo')"],
        # JAX's idiom for embeddings: one axis is input and output.
        ["e", (40, 8), "float32", None, 8, 8],
        ["f", (7,), "float32", None, 10, None, "jinit.lecun(fan_in=10)", 0.1**0.5, 7],
    ]
    for row, values in zip(rows, expected, strict=True):
        found = list(row.values())[: len(values)]
        assert found == [pytest.approx(v) if type(v) is float else v for v in values]


def test_the_table(plan):
    lines = str(plan).splitlines()
    assert repr(plan) == str(plan)
    assert lines[0].split() == (
        ["path", "shape", "dtype", "layout", "fans", "initializer", "std", "parameters"]
    )
    assert len(lines) == 2 + len(plan.rows) + 2
    for row, line in zip(plan.rows, lines[2:], strict=False):
        assert row["path"] in line and row["initializer"] in line
    query = next(line for line in lines if "query/kernel" in line)
    assert query.split() == [
        "params/Block_0/MultiHeadDotProductAttention_0/query/kernel",
        "(32,", "4,", "8)", "float32", "ioo", "32", "->", "32",
        "jinit.xavier(layout='ioo')", "0.1768", "1,024",
    ]  # fmt: skip
    total = sum(x.size for x in jax.tree.leaves(plan.shapes))
    assert lines[-1].split() == ["total", f"{total:,}"]


def test_the_table_shows_brackets():
    plan = jinit.plan({"[red]a": struct(3)}, [("**", jinit.constant([1, 2, 3]))])
    assert "[red]a" in str(plan)


def test_a_plan_in_rich():
    rich_table = pytest.importorskip("rich.table")
    plan = jinit.plan({"w": struct(2, 3)}, [("w", jinit.he())])
    assert isinstance(plan.__rich__(), rich_table.Table)


def deep(layers=4):
    """Return the shapes of a network whose third block has another width."""
    blocks = {
        str(i): {"attn": struct(8, 8), "w_1": struct(8, 12), "w_2": struct(8, 12)}
        for i in range(layers)
    }
    blocks["2"]["attn"] = struct(8, 16)
    return {"blocks": blocks, "head": struct(8, 5)}


def test_equal_layers_are_one_line():
    plan = jinit.plan(deep(6), [("**", jinit.normal(0.02 / 8**0.5))])
    assert len(plan.rows) == 19  # the rows, as data, are one for each leaf
    lines = str(plan).splitlines()
    assert [line.split()[0] for line in lines[2:9]] == [
        "blocks/0/attn",  # two equal layers are no range
        "blocks/0..5/w_1",
        "blocks/0..5/w_2",
        "blocks/1/attn",
        "blocks/2/attn",  # this one is wider
        "blocks/3..5/attn",
        "head",
    ]
    row = next(line for line in lines if "0..5/w_1" in line)
    assert row.split()[-3:] == ["jinit.normal(stddev=0.007071)", "0.007071", "576"]
    assert "19 leaves: a line with a range such as" in lines[-1]
    assert eval(plan.rows[0]["initializer"]) == jinit.normal(0.02 / 8**0.5)


def test_layers_are_folded_at_every_depth():
    tree = {f"stage_{i}": [struct(2, 2)] * 3 for i in range(3)}
    (line,) = [
        line.split()
        for line in str(jinit.plan(tree, [("**", jinit.he())])).splitlines()
        if "stage" in line
    ]
    assert line[0] == "stage_0..2/0..2" and line[-1] == "36"
