"""The benchmark of GELU and SiLU networks at small size: a cell for each scheme."""

import pytest

from benchmarks import activations

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_the_quick_run_trains_from_every_scheme(tmp_path, capsys):
    assert activations.main(["--quick", f"--docs={tmp_path}"]) == 0
    assert (tmp_path / "diagnosis.md").read_text().count(" % (") == 2 * 7
    table = capsys.readouterr().out
    for scheme in ("he()", "orthogonal(gain", "kaiming(", "lsuv()", "data_dependent()"):
        assert scheme in table
    assert table.count(" % (") == 2 * 7
