"""The options of a benchmark of named parts that are run on images."""

import argparse
from collections.abc import Sequence


def parser(
    prog: str, description: str, parts: str, names: Sequence[str], out: str
) -> argparse.ArgumentParser:
    """A parser of names of parts, `--quick`, the data and the folder of the results."""

    def name(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(names)}")
        return text

    found = argparse.ArgumentParser(
        prog=prog,
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = found.add_argument
    add(
        parts, nargs="*", type=name, metavar=parts.upper(),
        help=f"some of {', '.join(names)}; all if none is named",
    )  # fmt: skip
    add("--quick", action="store_true", help="small, for CI")
    add("--data", choices=("digits", "mnist"), default="digits", help="which images")
    add(
        "--data-dir",
        help="a folder with the four MNIST files; else they are downloaded",
    )
    add("--out", default=out, help="the folder of the results")
    return found
