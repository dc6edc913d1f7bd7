"""The benchmark of reading a network runs."""

from benchmarks import network


def test_the_quick_run_prints_a_row_for_each_call(capsys):
    assert network.main(["--quick"]) == 0
    out = capsys.readouterr().out
    assert out.count("first") == out.count("second") == 3
