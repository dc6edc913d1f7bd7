"""The frame: public names, imports one way, what a fresh process loads, the README."""

import ast
import inspect
import pathlib
import pickle
import re
import subprocess
import sys
import tomllib

import pytest

import jinit
from tests.support.readme_table import table

ROOT = pathlib.Path(__file__).parent.parent.parent
PACKAGE = ROOT / "jinit"

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
    "Plan", "Rule", "fill_missing", "keep", "perturb", "plan",
    "materialize", "recipes", "residual_scale", "blocks", "stacked",
    "concat", "from_array", "masked", "padded", "scaled", "torch_layout", "transposed",
    "with_dtype", "looks_linear", "scaled_orthogonal",
    "dirac", "hadamard", "identity", "sparse", "zero_hadamard",
    "bilinear", "constant_bias_from_prior", "embedding", "fourier_features", "icnr",
    "scaled_uniform", "siren", "stft", "recurrent", "ssm",
    "hyperfan_in", "hyperfan_out", "layer_scale", "lora", "mimetic_attention",
    "moe_router", "ngpt", "olora", "pissa", "place_mimetic_attention", "small_init",
    "wang_init", "whitening_conv", "critical", "theory", "Report", "probe",
    "Comparison", "compare", "History", "autoinit", "data_dependent", "gradinit",
    "lsuv", "metainit", "sweep", "weight_norm_init", "weight_norm_scales",
    "whiten_first_layer", "Network", "network",
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


MODULES = ("mup", "nnx", "random", "recipes", "recurrent", "ssm", "theory")


@pytest.mark.parametrize("module", MODULES)
def test_a_module_shows_its_own_names_only(module):
    module = getattr(jinit, module)
    assert dir(module) == sorted(module.__all__)
    for name in dir(module):
        assert getattr(module, name).__module__.startswith("jinit")


@pytest.mark.parametrize("name, text", [
    ("glorot", "Did you mean 'xavier', 'glorot_normal' or 'glorot_uniform'"),
    ("msra", "Did you mean 'he', "),
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


def in_a_fresh_process(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return result.stdout.strip()


# Loads everything that jinit has.
EVERYTHING = "[getattr(jinit, n) for n in dir(jinit)]"

HEAVY = ["flax", "matplotlib", "optax", "chex", "rich"]

# One process for all modules and both imports: each takes seconds to start.
LOADS = f"""
import sys, jax, jax.monitoring
seen = []
jax.monitoring.register_event_duration_secs_listener(lambda n, *a, **k: seen.append(n))

def loaded():
    return [name for name in {HEAVY} if name in sys.modules]

import jinit
print("jinit", loaded())
jinit.mup.infer
print("mup", loaded())
{EVERYTHING}
print("compiled", [name for name in seen if "compile" in name])
import {", ".join(HEAVY)}
print("all", loaded())
jax.jit(lambda x: x + 1)(1)
print("seen", any("compile" in name for name in seen))
"""


@pytest.fixture(scope="module")
def loads():
    """Return the lines that a fresh process prints, by their first words."""
    lines = in_a_fresh_process(LOADS).splitlines()
    return dict(line.split(" ", 1) for line in lines)


def test_a_fresh_process_loads_no_framework(loads):
    assert loads["jinit"] == "[]"
    # And the check sees what is loaded.
    assert loads["all"] == str(HEAVY)


def test_mup_loads_no_framework(loads):
    assert loads["mup"] == "[]"


def test_importing_compiles_and_computes_nothing(loads):
    assert loads["compiled"] == "[]"
    assert loads["seen"] == "True"


def test_importing_loads_no_scheme():
    code = "import sys, jinit; print([m for m in sys.modules if m.startswith('jinit')])"
    assert in_a_fresh_process(code) == "['jinit']"
    code = "import sys\nfrom jinit import he\nprint('jinit._plan' in sys.modules, "
    assert in_a_fresh_process(code + "'numpy.polynomial' in sys.modules)") == (
        "False False"
    )


def test_names_may_be_loaded_while_something_is_traced():
    code = (
        "import jax, jinit\n"
        "@jax.jit\n"
        "def draw(key):\n"
        f"    {EVERYTHING}\n"
        "    return jinit.he()(key, (8, 4))\n"
        "with jax.checking_leaks(): inside = draw(jax.random.key(0))\n"
        "outside = jinit.he()(jax.random.key(0), (8, 4))\n"
        "print(bool((inside == outside).all()), jinit._core.programs.at_top_level())"
    )
    assert in_a_fresh_process(code) == "True True"


def test_names_may_be_loaded_by_many_threads_at_once():
    code = (
        "import threading, jinit\n"
        "names, barrier = sorted(jinit._FILES), threading.Barrier(8)\n"
        "loaded = [{} for _ in range(8)]\n"
        "def load(number):\n"
        "    barrier.wait()\n"
        "    for name in names[13 * number:] + names[:13 * number]:\n"
        "        loaded[number][name] = getattr(jinit, name)\n"
        "threads = [threading.Thread(target=load, args=(n,)) for n in range(8)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]\n"
        "print(all(d[n] is getattr(jinit, n) for d in loaded for n in names))"
    )
    assert in_a_fresh_process(code) == "True"


def test_every_way_to_import():
    code = (
        "import pickle, jinit.random\n"
        f"made = pickle.loads({pickle.dumps(jinit.xavier(gain=2.0))!r})\n"
        "from jinit import *\n"
        "from jinit import xavier as x, recipes as r\n"
        "import jinit\n"
        "assert made == x(gain=2.0) == jinit.xavier(gain=2.0) and x is xavier\n"
        "assert jinit.recipes.gpt2 is r.gpt2 and 'he' in registry\n"
        "assert 'nnx' not in globals()\n"
        "assert recurrent.chrono(5.0) == jinit.get('recurrent.chrono', t_max=5.0)\n"
        "print(jinit.__version__)"
    )
    assert in_a_fresh_process(code) == jinit.__version__


def public_objects():
    modules = {"mup", "random", "recipes", "recurrent", "ssm", "theory"}
    for name in sorted(PUBLIC - modules - {"registry", "zeros", "ones"}):
        yield name, getattr(jinit, name)
    for module in sorted(modules):
        for name in getattr(jinit, module).__all__:
            yield f"{module}.{name}", getattr(getattr(jinit, module), name)


SECTIONS = {"Args:", "Returns:", "Raises:", "Example:", "References:"}


@pytest.mark.parametrize("name, value", list(public_objects()))
def test_docstrings(name, value):
    text = inspect.getdoc(value)
    assert text and text.splitlines()[0].endswith((".", ":", "layers"))
    if name not in ("Initializer", "Fans"):
        assert "Example:" in text and ">>> " in text
    if callable(value) and not inspect.isclass(value):
        parameters = inspect.signature(value).parameters
        # The presets refer to what they are presets of.
        if "its arguments and errors" not in text and parameters:
            for parameter in parameters:
                documented = re.search(
                    rf"^\s*(\w+, )*\*{{0,2}}{parameter}\b.*:", text, re.M
                )
                assert documented or name in ("get", "to_config", "from_config"), (
                    parameter
                )


TREE_FIRST = (
    "fill_missing", "perturb", "place_mimetic_attention", "weight_norm_init", "sweep",
)  # fmt: skip


def test_style_of_signatures():
    for name, value in public_objects():
        # A tree of parameters comes first in what changes one.
        if not callable(value) or inspect.isclass(value) or name in TREE_FIRST:
            continue
        names = list(inspect.signature(value).parameters)
        assert "rng" not in names, f"{name}: a PRNG key is called `key`"
        assert "key" not in names or names[0] == "key"


def test_files_stay_small():
    for path in [*PACKAGE.glob("*.py"), *ROOT.glob("examples/*.py")]:
        assert len(path.read_text().splitlines()) <= 400, path.name


def test_the_floor_is_what_pyproject_says():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    floor = (ROOT / "tests" / "floor.txt").read_text()
    pinned = dict(re.findall(r"^(\w+)==([\d.]+)$", floor, re.M))
    declared = dict(
        re.fullmatch(r"(\w+)>=([\d.]+)", d).groups() for d in project["dependencies"]
    )
    assert pinned == declared
    assert project["version"] == jinit.__version__


def readme() -> str:
    return (ROOT / "README.md").read_text()


def readme_blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", readme(), re.M | re.S)


@pytest.mark.parametrize("number", range(len(readme_blocks())))
def test_the_code_of_the_readme_runs(number, quick_compilation):
    exec(compile(readme_blocks()[number], f"README block {number}", "exec"), {})


def test_the_readme_s_table_is_the_registry():
    assert table() in readme(), "run: python -m tests.support.readme_table"


def test_nothing_names_a_machine():
    wrong = re.compile(r"(?<![\w.])/(work|tmp|root|home|opt)/")
    files = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, cwd=ROOT
    ).stdout.split()
    for name in files:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".txt"} and path != pathlib.Path(
            __file__
        ):
            assert not wrong.search(path.read_text()), name
