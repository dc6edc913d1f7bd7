"""A recipe returns the rules for a whole network, which `jinit.plan` applies.

Recipes know the names that Flax's own modules give their parameters, in Linen and in
NNX. If a model has other names, pass a pattern, or a sequence of patterns, for a role:
`residual_outputs` (the last layers of the branches), `embeddings`, `positions`,
`readout`, `query`, `key`, `value`, `branches`. A pattern that you pass must match a
leaf. `stacked=True` is for models whose layers are scanned, so that every kernel has a
first axis that counts the layers.

Linen numbers layers in the order in which they are made, which need not be the order
in which they run. So among Dense_0, Dense_1, ... of a module, a recipe finds the last
layer of a branch by the widths of its neighbours. Among layers of one width it takes
the last. If neither decides, the error names the layers.

Put your own rules before those of a recipe. If a recipe does not know a leaf, `plan`
raises an error that names the leaf.
"""

from .._core.names import publish
from ._inside import inside
from ._post_norm import deepnorm, t_fixup
from ._residual import fixup
from ._t5 import t5
from ._torch import torch_defaults
from ._transformers import gpt2, small_init
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
