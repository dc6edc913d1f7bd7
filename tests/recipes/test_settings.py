"""Settings of recipes: one form, checks at the door, and words that users know."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from jinit import recipes

LLAMA = {"model_type": "llama", "vocab_size": 97}


@pytest.mark.parametrize("recipe", [
    recipes.dit(grid=(4, 4)),
    recipes.gpt2(residual_outputs=("**/a", "**/b")),
    recipes.from_hf_config({"architectures": ("LlamaForCausalLM",)}),
])  # fmt: skip
def test_sequences_come_back_from_a_configuration(recipe):
    config = json.loads(json.dumps(recipe.to_config()))
    assert recipes.get(**config) == recipe
    assert recipes.get(**config) != recipes.get("gpt2", residual_outputs="**/a")


def test_lists_and_tuples_are_one_setting():
    assert recipes.dit(grid=[4, 4]) == recipes.dit(grid=(4, 4))
    assert repr(recipes.dit(grid=[4, 4])) == "recipes.dit(num_layers=None, grid=(4, 4))"


def test_numbers_of_numpy_become_those_of_python():
    recipe = recipes.gpt2(np.int64(3), std=np.float64(0.5))
    assert repr(recipe) == "recipes.gpt2(num_layers=3, std=0.5)"
    assert json.dumps(recipe.to_config())
    assert recipe == recipes.gpt2(3, std=0.5)
    # 0.02 in float32 is another number in float64.
    assert recipes.gpt2(std=jnp.float32(0.02)) == recipes.gpt2()


@pytest.mark.parametrize("make, error, text", [
    (lambda: recipes.gpt2(std=-1), ValueError, "`std` is -1; it must be at least 0"),
    (lambda: recipes.vit(std=0), ValueError, "`std` is 0.0?; it must be greater"),
    (lambda: recipes.full_megatron(cut=0), ValueError, "`cut` is 0; .*greater than 0"),
    (lambda: recipes.llama3(stacked="no"), TypeError, "`stacked`.*True or False"),
    (lambda: recipes.vit(stacked=1), TypeError, "`stacked`.*True or False"),
    (lambda: recipes.t5(head_dim=0), ValueError, "`head_dim` is 0"),
    (lambda: recipes.vit(num_layers=2.5), TypeError, "`num_layers`.*integer"),
    (lambda: recipes.dit(grid=(4,)), ValueError, r"`grid` is \(4,\).*height and width"),
    (lambda: recipes.dit(grid=4), TypeError, "`grid` is 4; it must be a tuple"),
    (lambda: recipes.gpt2(residual_outputs=3), TypeError,
     "`residual_outputs` of recipes.gpt2 is 3, of type int"),
    (lambda: recipes.gpt2(residual_outputs=["**/a", 3]), TypeError, "is 3"),
    (lambda: recipes.hyper_connections(base="hyper_connections"), ValueError, "`base`"),
    (lambda: recipes.hyper_connections(base="from_hf_config"), ValueError, "`base`"),
    (lambda: recipes.from_hf_config(LLAMA | {"pad_token_id": 97}), ValueError,
     "pad_token_id 97, .* has 97 rows"),
    (lambda: recipes.from_hf_config(LLAMA | {"pad_token_id": -98}), ValueError,
     "pad_token_id -98"),
    (lambda: recipes.get("GPT2"), ValueError, r"\. Did you mean 'gpt2'"),
    (lambda: recipes.resnet(branch_norms="**/scale"), ValueError,
     r"`branch_norms`.*Pass zero_init_residual=True"),
])  # fmt: skip
def test_a_bad_value_is_an_error_at_once(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_a_far_name_is_no_suggestion():
    with pytest.raises(TypeError, match="no use for 'streams'. Its settings"):
        recipes.get("hyper_connections", streams=4)
    with pytest.raises(ValueError) as error:
        recipes.get(None)
    assert "Did you mean" not in str(error.value)


def test_an_architecture_may_be_a_string():
    listed = recipes.from_hf_config({"architectures": ["LlamaForCausalLM"]})
    one = recipes.from_hf_config({"architectures": "LlamaForCausalLM"})
    assert one.laws == listed.laws


def test_the_padding_row_may_count_from_the_end():
    recipe = recipes.from_hf_config(LLAMA | {"pad_token_id": -1})
    assert "row -1 is 0" in str(recipe)


@pytest.mark.parametrize("name", ["dit", "siglip", "clip"])
def test_an_error_explains_a_role_once(name):
    net = jinit.network(lambda p, x: x @ p, jnp.ones((4, 4)), jnp.ones((2, 4)))
    with pytest.raises(ValueError) as error:
        jinit.plan(net, recipes.get(name))
    explanations = re.findall(r"\([^)]{20,}\)", str(error.value))
    assert explanations and len(explanations) == len(set(explanations))
