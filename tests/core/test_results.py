"""Results: plain data, tables in text, rich and HTML, and keys in snake_case."""

import io
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.ad_checkpoint import checkpoint_name
from rich.console import Console

import jinit
from jinit._core.results import Finding, Table, plain
from jinit._from_data.history import History

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (8, 4))


def model(w, x):
    return checkpoint_name(x @ w, "<w>")


def report():
    return jinit.probe(model, jnp.ones((4, 3)), X)


def comparison():
    def make(init):
        return lambda key, x: init(key, (4, 3)), model

    return jinit.compare(make, ["he", "xavier"], X, KEY)


def history():
    return jinit.lsuv(lambda v, x: checkpoint_name(x @ v["w"], "w"),
                      {"w": jnp.ones((4, 3))}, X)[1]  # fmt: skip


def coordinates():
    def at(width):
        return lambda key, x: jinit.lecun()(key, (4, width)), lambda w, x: x @ w

    return jinit.mup.coordinate_check(
        at, [8, 32], [(X, 0.0)] * 2, optax.sgd(1e-2), loss=lambda y, _: jnp.mean(y**2)
    )


def plan():
    return jinit.plan({"<w>": X, "step": 3}, [("<w>", jinit.he()), ("**", jinit.keep)])


def parametrization():
    return jinit.mup.infer({"<w>": jnp.ones((4, 4))}, {"<w>": jnp.ones((8, 8))})


RESULTS = {
    f.__name__: f
    for f in (report, comparison, history, coordinates, plan, parametrization)
}


@pytest.fixture(params=RESULTS, scope="module")
def result(request):
    return RESULTS[request.param]()


def test_keys_of_rows_are_in_snake_case(result):
    assert result.rows
    for row in result.rows:
        assert all(re.fullmatch("[a-z][a-z0-9_]*", name) for name in row)


def test_results_give_plain_data(result):
    data = result.to_dict()
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_results_show_as_html(result):
    html = result._repr_html_()
    assert html.count("<tr>") == html.count("</tr>") > len(result.rows)
    assert html.count("<table>") == 1 and "<w>" not in html
    first = next(iter(result.rows[0].values()))
    assert not isinstance(first, str) or first.replace("<w>", "&lt;w&gt;") in html


def test_results_print_in_rich_as_in_text(result):
    console = Console(file=io.StringIO(), width=200, color_system=None)
    console.print(result)
    assert console.file.getvalue().split() == str(result).split()


def test_a_table_of_nothing():
    empty = History("lsuv", (), ("std",))
    assert str(empty) == "lsuv: nothing to do" and empty.to_dict()["rows"] == []
    assert empty._repr_html_() == "<p>lsuv: nothing to do</p>"


def test_sentences_and_sums():
    table = Table(("a", "n"), [("[red]x", "1,000")], ("total", "1,000"), ["up"], ["e"])
    lines = table.text().splitlines()
    assert lines[0] == "up" and lines[-2:] == ["", "e"] and "[red]x" in table.text()
    assert "<tfoot><tr><td>total</td>" in table.html()


def test_plain_values():
    value = {"a": (1, 2.0, np.inf), 3: Finding("dead", "p", float("nan"), "text")}
    finding = {"category": "dead", "path": "p", "value": None, "message": "text"}
    assert plain(value) == {"a": [1, 2.0, None], "3": finding}
    assert plain([jnp.float32, True, np.float64(2)])[1:] == [True, 2.0]


def test_findings_of_a_coordinate_check_name_the_layers_that_are_not_flat():
    flat = coordinates()
    assert flat.findings == [] and set(flat.verdict.values()) == {"flat"}
