"""Deep networks of GELU and SiLU get advice from benchmarks/activations.py.

A scheme that is derived for an activation is not always the one that trains best: after
20 layers two inputs look more alike from kaiming("gelu") than from he().
"""

import math

from .._network.record import Network

_NAMES = {"gelu": "gelu", "gelu_exact": "gelu", "silu": "silu"}
_BEST = {
    "gelu": ("he()", "orthogonal(gain('gelu'))", "lsuv()"),
    "silu": ("he()", "lsuv()"),
}
_TRAILING = {
    "gelu": "kaiming('gelu') and data_dependent() trailed",
    "silu": "data_dependent(), kaiming('silu') and orthogonal(gain('silu')) trailed",
}
# A network of fewer layers learns from any of the schemes.
_DEEP = 5
# he() multiplies the rms of a layer's input by sqrt(2), up to this relative error.
_HE, _NEAR = math.sqrt(2), 0.1


def cure(activation: object, gain: float) -> str | None:
    """Return the advice for layers of an activation, or None if there is none.

    Args:
      activation: the name of the activation.
      gain: the rms behind the layers over the rms before them.
    """
    name = _NAMES.get(str(activation))
    if name is None:
        return None
    if abs(gain / _HE - 1) < _NEAR:
        return (
            "Try lsuv(), which gives each output a std of 1. The gain here, "
            f"{gain:.3g}, is near that of he(), 1.41: on digits, 20 {name} layers "
            "without norms "
            f"trained about as well from he() as from lsuv(), and {_TRAILING[name]}."
        )
    return (
        f"Try {_listed(_BEST[name], 'or')}: on digits, 20 {name} layers without norms "
        f"trained best from these, in this order, and {_TRAILING[name]}. The gain is "
        f"{gain:.3g} here."
    )


def note_of(net: Network) -> str | None:
    """Return a note on the best starts of a deep network of GELU or SiLU, or None."""
    is_normed = any("scale" in one.roles for one in net.parameters.values())
    names = [_NAMES.get(str(layer.activation)) for layer in net.layers]
    name = next(filter(None, names), None)
    if name is None or names.count(name) < _DEEP or is_normed or net.branches:
        return None
    return (
        f"after 100 steps on digits, 20 {name} layers without norms had learned most "
        f"from {_listed(_BEST[name], 'and')}, in this order; {_TRAILING[name]}."
    )


def _listed(schemes: tuple[str, ...], word: str) -> str:
    return f"{', '.join(schemes[:-1])} {word} {schemes[-1]}"
