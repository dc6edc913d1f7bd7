"""Patterns: one language, whatever argument they are passed to."""

import re
import warnings

import jax
import jax.numpy as jnp
import pytest
from jax.ad_checkpoint import checkpoint_name

import jinit
from jinit._core import patterns
from jinit._core.patterns import Pattern, skipped, spell
from jinit._core.trees import Leaf
from jinit._network.network_table import _SHOWN as ROLES_SHOWN

KEY = jax.random.key(0)
LEAVES = [
    Leaf(("out",), jnp.ones(2)),
    Leaf(("block_0", "out"), jnp.ones((2, 2))),
    Leaf(("block_0", "attention", "out"), jnp.ones((2, 2))),
    Leaf(("block_1", "up"), jnp.ones((2, 2))),
]


def matched(pattern):
    selection = Pattern.of("`only`", pattern)
    return [i for i, leaf in enumerate(LEAVES) if selection.matches(leaf)]


@pytest.mark.parametrize(
    ("pattern", "indices"),
    [
        ("out", [0]),
        ("*/out", [1]),
        ("**/out", [0, 1, 2]),
        ("block_*/**", [1, 2, 3]),
        (re.compile("att"), [2]),
        (lambda path, leaf: leaf.ndim == 1, [0]),
        (["out", "**/up"], [0, 3]),
        (("out", re.compile("up$"), lambda path, _: "att" in path), [0, 2, 3]),
    ],
)
def test_what_patterns_match(pattern, indices):
    assert matched(pattern) == indices


@pytest.mark.parametrize(
    ("pattern", "error", "message"),
    [
        (3, TypeError, "`only` is 3, of type int; it must be a glob"),
        (["out", 3], TypeError, "`only` is 3"),
        ([["out"]], TypeError, r"`only` is \['out'\]"),
        ([], TypeError, "at least one pattern"),
        ("a**/out", ValueError, "within the part 'a"),
        (b"out", TypeError, "of type bytes"),
        ("@qeury", ValueError, r"is '@qeury', .* the nearest are '@query'"),
        (["out", "@output"], ValueError, "'@attention_output'"),
        ("@zzz", ValueError, "the roles are '@embedding', '@input'"),
    ],
)
def test_invalid_patterns(pattern, error, message):
    with pytest.raises(error, match=message):
        Pattern.of("`only`", pattern)


ROLES = {"q": {"query", "matrix"}, "qkv": {"query", "key", "value"}, "bias": {"bias"}}
PARAMETERS = [Leaf((path,), None, frozenset(roles)) for path, roles in ROLES.items()]


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("@query", ["q", "qkv"]),
        (["@bias", "@key"], ["qkv", "bias"]),
        (["q", "@bias"], ["q", "bias"]),
    ],
)
def test_roles_match_what_the_network_says(pattern, paths):
    selection = Pattern.of("`only`", pattern)
    matches = [leaf.path for leaf in PARAMETERS if selection.matches(leaf)]
    assert matches == paths


def test_a_role_needs_a_network():
    with pytest.raises(ValueError, match="'@query' is a role.* Pass a Network"):
        matched("@query")


def test_a_role_that_no_parameter_has_matches_nothing():
    with pytest.raises(ValueError, match="'@router' matches no leaf.*bias, key, matr"):
        Pattern.of("`only`", ["q", "@router"]).check_used(PARAMETERS)


def test_every_role_of_a_table_is_a_pattern():
    assert set(ROLES_SHOWN) <= set(patterns.ROLES)


def test_each_pattern_of_a_sequence_must_match():
    pattern = Pattern.of("`only`", ["out", "**/outt"])
    assert str(pattern) == "'out' or '**/outt'" == spell(["out", "**/outt"])
    with pytest.raises(ValueError, match=r"(?s)'\*\*/outt' matches no leaf.*'out'"):
        pattern.check_used(LEAVES)


@pytest.mark.parametrize(
    "pattern, glob",
    [("block_0", "'block_0/**' matches 2"), ("up", "matches 1"), ("o?t/x", None)],
)
def test_the_error_names_the_glob_of_a_subtree(pattern, glob):
    with pytest.raises(ValueError, match="matches no leaf") as error:
        Pattern.of("`only`", pattern).check_used(LEAVES)
    assert (glob or "Correct the pattern") in str(error.value)
    assert ("of the leaves" in str(error.value)) == (glob is not None)


@pytest.mark.parametrize(
    ("pattern", "indices", "instead"),
    [
        # The layer "out" itself was not among those that fnmatch's "*/out" matches.
        ("*/out", [1, 2], "'*/**/out'."),
        ("block_0/*", [1, 2], "'block_0/**'."),
        ("*", [0, 1, 2, 3], "'**'."),
        ("*out", [0, 1, 2], "'**/*out'."),
        ("block_[0]/out", [1], "re.compile("),
        ("*n/o?t", [2], "re.compile("),
        # Not "block_0/out", although the expression is searched for in its path.
        ("o?t", [0], "re.compile("),
    ],
)
def test_globs_by_the_meaning_of_version_0_1(pattern, indices, instead):
    with pytest.warns(DeprecationWarning) as record:
        hits = skipped(pattern, LEAVES)
    assert [i for i, hit in enumerate(hits) if hit] == indices
    (warning,) = record
    assert f"`skip` has {pattern!r}" in str(warning.message)
    advice = str(warning.message).partition("Write ")[2]
    assert advice.startswith(instead)
    assert warning.filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert skipped(eval(advice.removesuffix(".")), LEAVES) == hits


@pytest.mark.parametrize("pattern", ["block_1/*", "**/out", "out", ("out", "*/up")])
def test_globs_of_one_meaning_do_not_warn(pattern):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert any(skipped(pattern, LEAVES))


def test_what_skip_leaves_out():
    assert skipped((), LEAVES) == [False] * 4
    assert skipped(re.compile("block_1"), LEAVES) == [False] * 3 + [True]
    with pytest.raises(ValueError, match="'up', which matches no layer; the layers"):
        skipped(["out", "up"], LEAVES)
    with pytest.raises(TypeError, match="`skip` is 3"):
        skipped(3, LEAVES)


def test_sequences_in_rules_and_in_only():
    params = {"a": jnp.ones((4, 4)), "b": jnp.ones((4, 4)), "c": jnp.ones(4)}
    rules = [(["a", re.compile("^b$")], jinit.he()), ("c", jinit.zeros)]
    plan = jinit.plan(params, rules)
    assert [row["initializer"] for row in plan.rows[:2]] == ["jinit.he()"] * 2
    inside = jinit.recipes.inside(("a", "c"), [(("a", "c"), jinit.ones)])
    assert len(jinit.plan(params, [*inside, ("b", jinit.he())]).rows) == 3
    with pytest.raises(ValueError, match="'d' matches no leaf"):
        jinit.plan(params, [(("a", "d"), jinit.he()), ("**", jinit.zeros)])
    scaled = jinit.mup.infer(params, params, overrides=[(("a", "b"), "output")])
    assert [row["class"] for row in scaled.rows] == ["output", "output", "scalar"]


def test_skip_of_lsuv_takes_any_pattern_and_blames_its_caller():
    def model(params, x):
        x = checkpoint_name(x @ params["a"]["b"]["out"], "a/b/out")
        return checkpoint_name(x @ params["c"], "c")

    x = jinit.normal(1.0)(KEY, (16, 4))
    params = {"a": {"b": {"out": jnp.eye(4)}}, "c": 2 * jnp.eye(4)}
    with pytest.warns(DeprecationWarning, match=r"Write '\*\*/out'") as record:
        old, _ = jinit.lsuv(model, params, x, skip="*/out")
    assert record[0].filename == __file__
    for skip in (
        "**/out",
        [re.compile("out$")],
        lambda path, kernel: kernel[0, 0] == 1,
    ):
        new, history = jinit.lsuv(model, params, x, skip=skip)
        assert {row["path"] for row in history.rows} == {"c"}
        assert (new["c"] == old["c"]).all()


def test_a_warning_reaches_code_without_a_module():
    # `exec` with globals of its own, as a documentation's runner has them.
    code = "patterns.skipped('*out', leaves)"
    leaves = [Leaf(("block", "out"), None)]
    with pytest.warns(DeprecationWarning, match="fnmatch"):
        exec(code, {"patterns": patterns, "leaves": leaves})
