"""The pages of results: a benchmark replaces its own part, and leaves the others."""

import argparse
import pathlib
import re
import socket

import pytest

from benchmarks import _page, _report
from benchmarks._pages import PAGES
from tests.support.repository import ROOT

HEAD = ("model", "how", "seconds")


def part(name: str, body: str) -> _page.Part:
    return _page.Part("speed", name, name.title(), f"run {name}", "About it.", [body])


def test_a_part_is_replaced_and_all_else_stays(tmp_path):
    path = tmp_path / "speed.md"
    # In another order than that of the page.
    for name in ("tables", "draws", "network"):
        _page.write(tmp_path, part(name, f"{name}: 1"))
    text = path.read_text()
    assert text.startswith(f"# {PAGES['speed'].title}\n\n")
    places = [text.index(f"<!-- part: {n} -->") for n in ("draws", "network", "tables")]
    assert places == sorted(places)
    path.write_text(
        text.replace("\n<!-- part: network", "\nBy hand.\n\n<!-- part: network")
    )
    before = path.read_text()
    _page.write(tmp_path, part("network", r"network: 2 \1"))
    assert path.read_text() == before.replace("network: 1", r"network: 2 \1")


def test_rows_that_are_not_measured_again_stay_with_their_run(tmp_path, monkeypatch):
    def write(run, rows):
        monkeypatch.setattr(_page, "run", lambda: run)
        order = [("large", "a|b"), ("small", "jit"), ("small", "torch")]
        table = _page.merged(
            tmp_path, "speed", "tables", HEAD, rows, keys=2, order=order
        )
        _page.write(tmp_path, part("tables", table.text))
        return table

    long = "2026-11-29, 2 cores, x86_64; " + ", ".join(["jax 0.10.2"] * 12)
    write(long, [("small", "torch", "1"), ("large", "a|b", "2"), ("old", "x", "9")])
    merged = write(
        "2027-01-01, 4 cores", [("small", "torch", "3"), ("small", "jit", "4")]
    )
    assert merged.rows == [
        ("large", "a|b", "2"), ("small", "jit", "4"), ("small", "torch", "3"),
        # A row that this machine cannot measure is no reason to lose it.
        ("old", "x", "9"),
    ]  # fmt: skip
    letters = [line[-3] for line in merged.text.splitlines() if line.startswith("| ")]
    assert letters[2:] == ["a", "b", "b", "a"]
    text = (tmp_path / "speed.md").read_text()
    assert "- **b**: 2027-01-01, 4 cores" in text and r"a\|b" in text
    assert " ".join(text.split()).count(f"- **a**: {long} - **b**") == 1
    assert max(map(len, text.splitlines())) <= 88


def test_other_columns_are_an_error_and_lose_nothing(tmp_path):
    table = _page.merged(tmp_path, "speed", "tables", HEAD, [("x", "y", "1")])
    _page.write(tmp_path, part("tables", table.text))
    with pytest.raises(ValueError, match="Remove the part from the page"):
        _page.merged(tmp_path, "speed", "tables", ("model", "ms"), [("x", "1")])


def test_ratios_below_one_stand_out():
    ratios = [_page.ratio(x) for x in (None, 0.5, 0.999, 2.36, 23.4)]
    assert ratios == ["-", "**0.50**", "1.00", "2.36", "23"]


def test_a_run_describes_the_machine_and_does_not_name_it():
    run = _page.run()
    for fact in ("cores", "GiB of memory", "Python 3.", "jinit ", "jaxlib", "optax"):
        assert fact in run
    assert re.match(r"\d{4}-\d\d-\d\d, ", run)
    for name in (socket.gethostname(), str(ROOT), str(pathlib.Path.home())):
        assert name not in run
    assert [_report.vector_bits(flags.split()) for flags in (
        "sse2 avx avx2 avx512f", "sse2 avx avx2", "sse2", "asimd",
    )] == [512, 256, 128, None]  # fmt: skip


def parsed(*argv: str) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    _page.add_option(parser)
    return parser, parser.parse_args(argv)


@pytest.mark.parametrize("argv, message", [
    (["--docs", "probe"], "names of parts come before `--docs`"),
    (["--quick", f"--docs={ROOT / _page.FOLDER}"], "`--quick` measures too little"),
])  # fmt: skip
def test_what_would_spoil_the_pages_is_refused(argv, message, capsys):
    with pytest.raises(SystemExit):
        _page.folder(*parsed(*argv))
    assert message in capsys.readouterr().err


def test_without_the_option_nothing_is_written():
    assert _page.folder(*parsed()) is None


def test_the_pages_of_the_site_are_those_of_the_benchmarks():
    places = ROOT / "docs/results"
    navigation = (ROOT / "mkdocs.yml").read_text()
    for name, page in PAGES.items():
        text = (places / f"{name}.md").read_text()
        assert (
            text.startswith(f"# {page.title}\n") and f"results/{name}.md" in navigation
        )
        parts = re.findall(r"<!-- part: (.*) -->\n## .*\n\n```sh\n", text)
        assert parts == list(page.parts)
        for picture in re.findall(r"\]\((.*\.svg)\)", text):
            assert (places / picture).stat().st_size < 60_000
