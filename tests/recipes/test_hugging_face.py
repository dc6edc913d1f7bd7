"""`from_hf_config` follows the library's conventions, by architecture."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jinit
from jinit import recipes
from tests.support import laws
from tests.support.llamas import INNER, NAMES, VOCABULARY, WIDTH, by_role, in_linen
from tests.support.networks import floats, network, tokens
from tests.support.zoo.state_space import MODELS

pytestmark = pytest.mark.usefixtures("quick_compilation")


def drawn(config, key, **options):
    net = in_linen(2, **options)
    return by_role(net, jinit.plan(net, recipes.from_hf_config(config)).init(key))


@pytest.mark.parametrize("model_type", ["llama", "qwen3", "mistral", "bert"])
def test_the_common_convention(model_type, key):
    config = {"model_type": model_type, "initializer_range": 0.03}
    values = drawn(config, key)
    for name in NAMES:
        laws.assert_law(values[name, 1], laws.normal(0.03))
    laws.assert_law(values["output"], laws.normal(0.03))
    laws.assert_law(values["tok_embeddings"], laws.normal(0.03))
    assert (values["norm"] == 1).all()


def test_the_padding_row_is_zero_in_the_table_of_tokens(key):
    config = {"model_type": "llama", "pad_token_id": 3, "vocab_size": VOCABULARY}
    table = drawn(config, key)["tok_embeddings"]
    assert (table[3] == 0).all()
    laws.assert_law(np.delete(table, 3, axis=0), laws.normal(0.02))
    # Another table has no padding: here the vocabulary has another size.
    table = drawn(config | {"vocab_size": 77}, key)["tok_embeddings"]
    assert (table[3] != 0).all()
    with pytest.raises(ValueError, match="no vocab_size.*tok_embeddings"):
        drawn({"model_type": "llama", "pad_token_id": 3}, key)


def test_gpt2_scales_the_ends_of_branches(key):
    # huggingface/transformers, modeling_gpt2.py, 0010f60
    config = {"model_type": "gpt2", "initializer_range": 0.04, "pad_token_id": 0}
    for layers in ({}, {"n_layer": 2}, {"num_hidden_layers": 2}):
        values = drawn(config | layers, key)
        for name in NAMES:
            std = 0.04 / (2 * 2) ** 0.5 if name in ("wo", "w2") else 0.04
            laws.assert_law(values[name, 1], laws.normal(std))
        # GPT-2's tables have no padding row.
        assert (values["tok_embeddings"][0] != 0).all()


def test_t5_counts_inputs_and_divides_queries(key):
    # huggingface/transformers, modeling_t5.py, 6b8b757
    config = {"model_type": "t5", "d_kv": 16, "initializer_factor": 0.5}
    values = drawn(config, key)
    kernels = dict.fromkeys(NAMES, 0.5 * WIDTH**-0.5)
    kernels |= {"wq": 0.5 * (WIDTH * 16) ** -0.5, "w2": 0.5 * INNER**-0.5}
    for name, std in kernels.items():
        laws.assert_law(values[name, 0], laws.normal(std))
    laws.assert_law(values["output"], laws.normal(0.5))
    laws.assert_law(values["tok_embeddings"], laws.normal(0.5))
    assert (values["norm"] == 0.5).all()
    with pytest.raises(ValueError, match="no 'd_kv'"):
        drawn({"model_type": "mt5"}, key)


def test_t5_s_relative_positions_have_the_width_of_the_model():
    def model(p, x):
        distances = jnp.arange(5)[:, None] - jnp.arange(5)[None]
        bias = p["relative"][jnp.clip(distances + 4, 0, 8)][..., 0]
        q, k, v = x @ p["q"], x @ p["k"], x @ p["v"]
        return x + jax.nn.softmax(q @ k.mT + bias[None]) @ v @ p["o"]

    shapes = dict.fromkeys("qkvo", (64, 64)) | {"relative": (9, 1)}
    net = network(model, shapes, floats(2, 5, 64))
    rules = recipes.from_hf_config({"model_type": "t5", "d_kv": 64})
    rows = {row["path"]: row["std"] for row in jinit.plan(net, rules).rows}
    assert rows["relative"] == pytest.approx(64**-0.5)
    assert rows["q"] == pytest.approx(1 / 64)


def test_gemma_s_norms_start_at_zero(key):
    assert (drawn({"model_type": "gemma2"}, key)["norm"] == 0).all()


def test_vit_truncates_kernels_positions_and_the_class_token(key):
    # huggingface/transformers, modeling_vit.py, 005db82
    def model(p, x):
        x = x.reshape(2, 4, 32) @ p["patches"]
        cls = jnp.broadcast_to(p["cls"], (2, 1, 48))
        return jnp.concatenate([cls, x], 1) + p["positions"]

    shapes = {"patches": (32, 48), "cls": (1, 1, 48), "positions": (1, 5, 48)}
    net = network(model, shapes, floats(2, 4, 8, 4))
    rules = recipes.from_hf_config({"model_type": "vit", "initializer_range": 0.7})
    params = jinit.plan(net, rules).init(key)
    law = stats.truncnorm(-2 / 0.7, 2 / 0.7, scale=0.7)
    laws.assert_law(params["patches"], law)
    assert 1.9 < abs(params["patches"]).max() <= 2
    for name in ("cls", "positions"):
        laws.assert_law(params[name], law)


@pytest.mark.parametrize("names, std", [
    ({"initializer_range": 0.1, "init_std": 0.2}, 0.1),
    ({"init_std": 0.2, "initializer_factor": 0.3}, 0.2),
    ({"initializer_factor": 0.3}, 0.3),
    ({"initializer_range": 0}, 0.02),
    ({}, 0.02),
])  # fmt: skip
def test_the_std_has_the_name_that_the_library_looks_for_first(names, std):
    recipe = recipes.from_hf_config({"model_type": "opt"} | names)
    assert recipe.laws[0].law == f"N(0, {std:g}^2)"


@pytest.mark.parametrize("architecture, model_type", [
    ("LlamaForCausalLM", "llama"),
    ("GPT2LMHeadModel", "gpt2"),
    ("GPTNeoXForCausalLM", "gpt_neox"),
    ("BertModel", "bert"),
    ("T5ForConditionalGeneration", "t5"),
    ("XLMRobertaForMaskedLM", "xlm_roberta"),
    ("Qwen3MoeForCausalLM", "qwen3_moe"),
    ("Gemma2ForCausalLM", "gemma2"),
])  # fmt: skip
def test_architectures_name_the_model_where_its_type_is_missing(
    architecture, model_type
):
    known = recipes.from_hf_config({"model_type": model_type, "d_kv": 8})
    by_name = recipes.from_hf_config({"architectures": [architecture], "d_kv": 8})
    assert by_name.laws == known.laws


def test_an_object_is_read_as_its_dict():
    entries = {"model_type": "gpt2", "n_layer": 2, "hidden_act": "gelu"}
    plain = types.SimpleNamespace(**entries)
    with_method = types.SimpleNamespace(to_dict=lambda: entries)
    expected = recipes.from_hf_config(entries)
    assert expected == recipes.from_hf_config(plain)
    assert expected == recipes.from_hf_config(with_method)
    # What no law depends on is left out.
    assert repr(expected) == (
        "recipes.from_hf_config(config={'model_type': 'gpt2', 'n_layer': 2})"
    )
    assert recipes.get(**expected.to_config()) == expected


@pytest.mark.parametrize("config, error, text", [
    ({"model_type": "llamas"}, ValueError, "'llamas'.*Did you mean.*'llama'"),
    ({"model_type": "mamba2"}, ValueError, "'mamba2', whose recurrent parameters"),
    ({"model_type": "mamba", "time_step_init_scheme": "r"}, ValueError,
     "`time_step_init_scheme`.*'random', 'constant'"),
    ({"model_type": "mamba", "rescale_prenorm_residual": True}, ValueError,
     "no 'num_hidden_layers'"),
    ({"model_type": "mystery"}, ValueError, "'mystery', whose start is not known here"),
    ({"architectures": ["LlamasForCausalLM"]}, ValueError, "Did you mean.*'llama'"),
    ({"hidden_size": 8}, TypeError, "neither 'model_type' nor 'architectures'"),
    ("llama", TypeError, "neither 'model_type' nor 'architectures'"),
    ({"model_type": "llama", "initializer_range": -1.0}, ValueError,
     "`initializer_range`"),
    ({"model_type": "llama", "initializer_range": "a"}, TypeError,
     "`initializer_range`"),
    ({"model_type": "gpt2", "n_layer": 0}, ValueError, "`n_layer`"),
    ({"model_type": "llama", "pad_token_id": 0.5}, TypeError, "`pad_token_id`"),
])  # fmt: skip
def test_bad_configurations(config, error, text):
    with pytest.raises(error, match=text):
        recipes.from_hf_config(config)


def test_shapes_alone_are_enough_for_the_common_convention(key):
    config = {"model_type": "llama", "vocab_size": VOCABULARY, "pad_token_id": 1}
    net = in_linen(2)
    plan = jinit.plan(net.params, recipes.from_hf_config(config))
    values = by_role(net, plan.init(key))
    laws.assert_law(values["wo", 1], laws.normal(0.02))
    assert (values["tok_embeddings"][1] == 0).all()


def test_bert_s_other_tables_have_no_padding(key):
    def model(p, ids, types):
        return p["tokens"][ids] + p["types"][types]

    net = network(model, {"tokens": (50, 32), "types": (2, 32)}, tokens(2, 5),
                  tokens(2, 5))  # fmt: skip
    config = {"model_type": "bert", "pad_token_id": 0, "vocab_size": 50}
    params = jinit.plan(net, recipes.from_hf_config(config)).init(key)
    assert (params["tokens"][0] == 0).all() and (params["types"][0] != 0).all()


def test_roberta_s_positions_have_a_padding_row_too(key):
    def model(p, ids):
        positions = jnp.cumsum(ids != 1, 1) * (ids != 1) + 1
        return p["tokens"][ids] + p["positions"][positions]

    net = network(model, {"tokens": (50, 32), "positions": (12, 32)}, tokens(2, 5))
    sizes = {"vocab_size": 50, "max_position_embeddings": 12, "pad_token_id": 1}
    for model_type, is_padded in (("roberta", True), ("bert", False)):
        rules = recipes.from_hf_config({"model_type": model_type} | sizes)
        params = jinit.plan(net, rules).init(key)
        assert (params["tokens"][1] == 0).all()
        assert (params["positions"][1] == 0).all() == is_padded


def test_a_padding_row_on_another_axis_is_refused():
    def model(p, ids):
        return p["tokens"].T[ids]

    net = network(model, {"tokens": (32, 50)}, tokens(2, 5))
    config = {"model_type": "llama", "pad_token_id": 1, "vocab_size": 50}
    with pytest.raises(ValueError, match="'tokens'.*on another axis than the last"):
        jinit.plan(net, recipes.from_hf_config(config))


@pytest.mark.parametrize("scheme, rescales", [("random", False), ("constant", True)])
def test_mamba_s_state_space_has_its_own_laws(scheme, rescales, key):
    # huggingface/transformers, modeling_mamba.py, 00328d4
    model = MODELS["mamba"]()
    with jax.numpy_rank_promotion("allow"):
        net = jinit.network(model.model, *model.arguments)
    config = {
        "model_type": "mamba", "time_step_scale": 2.0, "time_step_min": 0.01,
        "time_step_init_scheme": scheme, "rescale_prenorm_residual": rescales,
        "num_hidden_layers": 2,
    }  # fmt: skip
    plan = jinit.plan(net, recipes.from_hf_config(config))
    params = plan.init(key)
    mixers = [layer["mixer"] for layer in params["layers"]]

    def both(*path):
        values = []
        for value in mixers:
            for name in path:
                value = value[name]
            values.append(np.ravel(value))
        return np.concatenate(values)

    laws.assert_law(both("in_proj"), laws.normal(0.1))
    laws.assert_law(both("x_proj"), laws.normal(0.1))
    laws.assert_law(both("conv1d", "weight"), laws.uniform(-0.5, 0.5))
    limit = 24**-0.5 / (2**0.5 if rescales else 1)
    laws.assert_law(both("out_proj"), laws.uniform(-limit, limit))
    steps = both("dt_proj", "weight")
    if scheme == "random":
        laws.assert_law(steps, laws.uniform(-(2**0.5), 2**0.5))
    else:
        np.testing.assert_allclose(steps, 2**0.5, rtol=1e-6)
    dt = np.log1p(np.exp(both("dt_proj", "bias").astype(float)))
    laws.assert_law(np.log(dt), laws.uniform(np.log(0.01), np.log(0.1)))
    assert (both("D") == 1).all() and (both("conv1d", "bias") == 0).all()
    np.testing.assert_allclose(mixers[0]["A_log"][3], np.log([1, 2, 3, 4]), atol=1e-6)
