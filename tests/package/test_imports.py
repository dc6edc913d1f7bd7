"""Imports between the files of jinit go one way."""

import ast

from tests.support.repository import PACKAGE

# From the bottom up: a file may import only from files above it in this list.
ORDER = [
    "_internals", "_numbers", "_checks", "_erf_inv", "_compiled", "_threefry",
    "_rounding", "_unit", "_tail", "random", "_fans", "_activations", "_quadrature",
    "_identity", "_gains", "_scalar", "_dual", "_mean_field", "_edge_of_chaos",
    "_spectra", "_phase_figure", "theory", "_entry", "_initializer", "_maker",
    "_constant", "_distributions", "_truncated", "_variance", "_fan_options",
    "_schemes", "_critical", "_haar", "_polar", "_matrices", "_orthogonal",
    "_looks_linear", "_built", "_structured", "_hadamard", "_depth",
    "_transformers", "_mimetic", "_hyper", "_stft", "recurrent", "_hippo", "_ring",
    "_mamba", "ssm", "_coordinates", "_sample", "_parts", "_stack", "_around",
    "_layers", "_lora", "_upsampling", "_combine", "_whitening", "_registry",
    "_paths", "_rules", "_shardings", "_report", "_planned", "_plan", "_renew",
    "_place", "_branches", "_roles", "_torch_recipes", "recipes", "_progress",
    "_sweep", "_jaxpr", "_units", "_traces", "_materialize", "_behavior", "_form",
    "_kept", "_taps", "_statistics", "_findings", "_probe_report", "_naming",
    "_jacobian", "_probe", "_comparison", "_compare", "_history", "_weights",
    "_settle", "_lsuv", "_balance", "_data_dependent", "_first_layer", "_laws",
    "_propagate", "_autoinit", "_learned", "_gradinit", "_metainit", "_nnx_model",
    "_nnx_data", "nnx", "_mup_classes", "_mup_factors", "_mup_init", "_uniform",
    "_optimizer_trial", "_optimizer_kind", "_mup_optimizer", "_parametrization",
    "_mup_infer", "_coordinate_report", "_coordinate_models", "_coordinate_check",
    "mup", "_weight_norm", "__init__",
]  # fmt: skip


def upward_imports(name: str, source: str) -> list[str]:
    """The relative imports of a file that its place in ORDER does not allow."""
    allowed = set(ORDER[: ORDER.index(name)])
    wrong = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level:
            names = [node.module] if node.module else [a.name for a in node.names]
            wrong += [n for n in names if n not in allowed]
    return wrong


def test_imports_go_one_way():
    assert {p.stem for p in PACKAGE.glob("*.py")} == set(ORDER)
    for name in ORDER:
        assert not upward_imports(name, (PACKAGE / f"{name}.py").read_text())


def test_the_import_test_can_fail():
    assert upward_imports("_fans", "from ._gains import gain") == ["_gains"]
    assert upward_imports("_fans", "def f():\n    from . import random, _gains") == [
        "_gains"
    ]
