"""The benchmarks of named parts that train on images share these options."""

import argparse
from collections.abc import Sequence

from benchmarks import _page


def parser(
    prog: str, description: str, parts: str, names: Sequence[str], out: str
) -> argparse.ArgumentParser:
    """Return a parser of part names, `--quick`, the data and the folders."""

    def name(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(
                f"{text!r} is unknown; choose from {', '.join(names)}"
            )
        return text

    result = argparse.ArgumentParser(
        prog=prog,
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = result.add_argument
    add(
        parts, nargs="*", type=name, metavar=parts.upper(),
        help=f"some of {', '.join(names)}; all if none is named",
    )  # fmt: skip
    add("--quick", action="store_true", help="run a small size, for CI")
    add(
        "--data",
        choices=("digits", "mnist"),
        default="digits",
        help="the images to train on",
    )
    add(
        "--data-dir",
        help="the folder of the four MNIST files; by default they are downloaded",
    )
    add("--out", default=out, help="the folder of the results")
    _page.add_option(result)
    return result
