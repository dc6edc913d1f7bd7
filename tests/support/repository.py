"""The repository's root, and fresh Python processes that start there."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "jinit"


def in_a_fresh_process(code: str) -> str:
    """Run the code in a Python of its own, and return what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return result.stdout.strip()
