"""Plans as values: their configurations, copies and pickles."""

import copy
import dataclasses
import json
import pickle

import chex
import jax.nn.initializers as jax_initializers
import pytest

import jinit
from tests.support.plans import RULES, SHAPES
from tests.support.trees import by_path, struct


def test_configurations(plan, key):
    config = json.loads(json.dumps(plan.to_config()))
    again = jinit.Plan.from_config(config)
    assert again.rows == plan.rows and again.to_config() == plan.to_config()
    assert by_path(again.init(key)).keys() == by_path(plan.init(key)).keys()
    # In the containers of the model.
    same = jinit.Plan.from_config(config, shapes=SHAPES)
    assert same == plan and hash(same) == hash(plan)
    chex.assert_trees_all_equal(same.init(key), plan.init(key))


@pytest.mark.parametrize(
    "tree",
    [{"a": {"b": struct(3, 4), "c": struct(2)}, "d/e": struct(1)}, struct(3), {}],
)
def test_configurations_of_dicts(tree):
    rules = [("a/c", jinit.keep), ("**", 0.5 * jinit.normal(0.1, "bfloat16"))]
    plan = jinit.plan(tree, rules, allow_unused=True)
    config = json.loads(json.dumps(plan.to_config()))
    assert jinit.Plan.from_config(config) == plan


def test_configurations_that_are_none(plan):
    with pytest.raises(TypeError, match="must be what plan.to_config"):
        jinit.Plan.from_config({"name": "he"})
    entry = plan.to_config()["leaves"][0]
    with pytest.raises(ValueError, match=r"without \['dtype'\]"):
        jinit.Plan.from_config(
            {"leaves": [{k: entry[k] for k in entry if k != "dtype"}]}
        )
    with pytest.raises(ValueError, match="where another one lies"):
        jinit.Plan.from_config({"leaves": [entry, entry]})
    with pytest.raises(ValueError, match="`shapes` lacks 1 leaves.*\n.*Dense_0/bias"):
        jinit.Plan.from_config({"leaves": [entry]}, shapes={})
    with pytest.raises(ValueError, match="one of.*'he'"):
        wrong = entry | {"initializer": {"name": "hee"}}
        jinit.Plan.from_config({"leaves": [wrong]})
    foreign = jinit.plan({"w": struct(2, 3)}, [("w", jax_initializers.he_normal())])
    with pytest.raises(TypeError, match="initializer of 'w'.*only jinit's own"):
        foreign.to_config()


def test_a_plan_is_a_value(plan, key):
    assert plan == jinit.plan(SHAPES, RULES)
    assert plan != jinit.plan(SHAPES, [("**", jinit.zeros)])
    for other in (pickle.loads(pickle.dumps(plan)), copy.deepcopy(plan)):
        assert other == plan and hash(other) == hash(plan)
        chex.assert_trees_all_equal(other.init(key), plan.init(key))
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.leaves = ()
