"""This module has the functions of jinit that take a model, for models of Flax NNX.

An NNX model holds its parameters, so that these functions take no `variables`. Most are
the functions of `jinit` with the same name, which take models of any library.
"""

from typing import TYPE_CHECKING

from .._core.names import absent, publish
from .._from_data.autoinit import autoinit
from .._from_data.first_layer import whiten_first_layer
from .._from_data.gradinit import gradinit
from .._from_data.lsuv import lsuv
from .._from_data.metainit import metainit
from .._from_data.unit_statistics import data_dependent
from .._from_data.weight_norm import weight_norm_init
from .._probe.probe import probe
from ._compare import compare
from ._materialize import materialize

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
if not TYPE_CHECKING:  # a type checker would take any name for an attribute
    __getattr__ = absent(__name__, __all__)
publish(__name__, compare, materialize)
