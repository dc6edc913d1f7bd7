"""The language recipes give each role the law of the official code.

The numbers are computed here, from the formula in the file that each table names.
"""

import importlib.util
import math

import jax
import numpy as np
import pytest
from scipy import stats

import jinit
from jinit import recipes
from tests.support import laws
from tests.support.llamas import (
    INNER,
    NAMES,
    SCANNED,
    VOCABULARY,
    WIDTH,
    by_role,
    in_equinox,
    in_linen,
    in_nnx,
)

NEEDS_EQUINOX = pytest.mark.skipif(
    importlib.util.find_spec("equinox") is None,
    reason="equinox is not installed: pip install equinox",
)
# A draw of a few thousand numbers takes less time than its compilation.
pytestmark = pytest.mark.usefixtures("quick_compilation")
LIBRARIES = {"linen": in_linen, "nnx": in_nnx, "equinox": in_equinox}


def marked(names):
    return [
        pytest.param(name, marks=NEEDS_EQUINOX) if name == "equinox" else name
        for name in names
    ]


def cut(std, sigmas=3.0):
    """Return the law of trunc_normal_(w, std=std, a=-sigmas * std, b=sigmas * std)."""
    return stats.truncnorm(-sigmas, sigmas, scale=std)


def cut_at_2(std):
    """Return the law of trunc_normal_(w, std=std): a and b are the numbers +-2."""
    return stats.truncnorm(-2 / std, 2 / std, scale=std)


def llama3(layer, layers):
    # pytorch/torchtitan, torchtitan/models/llama3/__init__.py, b5bcd76
    end = cut_at_2(0.02 / (2 * (layer + 1)) ** 0.5)
    plain = cut_at_2(0.02)
    table = dict.fromkeys(("wq", "wk", "wv", "w1"), plain)
    return table | dict.fromkeys(("wo", "w2", "w3"), end) | {
        "tok_embeddings": laws.normal(1.0), "output": cut(WIDTH**-0.5),
    }  # fmt: skip


def olmo(method):
    # allenai/OLMo-core, src/olmo_core/nn/transformer/init.py, fa6c501
    def table(layer, layers):
        if method == "normal":
            return dict.fromkeys((*NAMES, "tok_embeddings", "output"), cut(0.02))
        if method == "fan_in":
            one = dict.fromkeys(NAMES, cut(WIDTH**-0.5)) | {"w2": cut(INNER**-0.5)}
        else:
            number = layers if method == "llama" else layer + 1
            one = dict.fromkeys(NAMES, cut(0.02)) | dict.fromkeys(
                ("wo", "w2", "w3"), cut(0.02 / (2 * number) ** 0.5)
            )
        return one | {"tok_embeddings": laws.normal(1.0), "output": cut(WIDTH**-0.5)}

    return table


def qwen3(flavour):
    # pytorch/torchtitan, torchtitan/models/qwen3/__init__.py, b5bcd76
    def table(layer, layers):
        one = dict.fromkeys((*NAMES, "tok_embeddings", "output"), laws.normal(0.02))
        if flavour == "megatron":
            end = laws.normal(0.02 / (2 * layers) ** 0.5)
            one |= {"wo": end, "w2": end}
        return one

    return table


def report(layer, layers):
    # DeepSeek-V3 technical report, section 4.2
    return dict.fromkeys((*NAMES, "tok_embeddings", "output"), laws.normal(0.006))


def full_megatron(layer, layers):
    # AnswerDotAI/ModernBERT, src/bert_layers/initialization.py, 8c57a0f
    table = dict.fromkeys((*NAMES, "tok_embeddings"), cut(0.02))
    end = cut(0.02 / math.sqrt(2.0 * layers))
    return table | {"wo": end, "w2": end, "output": cut(WIDTH**-0.5)}


def nanochat(layer, layers):
    # karpathy/nanochat, nanochat/gpt.py, 92d63d4
    s = 3**0.5 * WIDTH**-0.5
    table = dict.fromkeys(("wq", "wk", "wv"), laws.uniform(-s, s))
    table |= dict.fromkeys(("w1", "w3"), laws.uniform(-0.4 * s, 0.4 * s))
    return table | {
        "wo": None, "w2": None,
        "tok_embeddings": laws.normal(0.8), "output": laws.normal(0.001),
    }  # fmt: skip


def hugging_face(layer, layers):
    # huggingface/transformers, MIGRATION_GUIDE_V5.md, e416b2c
    return dict.fromkeys((*NAMES, "tok_embeddings", "output"), laws.normal(0.03))


CONFIG = {"model_type": "llama", "initializer_range": 0.03, "vocab_size": VOCABULARY}
OFFICIAL = {
    "llama3": (recipes.llama3(), llama3),
    "olmo, normal": (recipes.olmo(), olmo("normal")),
    "olmo, llama": (recipes.olmo(method="llama"), olmo("llama")),
    "olmo, llama_depth": (recipes.olmo(method="llama_depth"), olmo("llama_depth")),
    "olmo, fan_in": (recipes.olmo(method="fan_in"), olmo("fan_in")),
    "qwen3, hf": (recipes.qwen3(), qwen3("hf")),
    "qwen3, megatron": (recipes.qwen3(flavour="megatron"), qwen3("megatron")),
    "deepseek_v3": (recipes.deepseek_v3(), llama3),
    "deepseek_v3, report": (recipes.deepseek_v3(flavour="report"), report),
    "full_megatron": (recipes.full_megatron(), full_megatron),
    "nanochat": (recipes.nanochat(), nanochat),
    "from_hf_config": (recipes.from_hf_config(CONFIG), hugging_face),
}


def assert_official(values, table, layers):
    """Check every parameter: a law by the official formula, norms 1."""
    checked = 0
    for key, value in values.items():
        name, layer = key if isinstance(key, tuple) else (key, 0)
        if "norm" in name:
            assert (value == 1).all()
            continue
        law = table(layer, layers)[name]
        checked += 1
        if law is None:
            assert (value == 0).all()
            continue
        laws.assert_law(value, law)
        # No draw reaches the cut, and the law's support ends there.
        low, high = law.support()
        assert low <= value.min() and value.max() <= high
    assert checked == 7 * layers + 2


@pytest.mark.parametrize("name", OFFICIAL)
def test_each_role_has_the_official_law(name, key):
    recipe, table = OFFICIAL[name]
    net = in_linen(2)
    values = by_role(net, jinit.plan(net, recipe).init(key))
    assert_official(values, table, 2)


def initializers(net, recipe):
    """Return what the plan says of each role: the initializer, and its std.

    The layout of a kernel differs from library to library.
    """
    rows = jinit.plan(net, recipe).rows
    cells = [f"{row['initializer']} {row['std']:.9g}" for row in rows]
    cells = [cell.replace(", layout='oi'", "") for cell in cells]
    return {key: str(cell) for key, cell in by_role(net, cells).items()}


@pytest.mark.parametrize("library", marked(["nnx", "equinox"]))
def test_every_library_has_equal_laws(library):
    net, other = in_linen(2), LIBRARIES[library](2)
    for recipe, _ in OFFICIAL.values():
        assert initializers(net, recipe) == initializers(other, recipe)


@pytest.mark.parametrize("name, stack", [
    *((name, stack) for name in ("llama3",) for stack in SCANNED if stack != "equinox"),
    ("olmo, fan_in", "linen, axis 1"),
    ("olmo, llama_depth", "nnx"),
    pytest.param("llama3", "equinox", marks=NEEDS_EQUINOX),
    pytest.param("olmo, fan_in", "equinox", marks=NEEDS_EQUINOX),
])  # fmt: skip
def test_each_slice_of_a_scanned_stack_has_the_law_of_its_layer(name, stack, key):
    recipe, table = OFFICIAL[name]
    make, axis = SCANNED[stack]
    net = make(3)
    values = by_role(net, jinit.plan(net, recipe).init(key), axis)
    assert_official(values, table, 3)


@pytest.mark.parametrize("name", ["llama3", "olmo, llama_depth"])
def test_a_wrong_index_fails(name, key):
    recipe, table = OFFICIAL[name]
    net = in_linen(2)
    values = by_role(net, jinit.plan(net, recipe).init(key))
    with pytest.raises(AssertionError):
        assert_official(values, lambda layer, n: table(1 - layer, n), 2)
    with pytest.raises(AssertionError):
        assert_official(values, lambda layer, n: table(layer + 1, n), 2)


def test_truncations_end_at_their_cuts(key):
    net = in_linen(2)
    values = by_role(net, jinit.plan(net, recipes.olmo(method="llama")).init(key))
    ends = np.concatenate([np.ravel(values["w3", layer]) for layer in (0, 1)])
    plain = np.concatenate([np.ravel(values["wq", layer]) for layer in (0, 1)])
    for value, std in ((ends, 0.01), (plain, 0.02), (values["output"], WIDTH**-0.5)):
        # Of 8,000 numbers without a cut, 20 would lie beyond 3 sigma.
        assert 2.8 * std < abs(value).max() <= 3 * std


def test_a_stack_is_drawn_in_one_array_with_the_bits_of_its_slices(key):
    net = in_linen(3, axis=1)
    plan = jinit.plan(net, recipes.llama3())
    (leaf,) = [x for x in plan.leaves if x.path.endswith("wo/kernel")]
    w = np.asarray(leaf.init(key, leaf.value.shape))
    plain = jinit.truncated_normal(0.02, None, -2, 2, bounds="absolute")
    for layer in range(3):
        one = plain(jax.random.fold_in(key, layer), (WIDTH, WIDTH))
        np.testing.assert_allclose(
            w[:, layer], one * (2 * (layer + 1)) ** -0.5, rtol=1e-6
        )


@pytest.mark.parametrize("name, law", [
    ("llama3", cut(WIDTH**-0.5)),
    ("olmo, llama", laws.normal(1.0)),
    ("full_megatron", cut(0.02)),
    ("qwen3, hf", laws.normal(0.02)),
])  # fmt: skip
def test_a_tied_table_has_the_law_that_the_official_code_gives_it(name, law, key):
    # torchtitan skips the table's law where it is tied, OLMo-core and ModernBERT the
    # readout's.
    net = in_linen(2, tied=True)
    values = by_role(net, jinit.plan(net, OFFICIAL[name][0]).init(key))
    assert "output" not in values
    laws.assert_law(values["tok_embeddings"], law)


@pytest.mark.parametrize("name", ["llama3", "olmo, llama_depth", "olmo, fan_in",
                                  "qwen3, megatron", "full_megatron"])  # fmt: skip
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_shapes_alone_give_the_same_laws_by_names(name, axis, key):
    recipe, table = OFFICIAL[name]
    net = in_linen(3, axis)
    settings = dict(recipe.settings) | {"num_layers": 3, "stacked": axis is not None}
    # Names do not say that "output" is the readout.
    rules = recipes.get(recipe.name, **settings, readout="**/output/kernel")
    values = by_role(net, jinit.plan(net.params, rules).init(key), axis)
    assert_official(values, table, 3)
