"""These are the names that people give to layers and parameters in Flax models."""

import re

# The last layer of a branch has one of these names.
LAST = (
    "out", "linear2", "fc2", "down", "down_proj", "c_proj", "out_proj", "o_proj", "wo",
    "linear_out", "mlp_out",
)  # fmt: skip
HEADS = ("head", "lm_head", "readout", "classifier", "unembed", "logits")
# A layer with such a name lies in a block, but in no branch: it is on the shortcut.
SHORTCUTS = re.compile("shortcut|downsample|conv_proj|skip|stem", re.I)
# A layer outside of all branches has such a name.
END = re.compile(r"^(Dense|Conv|DenseGeneral)_\d+$|emb|patch|stem|input|output", re.I)
NUMBERED = re.compile(r"(Dense|Conv)_(\d+)")

FUSED = ("qkv", "in_proj", "c_attn", "qkv_proj", "to_qkv")
INTO_HEADS = (
    "query", "key", "value", "q", "k", "v", "q_proj", "k_proj", "v_proj", "wq", "wk",
    "wv", *FUSED,
)  # fmt: skip
OUT_OF_HEADS = ("out", "o", "o_proj", "out_proj", "c_proj", "wo")
