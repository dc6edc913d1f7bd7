"""Public names: which there are, and what jinit says of others."""

import ast
import inspect

import pytest

import jinit
from tests.support.public import MODULES
from tests.support.repository import PACKAGE

PUBLIC = {
    "random",
    "constant", "ones", "ones_init", "zeros", "zeros_init",
    "normal", "truncated_normal", "uniform",
    "Fans", "fans", "fans_from_einsum", "gain", "slope_at_zero",
    "Initializer", "delta_orthogonal", "orthogonal",
    "from_config", "get", "registry", "to_config",
    "he", "kaiming", "lecun", "xavier",
    "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "kaiming_normal",
    "kaiming_uniform", "lecun_normal", "lecun_uniform", "variance_scaling",
    "xavier_normal", "xavier_uniform",
    "Plan", "Rule", "fill_missing", "keep", "perturb", "plan", "WatchReport", "watch",
    "watched",
    "materialize", "recipes", "residual_scale", "blocks", "stacked", "depth_scaled",
    "concat", "from_array", "masked", "padded", "scaled", "torch_layout", "transposed",
    "with_dtype", "looks_linear", "scaled_orthogonal",
    "dirac", "hadamard", "identity", "sparse", "zero_hadamard",
    "bilinear", "constant_bias_from_prior", "embedding", "fourier_features", "icnr",
    "scaled_uniform", "sincos_positions", "siren", "stft", "recurrent", "ssm",
    "hyperfan_in", "hyperfan_out", "layer_scale", "lora", "mimetic_attention",
    "moe_router", "ngpt", "olora", "pissa", "place_mimetic_attention", "small_init",
    "wang_init", "whitening_conv", "critical", "theory", "Report", "probe",
    "Comparison", "compare", "History", "autoinit", "data_dependent", "gradinit",
    "lsuv", "metainit", "sweep", "weight_norm_init", "weight_norm_scales",
    "whiten_first_layer", "Network", "network", "Audit", "audit", "hyper_alpha",
}  # fmt: skip

# Modules that are loaded when they are first asked for.
LAZY = {"mup", "nnx"}


def test_public_names():
    assert {n for n in dir(jinit) if not n.startswith("_")} == PUBLIC | LAZY
    assert set(jinit.__all__) == PUBLIC
    assert all(inspect.ismodule(getattr(jinit, name)) for name in LAZY)
    # What is loaded is an attribute, and nothing else is.
    for name in PUBLIC:
        assert getattr(jinit, name) is vars(jinit)[name]
    assert {n for n in vars(jinit) if not n.startswith("_")} <= PUBLIC | LAZY
    assert {"__doc__", "__version__"} < set(dir(jinit))


def test_type_checkers_see_the_names_that_are_loaded():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (static,) = (node for node in tree.body if isinstance(node, ast.If))
    files = {}
    for node in static.body:
        assert isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names:
            assert alias.asname == alias.name
            files[alias.name] = node.module
    modules = {name for name, file in files.items() if file is None}
    assert modules == set(jinit._MODULES)
    assert {n: f for n, f in files.items() if f is not None} == jinit._FILES


@pytest.mark.parametrize("module", MODULES)
def test_a_module_shows_its_own_names_only(module):
    module = getattr(jinit, module)
    assert dir(module) == sorted(module.__all__)
    for name in dir(module):
        assert getattr(module, name).__module__.startswith("jinit")


@pytest.mark.parametrize("name, text", [
    ("glorot", "Did you mean 'xavier', 'glorot_normal' or 'glorot_uniform'"),
    ("msra", "Did you mean 'he', "),
    ("calculate_gain", "Did you mean 'gain'"),
    ("eye_", "Did you mean 'identity'"),
    ("trunc_normal", "Did you mean 'truncated_normal'"),
    ("kaiming_norml", "Did you mean 'kaiming_normal'"),
    ("materialise", "Did you mean 'materialize'"),
    ("initializers", "The initializers are in jinit itself"),
    ("nothing", "no attribute 'nothing'"),
])  # fmt: skip
def test_unknown_names(name, text):
    with pytest.raises(AttributeError, match=text):
        getattr(jinit, name)
    assert not hasattr(jinit, name) and getattr(jinit, name, 3) == 3
    with pytest.raises(ImportError, match="cannot import name"):
        exec(f"from jinit import {name}")


@pytest.mark.parametrize("module, name, text", [
    ("recipes", "llama", "'jinit.recipes' .* 'llama'. Did you mean 'llama3'"),
    ("mup", "spectrl", "Did you mean 'spectral'"),
    ("nnx", "materialise", "Did you mean 'materialize'"),
    ("nnx", "zzz", "no attribute 'zzz'$"),
    ("mup", "__path_", "no attribute '__path_'$"),
])  # fmt: skip
def test_unknown_names_of_a_module(module, name, text):
    with pytest.raises(AttributeError, match=text):
        getattr(getattr(jinit, module), name)
