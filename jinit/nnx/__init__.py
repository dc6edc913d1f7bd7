"""This module has the functions of jinit that take a model, for models of Flax NNX.

An NNX model holds its parameters. So these functions take no `variables`: they return a
new model, or a report, and leave the model that you pass as it is.
"""

from .._core.names import publish
from ._compare import compare
from ._from_data import (
    autoinit,
    data_dependent,
    gradinit,
    lsuv,
    metainit,
    weight_norm_init,
    whiten_first_layer,
)
from ._materialize import materialize
from ._probe import probe

__all__ = [
    "autoinit",
    "compare",
    "data_dependent",
    "gradinit",
    "lsuv",
    "materialize",
    "metainit",
    "probe",
    "weight_norm_init",
    "whiten_first_layer",
]
__dir__ = __all__.copy  # for `dir`, which would show the imports too
publish(__name__, *map(globals().get, __all__))
