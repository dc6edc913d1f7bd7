"""A recipe is the rules for a whole network, which `jinit.plan` applies.

`print(recipes.gpt2())` shows the law of each role, and the official code that the laws
were read from. `recipes.names()` lists the recipes, and `recipes.get(name, **settings)`
makes one, for configuration files.

In the plan of a network, `jinit.plan(jinit.network(model, *arguments), rules)`, a
recipe reads the role and the layout of every parameter and the number of layers from
the model's equations, in every library and whatever the names are. `num_layers` may be
left out. The plan says below its table what the recipe found, such as "residual
outputs: 8 of 8 (4 layers x 2)". A missing role is an error or a warning.

In a plan from shapes alone a recipe knows the names of Flax's own modules and of the
usual ports (q_proj, wq, c_attn, fc1, ...). `stacked=True` is for models whose layers
are scanned, so that every kernel has an axis that counts the layers. Linen numbers
layers in the order in which they are made, which need not be the order in which they
run. So among Dense_0, Dense_1, ... of a module, a recipe finds the last layer of a
branch by the widths of its neighbours. Among layers of one width it takes the last. If
neither names nor widths decide, the error names the layers.

If there is something that a recipe does not find, pass a pattern, or a sequence of
patterns, for a role: `residual_outputs` (the last layers of the branches),
`embeddings`, `positions`, `readout`, `query`, `key`, `value`, `up`, `branches`,
`modulations` (adaptive norms), `conditioning` (what makes their input), `branch_norms`
(the last norms of the branches), `temperatures` and `logit_biases` (of contrastive
logits). Your patterns are added to what the recipe finds, and each must match a leaf.

Put your own rules before those of a recipe. If a recipe does not know a leaf, `plan`
raises an error that names the leaf.
"""

from typing import TYPE_CHECKING

from .._core.names import absent, publish
from ._big_vision import big_vision_vit
from ._contrastive import clip, siglip
from ._dit import dit
from ._hugging_face import from_hf_config
from ._hyper import hyper_connections
from ._inside import inside
from ._llama import deepseek_v3, llama3
from ._matches import Evidence, Match, Matches
from ._megatron import full_megatron
from ._nanochat import nanochat
from ._ngpt import ngpt
from ._olmo import olmo
from ._post_norm import deepnorm, t_fixup
from ._qwen import qwen3
from ._recipe import Law, Recipe, Source, get, names
from ._recurrent import griffin, xlstm
from ._residual import fixup
from ._resnet import resnet
from ._rwkv import rwkv7
from ._state_space import gated_deltanet, kda, mamba2
from ._t5 import t5
from ._torch import torch_defaults
from ._transformers import gpt2, small_init
from ._unet import unet
from ._vision import vit
from ._which import which

__all__ = [
    "Evidence",
    "Law",
    "Match",
    "Matches",
    "Recipe",
    "Source",
    "big_vision_vit",
    "clip",
    "deepnorm",
    "deepseek_v3",
    "dit",
    "fixup",
    "from_hf_config",
    "full_megatron",
    "gated_deltanet",
    "get",
    "gpt2",
    "griffin",
    "hyper_connections",
    "inside",
    "kda",
    "llama3",
    "mamba2",
    "names",
    "nanochat",
    "ngpt",
    "olmo",
    "qwen3",
    "resnet",
    "rwkv7",
    "siglip",
    "small_init",
    "t5",
    "t_fixup",
    "torch_defaults",
    "unet",
    "vit",
    "which",
    "xlstm",
]
__dir__ = __all__.copy  # for `dir`, which would show the imports too
if not TYPE_CHECKING:  # a type checker would take any name for an attribute
    __getattr__ = absent(__name__, __all__)
publish(__name__, *map(globals().get, __all__))
