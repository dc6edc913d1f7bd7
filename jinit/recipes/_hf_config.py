"""A configuration of Hugging Face's library says which model it describes."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from .._core import checks
from .._core.names import did_you_mean

# The model types that follow `PreTrainedModel._init_weights` without an exception.
COMMON = (
    "albert", "bart", "bert", "bloom", "cohere", "deepseek_v3", "distilbert", "electra",
    "falcon", "gpt_neo", "gpt_neox", "gptj", "granite", "llama", "mbart", "mistral",
    "mixtral", "olmo", "olmo2", "olmoe", "opt", "phi", "phi3", "qwen2", "qwen2_moe",
    "qwen3", "qwen3_moe", "roberta", "smollm3", "stablelm", "starcoder2", "xlm_roberta",
)  # fmt: skip
# Their norms multiply by 1 + w, so w starts at 0.
ZERO_CENTERED = ("gemma", "gemma2", "gemma3_text")
LIKE_GPT2 = ("gpt2", "gpt_bigcode")
LIKE_T5 = ("mt5", "t5", "umt5")
LIKE_VIT = ("vit",)
LIKE_MAMBA = ("mamba",)
# Their table of positions has a padding row, too.
LIKE_ROBERTA = ("roberta", "xlm_roberta")
# Their recurrent parameters have laws that a configuration does not hold.
STATE_SPACE = ("falcon_mamba", "jamba", "mamba2", "recurrent_gemma", "rwkv")
_TYPES = tuple(
    sorted((*COMMON, *ZERO_CENTERED, *LIKE_GPT2, *LIKE_T5, *LIKE_VIT, *LIKE_MAMBA))
)

_STEPS = ("time_step_min", "time_step_max", "time_step_floor")
# In this order the library looks for the std of its kernels.
_STDS = ("initializer_range", "init_std", "initializer_factor")
_DEFAULT_STD = 0.02
# The end of an architecture's name, such as "ForCausalLM", is not the model's name.
_TASK = re.compile(r"(For[A-Z]|LMHead|DoubleHeads|Encoder|Decoder|Model|PreTrained).*")

# The entries that any of the laws depends on.
USED = (
    "model_type", "architectures", *_STDS, "num_hidden_layers", "n_layer",
    "pad_token_id", "vocab_size", "max_position_embeddings", "d_kv", *_STEPS,
    "time_step_scale", "time_step_init_scheme", "rescale_prenorm_residual",
)  # fmt: skip


class HfConfig(NamedTuple):
    """A HfConfig has the entries of a configuration that the laws depend on."""

    model_type: str
    std: float
    num_layers: int | None
    padding_row: int | None
    vocabulary: int | None
    positions: int | None
    head_dim: int | None
    # Mamba's least and largest time step, and the floor under them.
    steps: tuple[float, float, float]
    step_scale: float
    steps_are_random: bool
    rescales: bool

    @property
    def padded_tables(self) -> set[int | None]:
        """Return the numbers of rows of the tables that have a padding row."""
        tables = {self.vocabulary}
        return tables | {self.positions} if self.model_type in LIKE_ROBERTA else tables


def entries_of(config: Any) -> dict[str, Any]:
    """Return the entries of a configuration as a dict.

    Raises:
      TypeError: if `config` is not a configuration.
    """
    if isinstance(config, Mapping):
        entries = dict(config)
    elif callable(getattr(config, "to_dict", None)):
        entries = dict(config.to_dict())
    else:
        names = (key for key in USED if hasattr(config, key))
        entries = {key: getattr(config, key) for key in names}
    if not entries.get("model_type") and not entries.get("architectures"):
        raise TypeError(
            f"`config` is {config!r}, with neither 'model_type' nor 'architectures'; "
            "it must be a configuration of Hugging Face's library, or the dict of its "
            "config.json."
        )
    return entries


def config_of(entries: Mapping[str, Any]) -> HfConfig:
    model_type = _model_type(entries)
    name = next((name for name in _STDS if entries.get(name) is not None), None)
    default = 1.0 if model_type in LIKE_T5 else _DEFAULT_STD
    # Mamba's own default is larger than that of all other models.
    default = 0.1 if model_type in LIKE_MAMBA else default
    if model_type in LIKE_T5:
        name = "initializer_factor" if entries.get("initializer_factor") else None
    # The library takes an `initializer_range` of 0 for a missing one.
    std = default if name is None else entries[name] or default
    numbers = {
        key: entries.get(key)
        for key in (
            "num_hidden_layers",
            "n_layer",
            "vocab_size",
            "max_position_embeddings",
            "d_kv",
        )
    }
    counts = {key: checks.count(key, value) for key, value in numbers.items()}
    padding = entries.get("pad_token_id")
    return HfConfig(
        model_type,
        float(checks.number(name or "initializer_range", std, minimum=0.0)),
        counts["num_hidden_layers"] or counts["n_layer"],
        None if padding is None else checks.integer("pad_token_id", padding),
        counts["vocab_size"],
        counts["max_position_embeddings"],
        counts["d_kv"],
        (
            _number(entries, "time_step_min", 1e-3),
            _number(entries, "time_step_max", 0.1),
            _number(entries, "time_step_floor", 1e-4),
        ),
        _number(entries, "time_step_scale", 1.0),
        checks.choice(
            "time_step_init_scheme",
            entries.get("time_step_init_scheme") or "random",
            ("random", "constant"),
        )
        == "random",
        bool(entries.get("rescale_prenorm_residual")),
    )


def _number(entries: Mapping[str, Any], key: str, default: float) -> float:
    value = entries.get(key)
    number = default if value is None else value
    return float(checks.number(key, number, minimum=0.0))


def _model_type(entries: Mapping[str, Any]) -> str:
    """Return the type of the model, by its name or by that of an architecture.

    Raises:
      ValueError: if the type is unknown.
    """
    named = str(entries.get("model_type") or "")
    if not named:
        # "GPTNeoXForCausalLM" is the model type "gpt_neox".
        several = entries["architectures"]
        first = several if isinstance(several, str) else several[0]
        named = _TASK.sub("", str(first)).lower()
    for known in _TYPES:
        if _bare(named) == _bare(known):
            return known
    if _bare(named) in map(_bare, STATE_SPACE):
        raise ValueError(
            f"`config` is of the architecture {named!r}, whose recurrent parameters "
            "have laws that are not in its configuration. Take the recipe of this "
            "architecture, one of recipes.names()."
        )
    raise ValueError(
        f"`config` is of the architecture {named!r}, whose start is not known here."
        f"{did_you_mean(_bare(named), _TYPES)} Known are {', '.join(_TYPES)}. For a "
        "model that follows the common scheme, N(0, initializer_range^2), pass a "
        "configuration with the model_type 'llama'."
    )


def _bare(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()
