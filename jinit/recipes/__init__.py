"""Whole-network schemes: functions that return rules for `jinit.plan`.

They know the names that Flax's own modules give their parameters, in Linen and in NNX.
What no name tells is a pattern, or several: `residual_outputs` (the last layers of the
branches), `embeddings`, `positions`, `readout`, `query`, `key`, `value`, `branches`. A
pattern of yours must match something. `stacked=True` is for models whose layers are
scanned, so that every kernel has a first axis that counts them.

Linen's numbers tell the order in which layers were made, so among Dense_0, Dense_1, ...
of a module the last of a branch is found by the widths around it; among layers of one
width it is taken to be the last, and where nothing tells, the error names the layers.

Rules of your own go before a recipe's. A leaf that a recipe does not know is an error
of `plan`, which names it.
"""

from .._core.names import publish
from ._inside import inside
from ._residual import fixup
from ._torch import torch_defaults
from ._transformers import deepnorm, gpt2, small_init, t5, t_fixup
from ._vision import vit

__all__ = [
    "deepnorm",
    "fixup",
    "gpt2",
    "inside",
    "small_init",
    "t5",
    "t_fixup",
    "torch_defaults",
    "vit",
]
__dir__ = __all__.copy  # for `dir`, which would show the imports too
publish(__name__, *map(globals().get, __all__))
