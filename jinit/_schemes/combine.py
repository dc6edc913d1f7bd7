"""Initializers made of others of any origin, scaled and masked; and a given array."""

from .._initializer.entry import Entry
from .._initializer.foreign import scaled
from .._initializer.masked import masked
from .._initializer.stack import concat
from .constant import from_array

ENTRIES = (
    Entry(
        "scaled",
        scaled,
        "of its part",
        "w = factor init",
        "another scale for any initializer",
        "-",
    ),
    Entry(
        "masked",
        masked,
        "of its parts",
        "w = a where mask, else b",
        "causal or sparse kernels, parts that start at zero",
        "-",
        "each part counts the fans of the whole shape",
    ),
    Entry(
        "concat",
        concat,
        "of its parts",
        "w = [init_1 | init_2 | ...]",
        "kernels that hold several",
        "-",
    ),
    Entry(
        "from_array",
        from_array,
        "constant",
        "w = array",
        "pretrained weights, filters",
        "-",
        "for its own shape only",
    ),
)
