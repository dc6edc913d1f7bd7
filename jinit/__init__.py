"""jinit: neural-network initialization for JAX.

An initializer is a value, called as `init(key, shape, dtype, out_sharding)`, like
those of `jax.nn.initializers`. In Flax: `nn.Dense(256, kernel_init=jinit.xavier())`.
"""

import importlib as _importlib
import threading as _threading
import typing as _typing

# Two threads may both be the first to use a name of jinit, and an import of JAX by two
# threads at once fails, so JAX is imported here.
import jax as _jax

__version__ = "0.2.0"

# Names are loaded when they are first used, so that `import jinit` costs next to
# nothing. Each group is a page of the reference: its caption, and the files with its
# names. The imports below say the same to type checkers and editors, and a test checks
# that the two agree.
_MODULES = ("mup", "nnx", "random", "recipes", "recurrent", "ssm", "theory")

_GROUPS = {
    "The value that all makers return": {
        "_initializer.base": "Initializer",
    },
    "The article's schemes": {
        "_schemes.fan_based": "he kaiming lecun xavier",
    },
    "JAX's variance scaling": {
        "_schemes.variance_scaling": "variance_scaling",
        "_schemes.variance_presets": (
            "glorot_normal glorot_uniform he_normal he_uniform kaiming_normal "
            "kaiming_uniform lecun_normal lecun_uniform xavier_normal xavier_uniform"
        ),
    },
    "Distributions with a given scale": {
        "_schemes.distributions": "normal uniform",
        "_schemes.truncated": "truncated_normal",
    },
    "Constants and given arrays": {
        "_schemes.constant": "constant from_array ones ones_init zeros zeros_init",
    },
    "Orthogonal kernels": {
        "_schemes.orthogonal.kernels": "delta_orthogonal orthogonal scaled_orthogonal",
        "_schemes.orthogonal.looks_linear": "looks_linear",
    },
    "Structured kernels": {
        "_schemes.hadamard": "hadamard zero_hadamard",
        "_schemes.structured": "dirac identity sparse",
    },
    "Embeddings, classifiers, PyTorch's layers": {
        "_schemes.classifier": "constant_bias_from_prior",
        "_schemes.embedding": "embedding",
        "_schemes.scaled_uniform": "scaled_uniform",
    },
    "Images, coordinates and sound": {
        "_schemes.coordinates": "fourier_features siren",
        "_schemes.positions": "sincos_positions",
        "_schemes.stft": "stft",
        "_schemes.upsampling": "bilinear icnr",
        "_schemes.whitening": "whitening_conv",
    },
    "Transformers": {
        "_plan.attention": "place_mimetic_attention",
        "_schemes.hyper_connections": "hyper_alpha",
        "_schemes.mimetic": "mimetic_attention",
        "_schemes.transformers": "layer_scale moe_router ngpt small_init wang_init",
    },
    "Adapters and hypernetworks": {
        "_schemes.adapters": "lora olora pissa",
        "_schemes.hypernetworks": "hyperfan_in hyperfan_out",
    },
    "The edge of chaos": {
        "_schemes.critical": "critical",
    },
    "Initializers made of initializers": {
        "_initializer.around": "padded torch_layout transposed with_dtype",
        "_initializer.stack": "blocks concat stacked",
        "_initializer.depth": "depth_scaled",
        "_initializer.foreign": "scaled",
        "_initializer.masked": "masked",
    },
    "Fans, gains and scales of depth": {
        "_scale.depth": "residual_scale",
        "_scale.fans": "Fans fans fans_from_einsum",
        "_scale.gains": "gain slope_at_zero",
    },
    "Names and configurations": {
        "_schemes.registry": "from_config get registry to_config",
    },
    "Plans: rules for a tree of parameters": {
        "_plan.plan": "Plan plan",
        "_plan.rules": "Rule keep",
        "_plan.update": "fill_missing perturb",
    },
    "Networks, read from their equations": {
        "_network.record": "Network network",
    },
    "Whole models, and many seeds": {
        "_materialize.materialize": "materialize",
        "_sweep": "sweep",
    },
    "Reports of the signal in every layer": {
        "_probe.audit.audit": "audit",
        "_probe.audit.report": "Audit",
        "_probe.compare": "compare",
        "_probe.comparison": "Comparison",
        "_probe.probe": "probe",
        "_probe.report": "Report",
    },
    "Training, watched": {
        "_watch.report": "WatchReport watched",
        "_watch.watch": "watch",
    },
    "Initialization from data": {
        "_from_data.autoinit": "autoinit",
        "_from_data.first_layer": "whiten_first_layer",
        "_from_data.gradinit": "gradinit",
        "_from_data.history": "History",
        "_from_data.lsuv": "lsuv",
        "_from_data.metainit": "metainit",
        "_from_data.unit_statistics": "data_dependent",
        "_from_data.weight_norm": "weight_norm_init weight_norm_scales",
    },
}

_FILES = {
    name: file
    for files in _GROUPS.values()
    for file, names in files.items()
    for name in names.split()
}

if _typing.TYPE_CHECKING:
    from . import mup as mup
    from . import nnx as nnx
    from . import random as random
    from . import recipes as recipes
    from . import recurrent as recurrent
    from . import ssm as ssm
    from . import theory as theory

    # The value that all makers return.
    from ._initializer.base import Initializer as Initializer

    # The article's schemes.
    from ._schemes.fan_based import he as he
    from ._schemes.fan_based import kaiming as kaiming
    from ._schemes.fan_based import lecun as lecun
    from ._schemes.fan_based import xavier as xavier

    # JAX's variance scaling.
    from ._schemes.variance_scaling import variance_scaling as variance_scaling
    from ._schemes.variance_presets import glorot_normal as glorot_normal
    from ._schemes.variance_presets import glorot_uniform as glorot_uniform
    from ._schemes.variance_presets import he_normal as he_normal
    from ._schemes.variance_presets import he_uniform as he_uniform
    from ._schemes.variance_presets import kaiming_normal as kaiming_normal
    from ._schemes.variance_presets import kaiming_uniform as kaiming_uniform
    from ._schemes.variance_presets import lecun_normal as lecun_normal
    from ._schemes.variance_presets import lecun_uniform as lecun_uniform
    from ._schemes.variance_presets import xavier_normal as xavier_normal
    from ._schemes.variance_presets import xavier_uniform as xavier_uniform

    # Distributions with a given scale.
    from ._schemes.distributions import normal as normal
    from ._schemes.distributions import uniform as uniform
    from ._schemes.truncated import truncated_normal as truncated_normal

    # Constants and given arrays.
    from ._schemes.constant import from_array as from_array
    from ._schemes.constant import constant as constant
    from ._schemes.constant import ones as ones
    from ._schemes.constant import ones_init as ones_init
    from ._schemes.constant import zeros as zeros
    from ._schemes.constant import zeros_init as zeros_init

    # Orthogonal kernels.
    from ._schemes.orthogonal.kernels import delta_orthogonal as delta_orthogonal
    from ._schemes.orthogonal.kernels import orthogonal as orthogonal
    from ._schemes.orthogonal.kernels import scaled_orthogonal as scaled_orthogonal
    from ._schemes.orthogonal.looks_linear import looks_linear as looks_linear

    # Structured kernels.
    from ._schemes.hadamard import hadamard as hadamard
    from ._schemes.hadamard import zero_hadamard as zero_hadamard
    from ._schemes.structured import dirac as dirac
    from ._schemes.structured import identity as identity
    from ._schemes.structured import sparse as sparse

    # Embeddings, classifiers, PyTorch's layers.
    from ._schemes.classifier import (
        constant_bias_from_prior as constant_bias_from_prior,
    )
    from ._schemes.embedding import embedding as embedding
    from ._schemes.scaled_uniform import scaled_uniform as scaled_uniform

    # Images, coordinates and sound.
    from ._schemes.coordinates import fourier_features as fourier_features
    from ._schemes.coordinates import siren as siren
    from ._schemes.positions import sincos_positions as sincos_positions
    from ._schemes.stft import stft as stft
    from ._schemes.upsampling import bilinear as bilinear
    from ._schemes.upsampling import icnr as icnr
    from ._schemes.whitening import whitening_conv as whitening_conv

    # Transformers.
    from ._plan.attention import place_mimetic_attention as place_mimetic_attention
    from ._schemes.hyper_connections import hyper_alpha as hyper_alpha
    from ._schemes.mimetic import mimetic_attention as mimetic_attention
    from ._schemes.transformers import layer_scale as layer_scale
    from ._schemes.transformers import moe_router as moe_router
    from ._schemes.transformers import ngpt as ngpt
    from ._schemes.transformers import small_init as small_init
    from ._schemes.transformers import wang_init as wang_init

    # Adapters and hypernetworks.
    from ._schemes.adapters import lora as lora
    from ._schemes.adapters import olora as olora
    from ._schemes.adapters import pissa as pissa
    from ._schemes.hypernetworks import hyperfan_in as hyperfan_in
    from ._schemes.hypernetworks import hyperfan_out as hyperfan_out

    # The edge of chaos.
    from ._schemes.critical import critical as critical

    # Initializers made of initializers.
    from ._initializer.around import padded as padded
    from ._initializer.around import torch_layout as torch_layout
    from ._initializer.around import transposed as transposed
    from ._initializer.around import with_dtype as with_dtype
    from ._initializer.stack import blocks as blocks
    from ._initializer.stack import stacked as stacked
    from ._initializer.stack import concat as concat
    from ._initializer.depth import depth_scaled as depth_scaled
    from ._initializer.masked import masked as masked
    from ._initializer.foreign import scaled as scaled

    # Fans, gains and scales of depth.
    from ._scale.depth import residual_scale as residual_scale
    from ._scale.fans import Fans as Fans
    from ._scale.fans import fans as fans
    from ._scale.fans import fans_from_einsum as fans_from_einsum
    from ._scale.gains import gain as gain
    from ._scale.gains import slope_at_zero as slope_at_zero

    # Names and configurations.
    from ._schemes.registry import from_config as from_config
    from ._schemes.registry import get as get
    from ._schemes.registry import registry as registry
    from ._schemes.registry import to_config as to_config

    # Plans: rules for a tree of parameters.
    from ._plan.plan import Plan as Plan
    from ._plan.plan import plan as plan
    from ._plan.rules import Rule as Rule
    from ._plan.rules import keep as keep
    from ._plan.update import fill_missing as fill_missing
    from ._plan.update import perturb as perturb

    # Networks, read from their equations.
    from ._network.record import Network as Network
    from ._network.record import network as network

    # Whole models, and many seeds.
    from ._materialize.materialize import materialize as materialize
    from ._sweep import sweep as sweep

    # Reports of the signal in every layer.
    from ._probe.audit.audit import audit as audit
    from ._probe.audit.report import Audit as Audit
    from ._probe.compare import compare as compare
    from ._probe.comparison import Comparison as Comparison
    from ._probe.probe import probe as probe
    from ._probe.report import Report as Report

    # Training, watched.
    from ._watch.report import WatchReport as WatchReport
    from ._watch.report import watched as watched
    from ._watch.watch import watch as watch

    # Initialization from data.
    from ._from_data.autoinit import autoinit as autoinit
    from ._from_data.first_layer import whiten_first_layer as whiten_first_layer
    from ._from_data.gradinit import gradinit as gradinit
    from ._from_data.history import History as History
    from ._from_data.lsuv import lsuv as lsuv
    from ._from_data.metainit import metainit as metainit
    from ._from_data.unit_statistics import data_dependent as data_dependent
    from ._from_data.weight_norm import weight_norm_init as weight_norm_init
    from ._from_data.weight_norm import weight_norm_scales as weight_norm_scales

else:
    # `nnx` needs Flax, so `from jinit import *` leaves it out.
    __all__ = sorted({*_FILES, *_MODULES} - {"mup", "nnx"})

    # Python's lock of a package and that of a module in it can wait for each other in
    # two threads, and one of them then sees a module that is half loaded.
    _LOADING = _threading.RLock()

    def _load(path):
        with _LOADING:
            return _importlib.import_module(f".{path}", __name__)

    def __getattr__(name):
        """Load a public name; from then on it is an attribute like any other."""
        if name in _MODULES:
            return _load(name)
        if name not in _FILES:
            raise AttributeError(_unknown(name))
        value = getattr(_load(_FILES[name]), name)
        names = _load("_core.names")
        names.publish(__name__, value)
        # Two threads may both come here; they find and store the same object.
        return globals().setdefault(name, value)


def _unknown(name: str) -> str:
    message = f"module 'jinit' has no attribute {name!r}."
    # The import system asks for private names such as __path__. It must not start
    # another import meanwhile.
    if name.startswith("_"):
        return message
    from ._core.names import did_you_mean

    if name in ("init", "inits", "initializers"):
        return f"{message} The initializers are in jinit itself: jinit.he_normal()."
    if name in _SYNONYMS:
        return f"{message} Did you mean {_SYNONYMS[name]}?"
    return message + did_you_mean(name, __dir__())


# Names that other libraries and papers use.
_SYNONYMS = {
    "glorot": "'xavier', 'glorot_normal' or 'glorot_uniform'",
    "msra": "'he', 'he_normal' or 'he_uniform'",
    "calculate_gain": "'gain'",
    "eye": "'identity'",
    "eye_": "'identity'",
}


def __dir__() -> list[str]:
    dunders = [name for name in globals() if name.startswith("__")]
    return sorted({*dunders, *_FILES, *_MODULES})
