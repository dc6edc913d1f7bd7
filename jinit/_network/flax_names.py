"""This file lists the names that people give to layers, for plans of shapes alone.

A network is read from its equations, and needs no names. Shapes alone have nothing
else. The names are those of Flax's own modules, and of the usual ports and code bases:
query, key, value, out; q_proj to o_proj; q, k, v, o; wq to wo; c_attn and c_proj; qkv
and proj; in_proj and out_proj; fc1 and fc2; w1, w2, w3; wi_0, wi_1, wo; gate_proj,
up_proj, down_proj; Dense_0 and Dense_1.
"""

import re


class Names:
    """A Names is a set of names, given by regular expressions; case does not matter."""

    def __init__(self, *expressions: str) -> None:
        self._expression = re.compile("|".join(expressions), re.I)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._expression.fullmatch(name) is not None


def _of_attention(*words: str) -> str:
    """Return the expression for q, q_proj, wq, to_q, attn_q, query_dense and so on."""
    word = "|".join(words)
    before = "(to_|attn_|self_attn_|attention_|cross_|w_?)?"
    return f"{before}({word})(_?(proj|projection|dense|linear|lin|layer))?"


QUERY = Names(_of_attention("q", "query", "queries"))
KEY = Names(_of_attention("k", "key", "keys"))
VALUE = Names(_of_attention("v", "value", "values"))
# A layer with such a name holds the kernels of queries, keys and values in one, or
# those of keys and values.
FUSED = Names(
    _of_attention("qkv", "kv", "query_key_value", "key_value"),
    "in_proj",
    "c_attn",
)
# With three axes the kernels of these layers are (d, heads, head_dim).
INTO_HEADS = Names(*(names._expression.pattern for names in (QUERY, KEY, VALUE, FUSED)))
# In an attention these layers write to the stream. With three axes their kernels are
# (heads, head_dim, d).
OUT_OF_HEADS = Names(_of_attention("o", "out", "output"), "c_proj", "proj")
# The last layer of a branch has one of these names, wherever it stands.
LAST = Names(
    "out", "(linear|lin|fc)_?2", "(fc|mlp|linear)_?out", "w?_?down(_proj)?",
    "c_proj", "(o|out|output)_proj", "w_?o(ut)?", "dense_4h_to_h",
)  # fmt: skip
# Layers in a branch before its last one.
INNER = Names(
    "(w?_?(up|gate)|gate_up)(_proj)?", "w_?i(_[01])?", "w_?in", "w_?[13]", "c_fc",
    "(linear|lin|fc)_?1", "(fc|mlp|linear)_?in", "dense_h_to_4h", "intermediate",
)  # fmt: skip
# The names of the two layers of a gated unit: first the layer without the activation,
# then the layer that must stand beside it.
UPS = (("w_?up(_proj)?", "w_?gate(_proj)?"), ("up(_proj)?", "gate(_proj)?"),
       ("w_?3", "w_?1"), ("w_?i_1", "w_?i_0"))  # fmt: skip
# A layer with such a name holds both halves of a gated unit.
FUSED_UNITS = Names("(w_?)?gate_up(_proj)?")
HEADS = Names("(lm_)?head", "readout", "classifier", "unembed(ding)?", "logits")
# A layer with such a name lies in a block, but in no branch: it is on the shortcut.
SHORTCUTS = re.compile("shortcut|downsample|conv_proj|skip|stem", re.I)
# A layer outside of all branches has such a name.
END = re.compile(r"^(Dense|Conv|DenseGeneral)_\d+$|emb|patch|stem|input|output", re.I)
NUMBERED = re.compile(r"(Dense|Conv)_(\d+)")
