"""Rules: paths, patterns, which rule wins, and what is said when none does."""

import copy
import functools
import pickle
import re

import flax.core
import flax.linen as nn
import jax
import jax.nn.initializers as jax_initializers
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jinit
from jinit._core import trees
from jinit._core.patterns import Pattern
from jinit._core.trees import Leaf
from jinit._initializer.foreign import is_initializer
from tests.support.models import Module

PARTS = st.sampled_from(["a", "b", "ab", "Dense_0", "Dense_10", "kernel", "x.y"])
GLOBS = st.sampled_from(["*", "**", "a", "a*", "*b", "Dense_*", "*e*n*", "x.y", "ke*l"])


def matches(pattern, leaf):
    return Pattern.of("the pattern", pattern).matches(leaf)


def reference(glob: list[str], parts: list[str]) -> bool:
    """Part by part, by the definition."""
    if not glob:
        return not parts
    if glob[0] == "**":
        return any(reference(glob[1:], parts[i:]) for i in range(len(parts) + 1))
    return bool(parts) and text(glob[0], parts[0]) and reference(glob[1:], parts[1:])


def text(glob: str, part: str) -> bool:
    if "*" not in glob:
        return glob == part
    head, tail = glob.split("*", 1)
    rest = part[len(head) :]
    return part.startswith(head) and any(
        text(tail, rest[i:]) for i in range(len(rest) + 1)
    )


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(GLOBS, min_size=1, max_size=4), st.lists(PARTS, max_size=5))
def test_globs(glob, parts):
    leaf = Leaf(tuple(parts), None)
    found = matches("/".join(glob), leaf)
    assert found == reference(glob, parts)


@pytest.mark.parametrize(
    "pattern, path, expected",
    [
        ("params/Dense_0/kernel", "params/Dense_0/kernel", True),
        ("**/kernel", "kernel", True),
        ("**/kernel", "a/b/kernel", True),
        ("**/kernel", "a/b/kernels", False),
        ("*/kernel", "a/b/kernel", False),
        ("Dense_*/kernel", "Dense_12/kernel", True),
        ("Dense_*", "Dense_12/kernel", False),
        ("a/**", "a", True),
        ("a/**/b", "a/b", True),
        ("**", "", True),
        ("", "", True),
        ("*", "", False),
        ("a.b", "axb", False),
        ("[ab]", "a", False),
        (re.compile("ker"), "a/kernel", True),
        (re.compile("^ker"), "a/kernel", False),
        (lambda path, leaf: path.endswith("l"), "a/kernel", True),
    ],
)
def test_patterns(pattern, path, expected):
    leaf = Leaf(tuple(path.split("/")) if path else (), None)
    assert matches(pattern, leaf) is expected


def test_a_key_with_slashes_is_several_parts():
    tree = {"mlp/~/linear_0": {"w": jnp.ones(2)}}
    (leaf,) = trees.leaves(tree)
    assert leaf.path == "mlp/~/linear_0/w"
    assert matches("**/linear_*/w", leaf)


def paths(tree):
    return [leaf.path for leaf in trees.leaves(tree)]


def test_paths():
    x = jnp.ones(2)
    assert paths({"a": [x, (x,)], "b": {3: x}}) == ["a/0", "a/1/0", "b/3"]
    assert paths(x) == [""]
    assert paths({"none": None, "x": x}) == ["x"]
    assert paths(Module(x, [Module(x, [])])) == ["weight", "layers/0/weight"]
    assert paths(flax.core.freeze({"a": {"b": x}})) == ["a/b"]
    # A part of this name is dropped from boxes only.
    assert paths({"value": x}) == ["value"]


def test_boxes_are_no_parts():
    x = jnp.ones(2)
    box = nn.Partitioned(x, ("data",))
    assert paths({"a": box, "b": x}) == ["a", "b"]
    assert paths(box) == [""]
    assert paths({"a": nn.LogicallyPartitioned({"c": box}, ("data",))}) == ["a/c"]


def test_paths_of_nnx():
    nnx = pytest.importorskip("flax.nnx", exc_type=ImportError)

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(2, 3, rngs=rngs)
            self.value = nnx.Linear(3, 3, use_bias=False, rngs=rngs)

    model = Model(nnx.Rngs(0))
    expected = ["first/bias", "first/kernel", "value/kernel"]
    assert paths(nnx.state(model)) == expected
    assert paths(nnx.eval_shape(lambda: nnx.state(Model(nnx.Rngs(0))))) == expected
    assert paths(nnx.to_pure_dict(nnx.state(model))) == expected
    assert paths(model) == expected


def test_leaves_are_in_the_order_of_jax():
    x = iter(range(10))
    tree = {"b": nn.Partitioned(next(x), ()), "a": [next(x), next(x)]}
    assert [leaf.value for leaf in trees.leaves(tree)] == jax.tree.leaves(tree)


def test_two_leaves_at_one_path():
    @jax.tree_util.register_pytree_with_keys_class
    class Twice:
        def tree_flatten_with_keys(self):
            key = jax.tree_util.DictKey("w")
            return ((key, jnp.ones(2)), (key, jnp.ones(2))), None

        @classmethod
        def tree_unflatten(cls, _, children):
            return cls()

    with pytest.raises(ValueError, match="two leaves at 'a/w'"):
        trees.leaves({"a": Twice()})


# A plan's values hang on these: they may never change.
DIGESTS = {
    (): (1470146276, 3031595380),
    ("params", "Dense_0", "kernel"): (3119031497, 33602192),
    ("ab", "c"): (2566499517, 151823957),
    ("a", "bc"): (2470741446, 3859576411),
}


def test_digests_are_stable():
    found = {parts: tuple(map(int, trees.digest(parts))) for parts in DIGESTS}
    assert found == DIGESTS
    assert len(set(found.values())) == len(found)


TREE = {
    "Dense_0": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)},
    "Dense_1": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)},
}
A, B, C = jinit.normal(0.1), jinit.normal(0.2), jinit.normal(0.3)


def chosen(rules, tree=TREE, **settings):
    rows = jinit.plan(tree, rules, **settings).rows
    return {row["path"]: row["initializer"] for row in rows}


def test_the_first_match_wins():
    found = chosen([("**/bias", A), ("Dense_1/*", B), ("**", C)])
    assert found == {
        "Dense_0/bias": repr(A),
        "Dense_0/kernel": repr(C),
        "Dense_1/bias": repr(A),
        "Dense_1/kernel": repr(B),
    }


def test_rules_of_all_kinds():
    depth = {}

    def by_depth(path, leaf):
        depth[path] = leaf.shape
        return jinit.normal(1 / (1 + int(path[6])))

    rules = [
        jinit.Rule(re.compile("0/b"), jinit.keep),
        [lambda path, leaf: leaf.ndim == 1, A],
        jinit.Rule("nothing/**", B, optional=True),
        ("**", by_depth),
    ]
    for sequence in (rules, tuple(rules), iter(rules)):
        assert chosen(sequence) == {
            "Dense_0/bias": "jinit.keep",
            "Dense_0/kernel": repr(jinit.normal(1.0)),
            "Dense_1/bias": repr(A),
            "Dense_1/kernel": repr(jinit.normal(0.5)),
        }
    assert depth == {"Dense_0/kernel": (2, 3), "Dense_1/kernel": (3, 4)}


class Callable:
    def __call__(self, key, shape, dtype=jnp.float32):
        return jnp.zeros(shape, dtype)


@pytest.mark.parametrize(
    "function, expected",
    [
        (jinit.he(), True),
        (0.5 * jinit.he(), True),
        (jax_initializers.he_normal(), True),
        (jax_initializers.zeros, True),
        (lambda key, shape: jnp.zeros(shape), True),
        (lambda rng, shape: jnp.zeros(shape), True),
        (lambda k, s, d: jnp.zeros(s, d), True),
        (lambda *args: jnp.zeros(*args[1:]), True),
        (functools.partial(jax_initializers.zeros, dtype="float32"), True),
        (Callable(), True),
        (lambda path, leaf: A, False),
        (lambda p, x, *, factor=1: A, False),
    ],
)
def test_what_is_an_initializer(function, expected):
    assert is_initializer(function) is expected


ERRORS = [
    ([("Dense_0/**", A)], ValueError, r"2 of 4 leaves match no rule:\n  'Dense_1/bias'"
     r" \(4,\)\n  'Dense_1/kernel' \(3, 4\)\nThe patterns are:\n  'Dense_0/\*\*'\n"),
    ([], ValueError, "4 of 4 leaves.*patterns are: none"),
    ([("**/kernl", A), ("**", B)], ValueError,
     r"'\*\*/kernl' matches no leaf.*\n  'Dense_0/kernel'\n  'Dense_1/kernel'\n.*"
     "allow_unused=True"),
    ([*jinit.recurrent.chrono_rules(9), ("**", B)], ValueError,
     r"'\*\*/hf/bias' matches no leaf.*layout of your cell: .*'fused_lstm'"),
    ([(re.compile("weight"), A), ("**", B)], ValueError,
     r"re.compile\('weight'\) matches no leaf"),
    ([(lambda path, leaf: False, A), ("**", B)], ValueError, "<lambda> matches no"),
    ([("**", A), ("**/bias", B)], ValueError,
     r"rule '\*\*/bias' is shadowed: all 2 .* go to '\*\*', before"),
    ([("*/kernel", A), ("*/bias", B), ("*/*", C)], ValueError,
     r"'\*/\*' is shadowed: all 4 .* go to '\*/bias' and '\*/kernel'"),
    ([("Dense**/bias", A)], ValueError, r"'\*\*' within the part 'Dense\*\*'"),
    ("**", TypeError, "must be a sequence of pairs"),
    ({"**": A}, TypeError, "must be a sequence of pairs"),
    ("gpt2", TypeError, r"write jinit.recipes.get\('gpt2'\)"),
    (jinit.recipes.gpt2, TypeError, "If gpt2 makes the rules, .* call it first"),
    ([A], TypeError, "rule 0 is .*; it must be a pair"),
    (["**"], TypeError, "rule 0 is .*; it must be a pair"),
    ([("**", A, True, 3)], TypeError, "must be a pair"),
    ([(3, A)], TypeError, "pattern of rule 0 is 3, of type int; it must be a glob"),
    ([("**", 0.0)], TypeError, r"gives '\*\*' 0.0, of type float; it must give.*"
     r"write jinit.constant\(0.0\)"),
    ([("**", "he")], TypeError, r"of type str; it must give.*write jinit.get\('he'\)"),
    ([(A, "**")], TypeError, "The pattern comes first, and the initializer after it"),
    ([("**", jnp.zeros((99, 99)))], TypeError, r"write jinit.from_array\(array\)\.$"),
    ([("**", jinit.he_normal)], TypeError, r"Call it first: jinit.he_normal\(\)"),
    ([("**", jinit.xavier)], TypeError, r"Call it first: jinit.xavier\(\)"),
    ([("**", jax_initializers.he_normal)], TypeError, "Dense_0/bias.* a maker, so"),
    ([("**", lambda path: A)], TypeError, "takes 1 arguments: it is neither"),
    ([("**", lambda path, leaf: 0.0)], TypeError,
     r"gives 0.0 for 'Dense_0/bias' \(3,\); its function"),
]  # fmt: skip


@pytest.mark.parametrize("rules, error, match", ERRORS)
def test_errors(rules, error, match):
    with pytest.raises(error, match=re.compile(match, re.S)):
        jinit.plan(TREE, rules)


def test_errors_of_a_user_s_function_say_where():
    with pytest.raises(KeyError) as caught:
        jinit.plan(TREE, [("**", lambda path, leaf: {}[path])])
    assert "rule '**', for 'Dense_0/bias' (3,)" in caught.value.__notes__[0]


def test_an_initializer_of_two_arguments_with_other_names_is_told_its_signature():
    # Only the name of the first argument tells (key, shape) from (path, leaf).
    with pytest.raises(TypeError) as caught:
        jinit.plan(TREE, [("**", lambda k, s: jnp.zeros(s))])
    assert "called with (path, leaf)" in caught.value.__notes__[0]
    assert "(key, shape, dtype)" in caught.value.__notes__[0]


def test_a_linen_module_in_the_place_of_its_shapes():
    with pytest.raises(TypeError, match=r"module, of type Dense.*jax.eval_shape\("):
        jinit.plan(nn.Dense(3), [("**", A)])


def test_variables_in_the_place_of_their_parameters():
    variables = {"params": TREE}
    inside, outside = (jinit.plan(tree, [("**", A)]) for tree in (TREE, variables))
    with pytest.raises(ValueError, match=r"pass params\['params'\]"):
        jinit.fill_missing(variables, TREE, inside, jax.random.key(0))
    with pytest.raises(ValueError, match="pass {'params': params}"):
        jinit.fill_missing(TREE, variables, outside, jax.random.key(0))


def test_unused_rules_may_be_allowed():
    rules = [("nothing", A), ("**", B), ("**/bias", C)]
    assert set(chosen(rules, allow_unused=True).values()) == {repr(B)}
    optional = [jinit.Rule(*rules[0], True), rules[1], (*rules[2], True)]
    assert set(chosen(optional).values()) == {repr(B)}


def test_equal_rules_shadow_too():
    with pytest.raises(ValueError, match="is shadowed"):
        jinit.plan(TREE, [("**", A), ("**", A)])


def test_keep_is_one_value():
    assert pickle.loads(pickle.dumps(jinit.keep)) is jinit.keep
    assert copy.deepcopy(jinit.keep) is jinit.keep
    assert repr(jinit.keep) == "jinit.keep"
