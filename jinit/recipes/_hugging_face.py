"""The recipe `from_hf_config` starts a model as Hugging Face's library does."""

import math
from typing import Any, Unpack

from .._initializer.base import Initializer
from .._plan.model import Model
from .._plan.rules import FromTree, Rule
from .._schemes.constant import constant, zeros
from .._schemes.distributions import normal
from .._schemes.embedding import embedding
from .._schemes.fan_based import lecun
from ._depth import Depth
from ._ends import last_layers
from ._hf_config import (
    LIKE_GPT2,
    LIKE_MAMBA,
    LIKE_T5,
    LIKE_VIT,
    USED,
    ZERO_CENTERED,
    HfConfig,
    config_of,
    entries_of,
)
from ._hf_mamba import laws_of_mamba, rules_of_mamba
from ._index import Index, by_number
from ._language import truncated_at_2
from ._layouts import not_fused, refuse_fused, width_of_table, with_layout
from ._queries import queries
from ._recipe import NORMS_AND_BIASES, Law, Recipe, Source, recipe
from ._roles import (
    ATTENTION,
    WHOLE,
    Roles,
    Rules,
    in_role,
    kernels,
    others,
    role,
    the_rest,
)

_ROLES = (*ATTENTION, *WHOLE)


@recipe(
    use="models of Hugging Face's library, by their configuration",
    law=(
        "N(0, initializer_range^2), the padding row 0; branch ends of GPT-2 / "
        "sqrt(2 L); T5 N(0, 1 / fan_in); ViT truncated"
    ),
    sources=(
        Source("huggingface/transformers", "MIGRATION_GUIDE_V5.md", "e416b2c"),
        Source(
            "huggingface/transformers",
            "src/transformers/models/gpt2/modeling_gpt2.py",
            "0010f60",
        ),
        Source(
            "huggingface/transformers",
            "src/transformers/models/t5/modeling_t5.py",
            "6b8b757",
        ),
        Source(
            "huggingface/transformers",
            "src/transformers/models/vit/modeling_vit.py",
            "005db82",
        ),
        Source(
            "huggingface/transformers",
            "src/transformers/models/mamba/modeling_mamba.py",
            "00328d4",
        ),
    ),
    roles=_ROLES,
    example={"config": {"model_type": "llama", "initializer_range": 0.02}},
)
def from_hf_config(config: Any, **roles: Unpack[Roles]) -> Recipe:
    """Return the rules by which Hugging Face's library starts a configuration's model.

    Kernels and tables are N(0, initializer_range^2), the row of `pad_token_id` is 0 in
    the table of tokens (and of RoBERTa's positions), norms are 1 and biases 0. The
    types "gpt2" and "gpt_bigcode" divide the ends of branches by sqrt(2 n_layer). "t5",
    "mt5" and "umt5" have std = initializer_factor / sqrt(fan_in), queries / sqrt(d_kv),
    and tokens and readout of std initializer_factor. "vit" truncates at the numbers -2
    and 2. Norms of the types "gemma" multiply by 1 + w, and w is 0. "mamba" draws
    out_proj and conv1d from U(+-1 / sqrt(fan_in)), and the parameters of its state
    space by the entries "time_step_...".

    Args:
      config: a configuration of the library, as an object or as the dict of its
        config.json. Its `model_type`, or else its `architectures`, names the model.
      **roles: patterns of query, residual_outputs, embeddings and others.

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes. Its settings hold the entries of the
      configuration that the laws depend on.

    Raises:
      TypeError: if `config` is not a configuration, or a role is passed that the recipe
        has no use for.
      ValueError: if the architecture is unknown; the message has the nearest ones.

    Example:
      >>> import jax, jinit
      >>> config = {"model_type": "gpt2", "initializer_range": 0.02, "n_layer": 8}
      >>> out = {"h": {"c_proj": {"kernel": jax.numpy.ones((64, 64))}}}
      >>> (row,) = jinit.plan(out, jinit.recipes.from_hf_config(config)).rows
      >>> row["std"]
      0.005
    """
    entries = entries_of(config)
    known = config_of(entries)
    if known.model_type in LIKE_T5:
        rules, laws = _of_t5(known, roles), _laws_of_t5(known)
    elif known.model_type in LIKE_MAMBA:
        rules, laws = rules_of_mamba(known, roles, _ROLES), laws_of_mamba(known)
    elif known.model_type in LIKE_VIT:
        rules, laws = _of_vit(known, roles), _laws_of_vit(known)
    else:
        rules, laws = _common(known, roles), _common_laws(known)
    settings = {key: entries[key] for key in USED if entries.get(key) is not None}
    passed = {name: value for name, value in roles.items() if value is not None}
    return Recipe(rules, laws, settings={"config": settings} | passed)


def _common(config: HfConfig, roles: Roles) -> Rules:
    plain = normal(config.std)
    ends = others(roles, ("residual_outputs",), plain)
    if config.model_type in LIKE_GPT2:
        index = Index("from_hf_config", config.num_layers, False)
        depth = Depth("from_hf_config", config.num_layers)
        ends = last_layers(roles, by_number(index, plain), depth)
    norms: Rules = []
    if config.model_type in ZERO_CENTERED:
        norms = [Rule(in_role("scales"), zeros, optional=True)]
    table = _table(config)
    return [
        *ends,
        *role(roles, "positions", table),
        *role(roles, "embeddings", table),
        Rule(in_role("lookups"), table, optional=True),
        *others(roles, (*ATTENTION, "readout"), plain),
        *kernels(plain),
        *norms,
        *the_rest(),
    ]


def _common_laws(config: HfConfig) -> list[Law]:
    law = f"N(0, {config.std:g}^2)"
    padding = config.padding_row
    words = "all tables" if padding is None else f"all tables; row {padding} is 0"
    if config.model_type in LIKE_GPT2:
        words = "all tables"
    laws = [Law("kernels", law, "all"), Law("embeddings", law, words)]
    if config.model_type in LIKE_GPT2:
        end = Law("residual outputs", f"N(0, {config.std:g}^2 / (2 L))", "c_proj")
        laws = [end, *laws]
    if config.model_type in ZERO_CENTERED:
        return [*laws, Law("scales", "0", "norms, which add 1"), NORMS_AND_BIASES[1]]
    return [*laws, *NORMS_AND_BIASES]


def _table(config: HfConfig) -> Any:
    """Return the law of a table, with a padding row of 0 if it has one."""
    plain, padding = normal(config.std), config.padding_row
    if padding is None or config.model_type in LIKE_GPT2:
        return plain
    rows_of_tokens = config.vocabulary
    # As an index of PyTorch, -1 is the last row.
    if rows_of_tokens is not None and not -rows_of_tokens <= padding < rows_of_tokens:
        raise ValueError(
            f"`config` has the pad_token_id {padding}, and the table of tokens has "
            f"{rows_of_tokens} rows, by its vocab_size. Correct one of them, or set "
            "pad_token_id to None if no row is 0."
        )

    def law(path: str, leaf: Any) -> Initializer:
        if config.vocabulary is None:
            raise ValueError(
                f"`config` has the pad_token_id {padding} and no vocab_size, which "
                f"would tell whether {path!r} {tuple(leaf.shape)} is the table of "
                "tokens. Add its 'vocab_size'."
            )
        width = width_of_table(leaf)
        rows = math.prod(leaf.shape) // width
        if rows not in config.padded_tables:
            return plain
        if leaf.shape[-1] != width:
            raise ValueError(
                f"the table {path!r} {tuple(leaf.shape)} has its vectors on another "
                f"axis than the last, and the row {padding} of a padding token. Put a "
                "rule for it before the recipe's."
            )
        # The scheme has a std of 1 / sqrt(d).
        return config.std * math.sqrt(width) * embedding(padding)

    return law


def _of_t5(config: HfConfig, roles: Roles) -> Rules:
    factor = config.std

    def query(model: Model) -> Any:
        if config.head_dim is None:
            raise ValueError(
                f"`config` of the type {config.model_type!r} has no 'd_kv', the size "
                "of a head, by whose root T5 divides its queries. Add 'd_kv'."
            )
        gain = factor / math.sqrt(config.head_dim)
        return with_layout(lecun, False, "ioo", gain=gain).function(model)

    def relative(model: Model) -> Any:
        # The std counts d_model. A table of shape (buckets, heads) does not show it,
        # and a query does.
        net = model.network
        queries_ = (
            []
            if net is None
            else [p for p in net.parameters.values() if "query" in p.roles and p.fans]
        )
        width = max((p.fans.fan_in for p in queries_ if p.fans), default=None)
        if width is None:
            raise ValueError(
                "T5's relative positions have a std of 1 / sqrt(d_model), which shapes "
                "alone do not show. Make the plan from a Network."
            )
        return normal(factor / math.sqrt(width))

    def kernel(heads: str | None = None) -> FromTree:
        return with_layout(lecun, False, heads, gain=factor)

    return [
        *queries("from_hf_config", roles, FromTree(query)),
        Rule(in_role("fused"), refuse_fused, optional=True),
        *role(roles, "readout", normal(factor)),
        Rule(in_role("relative_positions"), FromTree(relative), optional=True),
        *role(roles, "embeddings", normal(factor)),
        *others(roles, ("positions",), normal(factor)),
        *others(roles, ("key", "value"), kernel("ioo")),
        *others(roles, ("residual_outputs",), kernel("iio")),
        *kernels(not_fused(kernel())),
        Rule(in_role("scales"), constant(factor), optional=True),
        *the_rest(),
    ]


def _laws_of_t5(config: HfConfig) -> list[Law]:
    factor = "" if config.std == 1 else f"{config.std:g}^2 "
    one = f"{config.std:g}"
    return [
        Law("query", f"N(0, {factor or '1 '}/ (fan_in d_kv))", "q"),
        Law("kernels", f"N(0, {factor or '1 '}/ fan_in)", "k, v, o, wi and wo"),
        Law("relative positions", f"N(0, {factor or '1 '}/ d)", "the biases of logits"),
        Law("embeddings", f"N(0, {one}^2)", "shared"),
        Law("readout", f"N(0, {one}^2)", "lm_head, unless it is tied"),
        Law("scales", one, "norms"),
    ]


def _of_vit(config: HfConfig, roles: Roles) -> Rules:
    plain = truncated_at_2(config.std)
    return [
        *role(roles, "positions", plain),
        Rule(in_role("class_tokens"), plain, optional=True),
        *others(roles, (*ATTENTION, *WHOLE), plain),
        *kernels(plain),
        *the_rest(),
    ]


def _laws_of_vit(config: HfConfig) -> list[Law]:
    law = f"TN(0, {config.std:g}^2), |w| <= 2"
    return [
        Law("kernels", law, "all, also the patches' convolution"),
        Law("positions", law, "the table of positions"),
        Law("class tokens", law, "the vector before the patches"),
        *NORMS_AND_BIASES,
    ]
