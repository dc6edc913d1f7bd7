"""These schemes start recurrent networks from identities, or from biases that remember.

Flax passes the same `bias_init` to every gate of a cell, so an initializer cannot know
its gate. Each bias scheme here has three forms: for the biases of all gates in one
vector (`order=`, as in NNX's OptimizedLSTMCell and PyTorch), for those of one gate
(`gate="f"`), and as rules, `(pattern, initializer)` pairs for `jinit.plan`.

For a fused recurrent kernel with an orthogonal matrix for each gate, use `jinit.blocks`
of `jinit.orthogonal()`.
"""

from ._core.names import publish
from ._schemes.gates import linspace_bias
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
    "linspace_bias",
    "unit_forget_bias",
    "unit_forget_rules",
]
# Without this `dir` would show the imports as well.
__dir__ = __all__.copy
publish(__name__, *map(globals().get, __all__))
