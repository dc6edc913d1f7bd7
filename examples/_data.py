"""Load real images: scikit-learn's digits, or MNIST from a folder or a mirror."""

import gzip
import hashlib
import pathlib
from typing import NamedTuple

import numpy as np
import pooch
from sklearn import datasets, model_selection

_MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"

# The md5 of each compressed file on the mirror, and the sha256 of its content.
_FILES = {
    "train-images-idx3-ubyte": (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte": (
        "d53e105ee54ea40749a09fcbcd1e9432",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "t10k-images-idx3-ubyte": (
        "9fb629c4189551a2d022fa330f9573f3",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte": (
        "ec29112dd5afa0611ce80d1b7f02629c",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}


class DataError(Exception):
    """The data are missing or damaged; the message says what to do."""


class Images(NamedTuple):
    """The images are standardized rows, with labels, to train and to test on."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def load(name: str, data_dir: str | None = None) -> Images:
    """Load the data set "digits" or "mnist"."""
    return digits() if name == "digits" else mnist(data_dir)


def digits() -> Images:
    """Load 1,797 images of 8 x 8; four fifths of each class are to train on."""
    x, y = datasets.load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = model_selection.train_test_split(
        x, y, test_size=0.2, stratify=y, random_state=0
    )
    return _standardized(train_x, train_y, test_x, test_y)


def mnist(data_dir: str | None = None) -> Images:
    """Load 60,000 + 10,000 images of 28 x 28, and verify their checksums."""
    parts = [_idx(_content(name, data_dir)) for name in _FILES]
    return _standardized(*parts)


def _standardized(
    train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray
) -> Images:
    """Return rows with mean 0 and mean square 1 over the training set."""
    rows = [x.reshape(len(x), -1).astype(np.float32) for x in (train_x, test_x)]
    mean, std = rows[0].mean(), rows[0].std()
    train_x, test_x = ((x - mean) / std for x in rows)
    return Images(train_x, train_y.astype(np.int32), test_x, test_y.astype(np.int32))


def _content(name: str, data_dir: str | None) -> bytes:
    """Return the content of a file, decompressed and verified."""
    path = _downloaded(name) if data_dir is None else _in_folder(name, data_dir)
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        if path.suffix == ".gz":
            raise DataError(_damaged(path, str(error))) from error
        content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != _FILES[name][1]:
        raise DataError(_damaged(path, f"its content has sha256 {digest}"))
    return content


def _damaged(path: pathlib.Path, reason: str) -> str:
    return (
        f"{path} is damaged: {reason}. Delete it, and run again without --data-dir to "
        "download it."
    )


def _in_folder(name: str, data_dir: str) -> pathlib.Path:
    folder = pathlib.Path(data_dir)
    for candidate in (folder / f"{name}.gz", folder / name):
        if candidate.is_file():
            return candidate
    raise DataError(
        f"{folder} holds neither {name}.gz nor {name}. Name the folder of the four "
        "MNIST files with --data-dir, or leave it out to download them."
    )


def _downloaded(name: str) -> pathlib.Path:
    url = f"{_MIRROR}{name}.gz"
    try:
        path = pooch.retrieve(
            url, f"md5:{_FILES[name][0]}", path=pooch.os_cache("jinit")
        )
    except Exception as error:
        raise DataError(
            f"{url} could not be downloaded: {error}. Put the four MNIST files into a "
            "folder and name it with --data-dir, or use --data digits, which needs no "
            "network."
        ) from error
    return pathlib.Path(path)


def _idx(content: bytes) -> np.ndarray:
    """Read the array of an IDX file: a magic number, the sizes, and the bytes."""
    rank = content[3]
    sizes = np.frombuffer(content, ">u4", rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(sizes)
