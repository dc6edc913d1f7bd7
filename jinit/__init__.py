"""jinit: neural-network initialization for JAX.

An initializer is a value, called as `init(key, shape, dtype, out_sharding)`, like
those of `jax.nn.initializers`. In Flax: `nn.Dense(256, kernel_init=jinit.xavier())`.
"""

import importlib as _importlib
import typing as _typing

# Names of jinit may be first used by two threads at once, which cannot import JAX.
import jax as _jax

__version__ = "0.1.0"

# Names are loaded when they are first used, so that `import jinit` costs next to
# nothing. This table says where they are. The imports below say the same to type
# checkers and editors, and a test checks that the two agree.
_MODULES = ("mup", "nnx", "random", "recipes", "recurrent", "ssm", "theory")

_NAMES_OF_FILES = {
    "_around": "padded torch_layout transposed with_dtype",
    "_autoinit": "autoinit",
    "_combine": "concat from_array masked scaled",
    "_compare": "compare",
    "_comparison": "Comparison",
    "_constant": "constant ones ones_init zeros zeros_init",
    "_coordinates": "fourier_features siren",
    "_critical": "critical",
    "_data_dependent": "data_dependent weight_norm_init",
    "_depth": "residual_scale",
    "_distributions": "normal uniform",
    "_fans": "Fans fans fans_from_einsum",
    "_first_layer": "whiten_first_layer",
    "_gains": "gain slope_at_zero",
    "_gradinit": "gradinit",
    "_hadamard": "hadamard zero_hadamard",
    "_history": "History",
    "_hyper": "hyperfan_in hyperfan_out",
    "_initializer": "Initializer",
    "_layers": "constant_bias_from_prior embedding scaled_uniform",
    "_looks_linear": "looks_linear",
    "_lora": "lora olora pissa",
    "_lsuv": "lsuv",
    "_materialize": "materialize",
    "_metainit": "metainit",
    "_mimetic": "mimetic_attention",
    "_orthogonal": "delta_orthogonal orthogonal scaled_orthogonal",
    "_place": "place_mimetic_attention",
    "_plan": "Plan plan",
    "_probe": "probe",
    "_probe_report": "Report",
    "_registry": "from_config get registry to_config",
    "_renew": "fill_missing perturb",
    "_rules": "Rule keep",
    "_schemes": "he kaiming lecun xavier",
    "_stack": "blocks stacked",
    "_stft": "stft",
    "_structured": "dirac identity sparse",
    "_sweep": "sweep",
    "_transformers": "layer_scale moe_router ngpt small_init wang_init",
    "_truncated": "truncated_normal",
    "_upsampling": "bilinear icnr",
    "_variance": "glorot_normal glorot_uniform he_normal he_uniform "
    "kaiming_normal kaiming_uniform lecun_normal lecun_uniform "
    "variance_scaling xavier_normal xavier_uniform",
    "_weight_norm": "weight_norm_scales",
    "_whitening": "whitening_conv",
}

_FILES = {
    name: file for file, names in _NAMES_OF_FILES.items() for name in names.split()
}

if _typing.TYPE_CHECKING:
    # Public modules.
    from . import mup as mup
    from . import nnx as nnx
    from . import random as random
    from . import recipes as recipes
    from . import recurrent as recurrent
    from . import ssm as ssm
    from . import theory as theory

    # Initializers made of others.
    from ._around import padded as padded
    from ._around import torch_layout as torch_layout
    from ._around import transposed as transposed
    from ._around import with_dtype as with_dtype
    from ._combine import concat as concat
    from ._combine import from_array as from_array
    from ._combine import masked as masked
    from ._combine import scaled as scaled

    # Constants.
    from ._constant import constant as constant
    from ._constant import ones as ones
    from ._constant import ones_init as ones_init
    from ._constant import zeros as zeros
    from ._constant import zeros_init as zeros_init

    # The edge of chaos.
    from ._critical import critical as critical

    # Depth rules.
    from ._depth import residual_scale as residual_scale

    # Laws with a given scale.
    from ._distributions import normal as normal
    from ._distributions import uniform as uniform
    from ._truncated import truncated_normal as truncated_normal

    # Fans of a shape, gains of an activation.
    from ._fans import Fans as Fans
    from ._fans import fans as fans
    from ._fans import fans_from_einsum as fans_from_einsum
    from ._gains import gain as gain
    from ._gains import slope_at_zero as slope_at_zero

    # What all of them are.
    from ._initializer import Initializer as Initializer

    # A whole network: drawn without compiling every layer.
    from ._materialize import materialize as materialize

    # Orthogonal matrices.
    from ._looks_linear import looks_linear as looks_linear
    from ._orthogonal import delta_orthogonal as delta_orthogonal
    from ._orthogonal import orthogonal as orthogonal
    from ._orthogonal import scaled_orthogonal as scaled_orthogonal

    # Layers of a kind.
    from ._coordinates import fourier_features as fourier_features
    from ._coordinates import siren as siren
    from ._layers import constant_bias_from_prior as constant_bias_from_prior
    from ._layers import embedding as embedding
    from ._layers import scaled_uniform as scaled_uniform
    from ._stft import stft as stft
    from ._upsampling import bilinear as bilinear
    from ._upsampling import icnr as icnr

    # Structured matrices.
    from ._hadamard import hadamard as hadamard
    from ._hadamard import zero_hadamard as zero_hadamard
    from ._structured import dirac as dirac
    from ._structured import identity as identity
    from ._structured import sparse as sparse

    # Transformers, adapters, hypernetworks.
    from ._hyper import hyperfan_in as hyperfan_in
    from ._hyper import hyperfan_out as hyperfan_out
    from ._lora import lora as lora
    from ._lora import olora as olora
    from ._lora import pissa as pissa
    from ._mimetic import mimetic_attention as mimetic_attention
    from ._place import place_mimetic_attention as place_mimetic_attention
    from ._transformers import layer_scale as layer_scale
    from ._transformers import moe_router as moe_router
    from ._transformers import ngpt as ngpt
    from ._transformers import small_init as small_init
    from ._transformers import wang_init as wang_init
    from ._whitening import whitening_conv as whitening_conv

    # A whole tree by rules.
    from ._plan import Plan as Plan
    from ._plan import plan as plan

    # How the signal is in every layer.
    from ._compare import compare as compare
    from ._comparison import Comparison as Comparison
    from ._probe import probe as probe
    from ._probe_report import Report as Report

    # A network set from data.
    from ._autoinit import autoinit as autoinit
    from ._data_dependent import data_dependent as data_dependent
    from ._data_dependent import weight_norm_init as weight_norm_init
    from ._first_layer import whiten_first_layer as whiten_first_layer
    from ._gradinit import gradinit as gradinit
    from ._history import History as History
    from ._lsuv import lsuv as lsuv
    from ._metainit import metainit as metainit

    # Names and configurations.
    from ._registry import from_config as from_config
    from ._registry import get as get
    from ._registry import registry as registry
    from ._registry import to_config as to_config

    # Parameters that exist already.
    from ._renew import fill_missing as fill_missing
    from ._renew import perturb as perturb
    from ._weight_norm import weight_norm_scales as weight_norm_scales

    # Which initializer each leaf gets.
    from ._rules import Rule as Rule
    from ._rules import keep as keep

    # The article's schemes.
    from ._schemes import he as he
    from ._schemes import kaiming as kaiming
    from ._schemes import lecun as lecun
    from ._schemes import xavier as xavier

    # Kernels made of kernels: layers in a stack, fused projections.
    from ._stack import blocks as blocks
    from ._stack import stacked as stacked

    # JAX's names.
    from ._variance import glorot_normal as glorot_normal
    from ._variance import glorot_uniform as glorot_uniform
    from ._variance import he_normal as he_normal
    from ._variance import he_uniform as he_uniform
    from ._variance import kaiming_normal as kaiming_normal
    from ._variance import kaiming_uniform as kaiming_uniform
    from ._variance import lecun_normal as lecun_normal
    from ._variance import lecun_uniform as lecun_uniform
    from ._variance import variance_scaling as variance_scaling
    from ._variance import xavier_normal as xavier_normal
    from ._variance import xavier_uniform as xavier_uniform

    # Many seeds.
    from ._sweep import sweep as sweep

else:
    # `nnx` needs Flax, so `from jinit import *` leaves it out.
    __all__ = sorted({*_FILES, *_MODULES} - {"mup", "nnx"})

    def __getattr__(name):
        """Load a public name; from then on it is an attribute like any other."""
        if name in _MODULES:
            return _importlib.import_module(f".{name}", __name__)
        if name not in _FILES:
            raise AttributeError(_unknown(name))
        module = _importlib.import_module(f".{_FILES[name]}", __name__)
        # Two threads may both come here; they find and store the same object.
        return globals().setdefault(name, getattr(module, name))


def _unknown(name: str) -> str:
    message = f"module 'jinit' has no attribute {name!r}."
    # The import system asks for private names, and must not import anything meanwhile.
    if name.startswith("_"):
        return message
    from ._checks import did_you_mean

    if name in ("init", "inits", "initializers"):
        return f"{message} The initializers are in jinit itself: jinit.he_normal()."
    if name in _SYNONYMS:
        return f"{message} Did you mean {_SYNONYMS[name]}?"
    return message + did_you_mean(name, __dir__())


# Names that other libraries and papers use.
_SYNONYMS = {
    "glorot": "'xavier', 'glorot_normal' or 'glorot_uniform'",
    "msra": "'he', 'he_normal' or 'he_uniform'",
}


def __dir__() -> list[str]:
    dunders = [name for name in globals() if name.startswith("__")]
    return sorted({*dunders, *_FILES, *_MODULES})
