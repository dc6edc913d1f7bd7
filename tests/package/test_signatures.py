"""Signatures: a PRNG key is called `key` and comes first."""

import inspect

from tests.support.public import public_objects

TREE_FIRST = (
    "fill_missing", "perturb", "place_mimetic_attention", "weight_norm_init", "sweep",
)  # fmt: skip


def test_style_of_signatures():
    for name, value in public_objects():
        # A tree of parameters comes first in what changes one.
        if not callable(value) or inspect.isclass(value) or name in TREE_FIRST:
            continue
        names = list(inspect.signature(value).parameters)
        assert "rng" not in names, f"{name}: a PRNG key is called `key`"
        assert "key" not in names or names[0] == "key"
