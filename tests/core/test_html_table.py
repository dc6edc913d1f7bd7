"""Results in a notebook: the rows of the text, escaped, in the colours of the page."""

import html.parser
import math
import pickle
import re

import jax.numpy as jnp
import pytest

import jinit
from jinit._core import html_table
from jinit._core.results import Finding, Table
from jinit._probe.audit.report import Audit
from jinit._probe.comparison import Comparison
from jinit._probe.report import Report
from jinit._probe.statistics import OUTPUT_STATISTICS
from jinit._watch.report import SHOWN, WatchReport
from jinit.mup._coordinate_report import CoordinateReport
from jinit.mup._transfer_report import TransferReport

X = jnp.ones((2, 16))
# A name that is a tag, an entity, a formula in two notations, and has quotes.
HOSTILE = "<script>alert('1')</script>&amp;\"$w$ \\(x\\) [red]"


class Page(html.parser.HTMLParser):
    """The rows, the caption, the paragraphs and the tags of a page."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.sentences, self.tags, self.classes = [], [], [], []
        self.caption, self._into = "", []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
            self.classes.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.classes[-1].append(dict(attrs).get("class", ""))
        elif tag in ("p", "li"):
            self.sentences.append("")
        elif tag == "br":
            self.caption += " "
        if tag not in ("span", "strong", "br"):
            self._into.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("span", "strong", "br"):
            assert self._into.pop() == tag

    def handle_data(self, data):
        place = self._into[-1] if self._into else ""
        if place in ("td", "th"):
            self.rows[-1][-1] += data
        elif place in ("p", "li"):
            self.sentences[-1] += data
        elif place == "caption":
            self.caption += data


def layer(path, **numbers):
    row = {"path": path, "shape": (64, 16), **dict.fromkeys(OUTPUT_STATISTICS, 0.5)}
    return {**row, "grad_rms": 1e-3, **numbers}


def finding(path):
    return Finding("vanishing", path, 0.01, f"the signal shrinks at {path}. Try he().")


def report():
    rows = layer("Dense_0"), layer("relu", dead=1.0), layer("Dense_1", cosine=math.nan)
    return Report(rows, (), verdict=[finding("relu")], notes=("it is small",))


def audit():
    row = {"shape": (16, 16), "layout": "io", "fan_in": 16, "fan_out": 16, "std": 0.25,
           "right_std": None, "ratio": None, "law": "lecun: fan_in 16"}  # fmt: skip
    rows = {"path": "a", **row}, {"path": "b", **row, "std": 1e-5}
    return Audit(rows, [finding("b")], [finding("a")])


def watch():
    numbers = dict.fromkeys(SHOWN, 0.01) | {"frozen": False}
    rows = [{"path": f"kernel[{i}]", **numbers} for i in range(3)]
    rows[1] |= {"update_rms": 0.0, "frozen": True, "cosine": None}
    return WatchReport(tuple(rows), 7, [finding("kernel[1]")])


def coordinates():
    numbers = {"init": (1.0, 1.0), "size": (1.0, 2.0), "change": (0.1, 0.2)}
    slopes = {f"{name}_slope": 0.5 for name in numbers}
    expected = {f"{name}_expected": 0.0 for name in numbers}
    row = {**numbers, **slopes, **expected, "cure": None}
    rows = (
        {"path": "Dense_0", "verdict": "flat", **row},
        {"path": "output", "verdict": "grows", **row},
    )
    return CoordinateReport((8, 64), rows, seeds=2, steps=3)


def transfer():
    widths, rates = (8, 16), (0.125, 0.25, 0.5)
    rows = [
        {"width": width, "rate": rate, "score": score}
        for width in widths
        for rate, score in zip(rates, (-1.0, -2.0, math.inf), strict=True)
    ]
    best, errors = dict.fromkeys(widths, 0.25), dict.fromkeys(widths, 0.1)
    return TransferReport(
        widths, rates, tuple(rows), best, errors, {}, 0.1, 0.05, 2, 20, "late", True,
        True,
    )  # fmt: skip


def comparison():
    return Comparison({"he": (report(),), "xavier": (report(),)}, ("only starts",))


def network():
    params = {"a": jnp.ones((16, 8)), "b": jnp.ones((8, 4))}
    return jinit.network(lambda w, x: x @ w["a"] @ w["b"], params, X)


def plan():
    return jinit.plan({"a": X, "step": 3}, [("a", jinit.he()), ("**", jinit.keep)])


def recipe():
    return jinit.recipes.gpt2(2)


RESULTS = {
    f.__name__: f
    for f in (
        report, audit, watch, coordinates, transfer, comparison, network, plan, recipe
    )
}  # fmt: skip


@pytest.fixture(params=RESULTS, scope="module")
def result(request):
    return RESULTS[request.param]()


def test_a_page_has_the_words_of_the_text_in_their_order(result):
    page = Page(result._repr_html_())
    # The text has a rule below its head, and a dash before each finding.
    words = [word for word in str(result).split() if word.strip("─-")]
    table = result._table()
    title = f"{type(result).__name__}: {len(table.lines)} rows"
    assert page.caption == " ".join([title, *table.above])
    above = " ".join(table.above)
    parts = [above, *(" ".join(row) for row in page.rows), *page.sentences]
    assert [word for word in " ".join(parts).split() if word != "-"] == words
    assert page.tags.count("table") == 1
    assert [*map(tuple, page.rows[1 : len(table.lines) + 1])] == [
        *map(tuple, table.marked_lines())
    ]


@pytest.mark.parametrize("name", ["report", "audit", "watch", "coordinates"])
def test_the_sick_row_is_marked_by_a_sign_and_is_strong(name):
    result = RESULTS[name]()
    (trouble,) = result.verdict if name == "report" else result.findings
    text = result._repr_html_()
    rows = Page(text).rows[1:]
    assert [row[0][2:] for row in rows if row[0][0] == "!"] == [trouble.path]
    assert re.findall("<strong>(.*?)</strong>", text) == [f"! {trouble.path}"]


def test_numbers_stand_at_the_right_and_names_at_the_left():
    kinds = Page(report()._repr_html_()).classes
    assert {*map(tuple, kinds)} == {("", "", *["number"] * len(OUTPUT_STATISTICS))}
    lines = [
        ("1,000", "-", "-2.5e-3 oct."),
        ("-", "-", "nan"),
        ("x", "-", "frozen"),
        ("2", "-", "+0.50 (0.5)"),
    ]
    page = Page(Table(("a", "b", "c"), lines, ("", "", "sum")).html())
    assert page.classes == [["number", "", "number"]] * 6


def test_hostile_names_are_escaped():
    table = Table((HOSTILE, "n"), [(HOSTILE, "1")], (HOSTILE, ""), [HOSTILE],
                  [HOSTILE, f"- {HOSTILE}"], [True])  # fmt: skip
    text = table.html()
    page = Page(text)
    assert [row[0] for row in page.rows] == [HOSTILE, f"! {HOSTILE}", HOSTILE]
    assert (
        page.sentences == [HOSTILE, HOSTILE]
        and page.caption == f"Table: 1 row {HOSTILE}"
    )
    assert {*page.tags} <= {
        "div", "style", "table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td",
        "strong", "span", "br", "p", "ul", "li",
    }  # fmt: skip
    # A notebook would set what stands between two of these signs as a formula.
    inside = re.sub("<style>.*?</style>", "", text)
    assert set(re.findall(r".[$\\].", inside)) == {">$<", ">\\<"}


def test_a_name_from_a_model_is_escaped():
    net = jinit.network(lambda w, x: x @ w[HOSTILE], {HOSTILE: jnp.ones((16, 4))}, X)
    for result in (net, jinit.plan(net, [("**", jinit.he())])):
        assert Page(result._repr_html_()).rows[1][0] == HOSTILE
        assert "<script" not in result._repr_html_()


def test_results_of_nothing():
    page = Page(WatchReport((), 0)._repr_html_())
    assert len(page.rows) == 1 and page.sentences == ["no tensor is watched"]
    assert Page(jinit.plan({}, [])._repr_html_()).rows[-1][0] == "total"
    assert Table((), (), above=["nothing to do"]).html() == "<p>nothing to do</p>"


def test_a_long_table_keeps_its_marked_rows_and_says_how_many_it_leaves_out():
    count = 10_000
    lines = [(f"layer_{number}", "1") for number in range(count)]
    sick = {3, 5_000, 9_999}
    marks = [number in sick for number in range(count)]
    table = Table(("layer", "n"), lines, below=["- a finding"], marks=marks)
    page = Page(table.html())
    assert len(page.rows) == 1 + html_table.ROWS + 2
    assert page.rows[-2:] == [["! layer_5000", "1"], ["! layer_9999", "1"]]
    left_out = f"{count - html_table.ROWS - 2:,} more rows without a mark"
    assert page.sentences == [f"{left_out}; print() shows all of them", "a finding"]
    assert len(table.text().splitlines()) > count
    # A notebook keeps every byte.
    assert len(table.html()) < 100_000


def test_long_tables_scroll_and_short_ones_do_not():
    def page(count):
        return Table(("a",), [("x",)] * count).html()

    assert "max-height" in page(31) and "max-height" not in page(30)


@pytest.mark.parametrize("name", ["report", "coordinates"])
def test_a_figure_shows_in_a_notebook_and_can_be_copied(name):
    figure = RESULTS[name]().plot()
    picture = figure._repr_png_()
    assert picture[:4] == b"\x89PNG" and len(picture) > 5_000
    assert pickle.loads(pickle.dumps(figure))._repr_png_()[:4] == picture[:4]


def test_a_page_has_no_colours_of_its_own():
    text = report()._repr_html_()
    assert "background:none" in text
    colours = re.findall(r"[{;](?:background|color)\S*?:([^;}]*)", text)
    assert {*colours} == {"none", "inherit"}
    assert not re.search("#[0-9a-f]{3}|rgb|url|http", text)
