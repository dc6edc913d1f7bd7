"""The options of the examples: one declaration, and errors that argparse words."""

import dataclasses
import importlib
import re

import pytest

from examples._cli import option, parse
from tests.support.repository import ROOT

EXAMPLES = sorted(
    path.stem
    for path in (ROOT / "examples").glob("[!_]*.py")
    if "parse(Options" in path.read_text()
)


@dataclasses.dataclass(frozen=True)
class Options:
    """Do something."""

    steps: int = option(3, "steps of it")
    seed: int = option(0, "a seed", least=0)
    rate: float = option(0.5, "a rate")
    depth: tuple[int, ...] = option((1, 2), "depths")
    names: tuple[str, ...] = option((), "names", choices=("a", "b"))
    port: int | None = option(None, "a port")
    out: str | None = option(None, "a folder")


def test_defaults_and_values_have_the_types_of_the_fields():
    assert parse(Options, []) == Options(3, 0, 0.5, (1, 2), (), None, None)
    words = "--steps=7 --seed 1 --rate 2 --depth 4 5 --names b a --port 80 --out x"
    options = parse(Options, words.split())
    assert options == Options(7, 1, 2.0, (4, 5), ("b", "a"), 80, "x")
    assert isinstance(options.rate, float)
    assert parse(Options, ["--names"]).names == ()


@pytest.mark.parametrize("words, text", [
    ("--steps 0", "argument --steps: 0 must be 1 or more"),
    ("--steps x", "invalid int value: 'x'"),
    ("--seed -1", "-1 must be 0 or more"),
    ("--rate fast", "invalid float value: 'fast'"),
    ("--names c", "invalid choice: 'c'"),
    ("--depth", "expected at least one argument"),
    ("--stepz 3", "unrecognized arguments: --stepz 3"),
])  # fmt: skip
def test_wrong_options_end_the_program(words, text, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(Options, words.split())
    assert stop.value.code == 2 and text in capsys.readouterr().err


def test_every_example_has_its_command_line_from_the_helper():
    assert len(EXAMPLES) == 9
    for path in (ROOT / "examples").glob("*.py"):
        assert ("argparse" in path.read_text()) == (path.stem == "_cli"), path


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_help_of_an_example_names_its_options_and_defaults(name, capsys):
    module = importlib.import_module(f"examples.{name}")
    with pytest.raises(SystemExit) as stop:
        module.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0 and text.startswith(f"usage: python -m examples.{name}")
    assert module.Options.__doc__ in text
    for field in dataclasses.fields(module.Options):
        assert f"--{field.name.replace('_', '-')}" in text
        assert " ".join(field.metadata["help"].split()) in re.sub("- ", "-", text)
