"""The command line of the examples: each field of a dataclass is an option.

An example declares its options once, with `option`, and reads them as attributes:

    @dataclasses.dataclass(frozen=True)
    class Options:
        steps: int = option(400, "steps of the optimizer")

    options = parse(Options, ["--steps", "10"])
"""

import argparse
import dataclasses
import json
import pathlib
import sys
import types
import typing
from collections.abc import Collection, Sequence
from typing import Any, TypeVar

from rich.console import Console

T = TypeVar("T")


def option(
    default: Any, text: str, *, least: int = 1, choices: Collection[str] = ()
) -> Any:
    """Declare an option: its default, its help, the least integer, the choices."""
    metadata = {"help": text, "least": least, "choices": tuple(choices) or None}
    return dataclasses.field(default=default, metadata=metadata)


def parse(options: type[T], argv: Sequence[str] | None = None) -> T:
    """Read the options from a command line; a wrong one ends the program."""
    parser = argparse.ArgumentParser(
        prog=f"python -m examples.{_name(options)}",
        description=options.__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    hints = typing.get_type_hints(options)
    for field in dataclasses.fields(options):  # type: ignore[arg-type]
        _add(parser, field, hints[field.name])
    values = vars(parser.parse_args(argv))
    # argparse returns a list, and a frozen dataclass holds a tuple.
    return options(
        **{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    )


def console(width: int = 110) -> Console:
    """Return the console; a pipe, which tells no width, gets this width."""
    return Console() if sys.stdout.isatty() else Console(width=width)


def write(out: str, record: Any, figure: Any, printed: Console) -> None:
    """Write results.json and figure.png into a folder, and print their places."""
    import matplotlib.pyplot as plt

    folder = pathlib.Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(record, indent=1) + "\n")
    figure.savefig(folder / "figure.png", dpi=120)
    plt.close(figure)
    printed.print(f"{folder}/results.json, {folder}/figure.png", soft_wrap=True)


def _name(options: type) -> str:
    module = options.__module__
    # A program that is run has the name "__main__".
    path = sys.argv[0] if module == "__main__" else module.replace(".", "/")
    return pathlib.PurePath(path).stem


def _add(
    parser: argparse.ArgumentParser, field: dataclasses.Field[Any], hint: Any
) -> None:
    """Add the option of a field, of the type that its annotation names."""
    several = typing.get_origin(hint) is tuple
    if isinstance(hint, types.UnionType) or several:  # `int | None`, `tuple[int, ...]`
        hint = typing.get_args(hint)[0]
    least, choices = field.metadata["least"], field.metadata["choices"]
    # Where no value is the default, none may be named, too.
    count = ("+" if field.default else "*") if several else None
    parser.add_argument(
        f"--{field.name.replace('_', '-')}",
        default=field.default,
        type=_integer(least) if hint is int else hint,
        choices=choices,
        nargs=count,
        help=field.metadata["help"],
        metavar="NAME" if several and choices else None,
    )


def _integer(least: int) -> Any:
    """Return a function that reads an integer of at least this size."""

    def read(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{text} must be {least} or more")
        return value

    # argparse names the type in its message: "invalid int value: 'x'".
    read.__name__ = "int"
    return read
