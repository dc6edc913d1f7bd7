"""Recipes are values: they print, compare, pickle and have a configuration."""

import copy
import inspect
import json
import operator
import pickle
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from jinit import recipes
from jinit.recipes._recipe import RECIPES
from tests.support.models import Transformer, shapes_of
from tests.support.trees import struct

ALL = recipes.names()


def made(name):
    return recipes.get(name, **RECIPES[name].example)


def test_the_names_are_those_of_the_public_functions():
    functions = {name for name in recipes.__all__ if name.islower()}
    assert set(ALL) == functions - {"get", "names", "inside", "which"}
    assert list(ALL) == sorted(ALL)


@pytest.mark.parametrize("name", ALL)
def test_a_recipe_says_roles_laws_and_sources(name):
    recipe = made(name)
    assert recipe.name == name and recipe.laws and recipe.sources and recipe.use
    text = str(recipe)
    assert text.startswith(repr(recipe))
    for law in recipe.laws:
        assert law.role and law.law
        assert law.role in text
    for source in recipe.sources:
        if isinstance(source, recipes.Source):
            assert f"{source.repository}, {source.file}" in text
            assert re.fullmatch("[0-9a-f]{7,40}", source.commit)
            # `help` names the code, too.
            assert f"{source}." in inspect.getdoc(RECIPES[name].make)
        else:
            assert source.title in text
    assert json.loads(json.dumps(recipe.to_dict()))["rows"] == recipe.rows
    assert recipe.laws[0].law.split()[0] in recipe._repr_html_()


@pytest.mark.parametrize("name", ALL)
def test_a_recipe_is_made_again_from_pickle_copy_and_configuration(name):
    recipe = made(name)
    for again in (
        pickle.loads(pickle.dumps(recipe)),
        copy.deepcopy(recipe),
        recipes.get(**json.loads(json.dumps(recipe.to_config()))),
        recipes.get(recipe),
    ):
        assert again == recipe and hash(again) == hash(recipe)
        assert repr(again) == repr(recipe) and again.laws == recipe.laws


def test_equality_is_that_of_names_and_settings():
    assert recipes.gpt2() == recipes.gpt2(None, std=0.02)
    assert recipes.gpt2() != recipes.gpt2(12)
    assert recipes.gpt2() != recipes.small_init()
    assert recipes.gpt2() != list(recipes.gpt2())
    assert recipes.gpt2(12, readout="**/head/*") != recipes.gpt2(12)


def test_the_repr_shows_the_layers_and_what_differs():
    assert repr(recipes.gpt2()) == "recipes.gpt2(num_layers=None)"
    made = recipes.gpt2(12, readout="**/head/*", std=0.01)
    assert repr(made) == "recipes.gpt2(num_layers=12, std=0.01, readout='**/head/*')"


def test_a_recipe_is_frozen():
    recipe = recipes.gpt2()
    with pytest.raises(AttributeError):
        recipe.name = "other"
    assert isinstance(recipe.rules, tuple)


def test_rules_of_a_user_stand_before_those_of_a_recipe():
    shapes = shapes_of(Transformer(), struct(1, 8, dtype="int32"))
    mine = ("**/head/kernel", jinit.zeros)
    recipe = recipes.gpt2(2)
    plans = [
        jinit.plan(shapes, [mine, *recipe]),
        jinit.plan(shapes, operator.add([mine], recipe)),
        jinit.plan(shapes, [mine, *recipes.inside("**", recipe)]),
    ]
    assert plans[0] == plans[1] == plans[2]
    rows = {row["path"]: row["std"] for row in plans[0].rows}
    assert rows["params/head/kernel"] == 0
    assert len(operator.add(recipe, [mine])) == len(recipe) + 1
    assert recipe[:2] == list(recipe)[:2]


def test_unknown_names_get_the_nearest():
    with pytest.raises(ValueError, match="`name` is 'lama3'.*Did you mean 'llama3'"):
        recipes.get("lama3")


def test_unknown_settings_get_those_that_there_are():
    with pytest.raises(TypeError) as error:
        recipes.get("gpt2", stdd=0.1)
    text = str(error.value)
    assert "recipes.gpt2 has no use for 'stdd'. Did you mean 'std'?" in text
    assert "Its settings are 'num_layers', 'std'." in text
    assert "'residual_outputs'" in text


def test_a_recipe_takes_no_further_settings():
    with pytest.raises(
        TypeError, match=r"a recipe, which takes no settings: \['std'\]"
    ):
        recipes.get(recipes.gpt2(), std=0.1)


def test_a_function_has_no_configuration():
    recipe = recipes.gpt2(1, readout=lambda path, leaf: "head" in path)
    with pytest.raises(ValueError, match="`readout` of recipes.gpt2"):
        recipe.to_config()
    kernel = {"head": {"kernel": jnp.ones((4, 4))}}
    assert jinit.plan(kernel, recipe).rows[0]["std"] == 0.02


def test_a_recipe_of_a_user_is_told_by_its_rules():
    law = recipes.Law("all", "N(0, 1)")
    mine = recipes.Recipe([jinit.Rule("**", jinit.normal(1.0))], [law])
    other = recipes.Recipe([jinit.Rule("**", jinit.normal(2.0))], [law])
    assert mine != other and mine != recipes.gpt2() and recipes.gpt2() != mine
    assert pickle.loads(pickle.dumps(mine)) == mine
    assert "N(0, 1)" in str(mine) and repr(mine) == "<Recipe of 1 rules>"


def test_settings_cannot_be_changed():
    with pytest.raises(TypeError):
        recipes.gpt2(12).settings["num_layers"] = 3


@pytest.mark.parametrize("make, text", [
    (lambda: recipes.gpt2(12, 0.02), r"recipes.gpt2: too many positional arguments. "
                                     "Its settings are 'num_layers', 'std'\\.$"),
    (lambda: recipes.get("from_hf_config"), "from_hf_config: missing.*'config'"),
    (lambda: recipes.gpt2(std="a"), "`std` is 'a'"),
    (lambda: recipes.full_megatron(std="a"), "`std` is 'a'"),
    (lambda: recipes.vit(std="a"), "`std` is 'a'"),
])  # fmt: skip
def test_a_wrong_call_names_the_recipe(make, text):
    with pytest.raises(TypeError, match=text):
        make()


@pytest.mark.parametrize("name", ["gpt2", "full_megatron"])
def test_a_std_may_be_traced(name, key):
    shapes = shapes_of(Transformer(1), struct(1, 8, dtype="int32"))

    def table(std):
        rules = recipes.get(name, num_layers=1, std=std)
        assert "traced" in str(rules) and rules.settings["std"] is std
        plan = jinit.plan(shapes, rules)
        return plan.init(key)["params"]["Embed_0"]["embedding"]

    plain = jinit.plan(shapes, recipes.get(name, num_layers=1, std=0.03)).init(key)
    expected = plain["params"]["Embed_0"]["embedding"]
    np.testing.assert_allclose(jax.jit(table)(0.03), expected, rtol=1e-6)
