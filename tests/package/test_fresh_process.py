"""Imports in a fresh process: what they load, and that each way of importing works."""

import pickle

import pytest

import jinit
from tests.support.repository import in_a_fresh_process

# This code loads everything that jinit has.
EVERYTHING = "[getattr(jinit, n) for n in dir(jinit)]"

HEAVY = ["flax", "matplotlib", "optax", "chex", "rich", "scipy"]

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
