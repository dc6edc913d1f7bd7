"""The benchmark of reading a network runs."""

from benchmarks import network


def test_the_quick_run_prints_a_row_for_each_call(tmp_path, capsys):
    assert network.main(["--quick", f"--docs={tmp_path}"]) == 0
    page = (tmp_path / "speed.md").read_text()
    assert page.count(" | first | ") == page.count(" | second | ") == 3
    out = capsys.readouterr().out
    assert out.count("first") == out.count("second") == 3
