"""The example of the article, at small size: what it writes, and what it shows."""

import gzip
import hashlib
import json
import math
import pathlib

import numpy as np
import pytest

from examples import _data, _show, compare_schemes

pytestmark = pytest.mark.usefixtures("quick_compilation")

SMALL = [
    "--steps", "4", "--every", "2", "--width", "16", "--seeds", "2",
    "--batch-size", "8",
]  # fmt: skip


def run(capsys, out, *arguments) -> tuple[int, str]:
    code = compare_schemes.main([*arguments, "--out", str(out)])
    return code, capsys.readouterr().out


def test_records_table_and_figure(tmp_path, capsys):
    arguments = (*SMALL, "--depth", "2", "3", "--schemes", "he", "zeros")
    code, text = run(capsys, tmp_path, *arguments)
    assert code == 0
    records = json.loads((tmp_path / "results.json").read_text())
    cases = [(r["scheme"], r["depth"]) for r in records]
    assert cases == [("he", 2), ("zeros", 2), ("he", 3), ("zeros", 3)]
    for record in records:
        assert record["activation"] == "relu" and record["data"] == "digits"
        for field in ("test_accuracy", "final_loss", "steps_to_90"):
            assert len(record[field]) == 2
        assert (
            len(record["activation_rms"])
            == len(record["gradient_rms"])
            == record["depth"]
        )
        assert record["curve_steps"] == [2, 4]
        assert np.shape(record["test_accuracy_curve"]) == (2, 2)
    zeros = records[1]
    assert zeros["last_activation_std"] == zeros["first_gradient_norm"] == [0.0, 0.0]
    assert zeros["final_loss"] == pytest.approx([math.log(10)] * 2)
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"
    assert "test acc. %" in text and "steps to 90 %" in text


def record(scheme, signals, loss):
    return {"scheme": scheme, "depth": 2, "activation": "relu", "curve_steps": [1, 2],
            "test_accuracy_curve": [[0.1, 0.5]], "activation_rms": signals,
            "gradient_rms": signals, "final_loss": [loss]}  # fmt: skip


def test_the_figure_merges_equal_curves_keeps_zeros_and_says_who_trains(tmp_path):
    kept = [[1.0], [1.0]]
    records = [
        record("he", kept, 0.1),
        record("kaiming", kept, 0.1),
        record("zeros", [[1.0], [0.0]], math.log(10)),
    ]
    figure = _show.figure(records, "digits", tmp_path / "figure.png")
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["he = kaiming", "zeros"]
    assert figure.get_suptitle() == (
        "2 of 3 schemes train 2 relu layers on digits: he, kaiming"
    )
    signal = figure.axes[1]
    (zero,) = [line for line in signal.lines if line.get_marker() == "v"]
    assert (
        list(zero.get_xdata()) == [2] and signal.texts[0].get_text() == "v: exactly 0"
    )


def test_seeds_differ_and_runs_repeat(tmp_path, capsys):
    arguments = (*SMALL, "--depth", "2", "--schemes", "he")
    for name in ("a", "b"):
        run(capsys, tmp_path / name, *arguments)
    first, second = (
        json.loads((tmp_path / name / "results.json").read_text())
        for name in ("a", "b")
    )
    assert first == second
    assert first[0]["final_loss"][0] != first[0]["final_loss"][1]


def test_thirty_layers_at_initialization(tmp_path, capsys):
    """He keeps the signal, Xavier loses 2^-15 of it, up to the law of finite width."""
    _, text = run(
        capsys, tmp_path, "--steps", "1", "--every", "1", "--width", "128",
        "--seeds", "4", "--depth", "30", "--schemes", "xavier", "he",
    )  # fmt: skip
    records = json.loads((tmp_path / "results.json").read_text())
    left = {r["scheme"]: np.log2(r["activation_rms"][-1]) for r in records}
    # Hanin and Rolnick 2018: log of the mean square has mean -5 L / (2 n) and variance
    # 5 L / n; here in powers of two of the root, over four seeds.
    drift = -5 * 30 / (2 * 128) / 2 / math.log(2)
    spread = 5 * math.sqrt(5 * 30 / 128) / 2 / math.log(2) / 2
    # The first kernel is (64, 128): a variance of 2 / 192, where He has 2 / 64.
    first = 0.5 * math.log2(64 * 2 / 192 / 2)
    assert abs(np.mean(left["he"]) - drift) < spread
    assert abs(np.mean(left["xavier"]) - (first - 29 / 2 + drift)) < spread
    assert "xavier, 30 relu layers: the last activations are 2^-1" in text


@pytest.mark.parametrize("activation", ["gelu", "tanh"])
def test_other_activations(activation, tmp_path, capsys):
    arguments = (*SMALL, "--depth", "2", "--activation", activation)
    code, _ = run(capsys, tmp_path, *arguments)
    assert code == 0
    records = json.loads((tmp_path / "results.json").read_text())
    assert len(records) == len(compare_schemes.SCHEMES)


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["--schemes", "hee"], "invalid choice: 'hee'"),
        (["--data", "cifar"], "invalid choice: 'cifar'"),
        (["--depth", "0"], "0 must be 1 or more"),
        (["--activation", "rleu"], "invalid choice"),
    ],
)
def test_wrong_arguments(arguments, text, capsys):
    with pytest.raises(SystemExit) as stop:
        compare_schemes.main(arguments)
    assert stop.value.code == 2
    assert text in capsys.readouterr().err


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return head + array.astype(np.uint8).tobytes()


@pytest.fixture
def tiny_mnist(tmp_path, monkeypatch):
    """Four files of the right form, and the checksums that belong to them."""
    rng = np.random.default_rng(0)
    files = {}
    for split, n in (("train", 600), ("t10k", 100)):
        files[f"{split}-images-idx3-ubyte"] = idx(rng.integers(0, 256, (n, 28, 28)))
        files[f"{split}-labels-idx1-ubyte"] = idx(rng.integers(0, 10, n))
    for i, (name, content) in enumerate(files.items()):
        # Both forms are read: compressed, and as they are.
        if i % 2:
            (tmp_path / name).write_bytes(content)
        else:
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    sums = {n: ("-", hashlib.sha256(c).hexdigest()) for n, c in files.items()}
    monkeypatch.setattr(_data, "_FILES", sums)
    return tmp_path


def test_mnist_from_a_folder(tiny_mnist, tmp_path, capsys):
    arguments = (*SMALL, "--depth", "2", "--schemes", "he", "--data", "mnist")
    code, text = run(
        capsys, tmp_path / "out", *arguments, "--data-dir", str(tiny_mnist)
    )
    assert code == 0 and "on mnist" in text
    images = _data.mnist(str(tiny_mnist))
    assert images.train_x.shape == (600, 784) and images.test_x.shape == (100, 784)
    assert abs(images.train_x.mean()) < 1e-4 and abs(images.train_x.std() - 1) < 1e-4


def test_a_missing_file(tiny_mnist, tmp_path, capsys):
    (tiny_mnist / "t10k-labels-idx1-ubyte").unlink()
    arguments = (*SMALL, "--data", "mnist", "--data-dir", str(tiny_mnist))
    code, text = run(capsys, tmp_path / "out", *arguments)
    assert code == 2
    assert "holds neither t10k-labels-idx1-ubyte.gz nor" in " ".join(text.split())
    assert "--data-dir" in text


@pytest.mark.parametrize("how", ["cut", "changed"])
def test_a_damaged_file(how, tiny_mnist, tmp_path, capsys):
    path = tiny_mnist / "train-images-idx3-ubyte.gz"
    content = path.read_bytes()
    changed = gzip.compress(gzip.decompress(content)[:-1] + b"\x00\x01")
    path.write_bytes(content[: len(content) // 2] if how == "cut" else changed)
    arguments = (*SMALL, "--data", "mnist", "--data-dir", str(tiny_mnist))
    code, text = run(capsys, tmp_path / "out", *arguments)
    assert code == 2
    assert "is damaged" in text and "Delete it" in " ".join(text.split())


def test_a_download(tiny_mnist, tmp_path, monkeypatch):
    asked = []

    def retrieve(url, known_hash, path):
        asked.append((url.rpartition("/")[2], known_hash))
        target = tmp_path / "cache.gz"
        source = tiny_mnist / asked[-1][0]
        content = (
            source.read_bytes()
            if source.exists()
            else gzip.compress(source.with_suffix("").read_bytes())
        )
        target.write_bytes(content)
        return str(target)

    monkeypatch.setattr(_data.pooch, "retrieve", retrieve)
    assert _data.mnist().train_x.shape == (600, 784)
    assert [name for name, _ in asked] == [f"{n}.gz" for n in _data._FILES]
    assert all(h.startswith("md5:") for _, h in asked)


def test_a_download_that_fails(monkeypatch, tmp_path, capsys):
    def retrieve(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(_data.pooch, "retrieve", retrieve)
    code, text = run(capsys, tmp_path, *SMALL, "--data", "mnist")
    assert code == 2
    assert "no network" in text and "--data digits" in " ".join(text.split())


def test_digits_are_split_by_class():
    images = _data.digits()
    assert images.train_x.shape == (1437, 64) and images.test_x.shape == (360, 64)
    shares = np.bincount(images.test_y) / 360
    assert abs(shares - np.bincount(images.train_y) / 1437).max() < 0.005


def test_the_program_runs_by_its_path():
    path = pathlib.Path(compare_schemes.__file__)
    text = path.read_text()
    assert 'if __package__ in (None, "")' in text
