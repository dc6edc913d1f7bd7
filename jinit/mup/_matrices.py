"""Muon takes the hidden matrices of a model, along the axes of its inputs and outputs.

Muon makes an update orthogonal as a matrix (inputs, outputs). It is for the matrices
between the first layer and the last one. Embeddings, readouts, layers that read data,
norms and biases stay with Adam (Jordan, https://kellerjordan.github.io/posts/muon).
Routers are matrices in a model, and Muon takes them, as in Liu et al., "Muon is
scalable for LLM training", 2025, where Adam has only the embedding, the readout and the
norms.

All heads of an attention are one matrix: that paper's code takes them together, and
so does MaxText. Experts, scanned layers and members of an ensemble are batch axes.
"""

import math
from collections.abc import Sequence

from ._growth import ClassifiedTensor

# The axes of a matrix: those of its inputs, and those of its outputs.
Matrix = tuple[tuple[int, ...], tuple[int, ...]]


def matrix_of(tensor: ClassifiedTensor) -> Matrix | None:
    """Return the axes along which Muon takes a tensor, or None if Adam takes it."""
    layout = tensor.layout
    inputs = tuple(axis for axis, letter in enumerate(layout) if letter in "ik")
    outputs = tuple(axis for axis, letter in enumerate(layout) if letter == "o")
    sizes = [math.prod(tensor.shape[x] for x in axes) for axes in (inputs, outputs)]
    # With one input or one output it is a vector, whatever its number of axes.
    if min(sizes) < 2 or not _is_hidden_matrix(tensor):
        return None
    return inputs, outputs


def _is_hidden_matrix(tensor: ClassifiedTensor) -> bool:
    # The matrices of a grouped convolution are parts of one axis, which dimension
    # numbers cannot say; a depthwise one has a vector for each channel.
    if tensor.groups > 1 or tensor.is_looked_up:
        return False
    if tensor.mup_class in ("hidden", "vector"):
        return tensor.mup_class == "hidden"
    if tensor.mup_class == "output":
        return not tensor.is_readout
    # Its inputs do not grow. Only a network tells the first layer from one behind a
    # bottleneck.
    return tensor.roles is not None and not tensor.roles & {
        "embedding", "input", "readout", "other",
    }  # fmt: skip


def as_matrix(value: Sequence[Sequence[int]] | None) -> Matrix | None:
    """Return the axes of a matrix from plain data."""
    if value is None:
        return None
    inputs, outputs = value
    return tuple(inputs), tuple(outputs)
