"""muP and other parametrizations let a small model's learning rates serve a large one.

A parametrization changes the std, the learning rate and the multiplier of every tensor
with the width of the model, so that the best learning rate stays the same. It is
inferred from a model at two widths: the base model, on which learning rates are tuned,
and the target model, which is trained:

    p = jinit.mup.infer(base_network, network)  # or the shapes of both models
    params = p.init(params)
    tx = p.optimizer(optax.adamw(1e-3))
    logits = readout(p.readout_scale * hidden)  # or times the logits, without a bias

Attention takes q k' / head_dim in the place of q k' / sqrt(head_dim); the function
`attention_scale` returns the factor. At the base width nothing changes, bit for bit.
`p.muon_dimension_numbers()` and `p.labels()` tell which tensors Muon takes.
"""

from typing import TYPE_CHECKING

from .._core.names import absent, publish
from ._attention import attention_scale
from ._coordinate_check import coordinate_check
from ._coordinate_report import CoordinateReport
from ._maximal_update import from_rules, infer
from ._parametrization import Parametrization
from ._spectral import spectral
from ._transfer_check import transfer_check
from ._transfer_report import TransferReport
from ._unit_scaling import unit_scaling

__all__ = [
    "CoordinateReport",
    "Parametrization",
    "TransferReport",
    "attention_scale",
    "coordinate_check",
    "from_rules",
    "infer",
    "spectral",
    "transfer_check",
    "unit_scaling",
]
__dir__ = __all__.copy  # for `dir`, which would show the imports too
if not TYPE_CHECKING:  # a type checker would take any name for an attribute
    __getattr__ = absent(__name__, __all__)
publish(__name__, *map(globals().get, __all__))
