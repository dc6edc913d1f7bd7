"""Recurrent networks: identities, and biases that set how long a unit remembers.

Flax hands every gate of a cell the same `bias_init`, so an initializer cannot know its
gate. Each scheme here has three forms: for the biases of all gates in one vector
(`order=`, as Flax's NNX OptimizedLSTMCell and PyTorch have them), for those of one gate
(`gate="f"`), and as rules, `(pattern, initializer)` pairs for `jinit.plan`.

Orthogonal recurrent kernels for each gate of a fused kernel: `jinit.blocks` of
`jinit.orthogonal()`.
"""

from ._core.names import publish
from ._schemes.recurrent import (
    chrono,
    chrono_rules,
    identity,
    unit_forget_bias,
    unit_forget_rules,
)

__all__ = [
    "chrono",
    "chrono_rules",
    "identity",
    "unit_forget_bias",
    "unit_forget_rules",
]
__dir__ = __all__.copy  # for `dir`, which would show the imports too
publish(__name__, *map(globals().get, __all__))
