"""Find the root of the repository, and start fresh Python processes there."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "jinit"


def in_a_fresh_process(code: str) -> str:
    """Run the code in a fresh Python process, and return its output."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()
