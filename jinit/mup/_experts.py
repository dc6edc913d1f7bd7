"""Experts and routers are classes of tensors: "expert" and "router".

The kernels of an expert are hidden, with the fans of one expert; the experts lie along
a batch axis, and more of them make none of them wider.

A router is an output: its logits sum over the width, and there is one for each expert.
With entries of size sigma at initialization and steps of size eta (Adam),

    W x is of size sqrt(n) sigma   and   dW x of size n eta,

since a step is aligned with its inputs and random weights are not. Both stay as the
width n grows with sigma = 1 / n and eta = 1 / n; W x then vanishes as the logits of a
readout do. No multiplier stands behind a router, so its weights take the factor.

Małaśnicki et al., "Mu-parametrization for mixture of experts", 2025, and Jiang et al.,
"Hyperparameter transfer with mixture-of-experts layers", 2026, have the same classes.
"""

from collections.abc import Sequence

from ._growth import EXPERT_CLASSES, ClassifiedTensor


def with_experts(
    tensors: Sequence[ClassifiedTensor], texts: Sequence[str | None]
) -> list[ClassifiedTensor]:
    """Name the experts and routers among tensors, and classify routers as outputs.

    Args:
      tensors: the tensors.
      texts: the classes or layouts that a user names, or None.
    """
    counts = {
        (tensor.base[axis], tensor.shape[axis])
        for tensor in tensors
        if "expert" in (tensor.roles or ())
        for axis, letter in enumerate(tensor.layout)
        if letter == "b"
    }
    return [
        _named(tensor, text, counts)
        for tensor, text in zip(tensors, texts, strict=True)
    ]


def _named(
    tensor: ClassifiedTensor, text: str | None, counts: set[tuple[int, int]]
) -> ClassifiedTensor:
    if text in EXPERT_CLASSES:
        return _as_router(tensor) if text == "router" else tensor._replace(moe="expert")
    roles = tensor.roles or frozenset()
    if "router" in roles and tensor.mup_class == "output" and not tensor.is_readout:
        return tensor._replace(moe="router")
    # More experts are more outputs of the router, and none of them has more inputs or
    # is summed with others, so that the router stays an output.
    if "router" in roles and tensor.mup_class == "hidden" and text is None:
        outputs = [axis for axis in tensor.axes if tensor.layout[axis] == "o"]
        pairs = {(tensor.base[axis], tensor.shape[axis]) for axis in outputs}
        return _as_router(tensor) if pairs <= counts else tensor
    if "expert" in roles and tensor.mup_class == "hidden":
        return tensor._replace(moe="expert")
    return tensor


def _as_router(tensor: ClassifiedTensor) -> ClassifiedTensor:
    return tensor._replace(moe="router", mup_class="output", is_readout=False)
