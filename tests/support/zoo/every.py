"""All models of the zoo that need no other library, by name."""

from collections.abc import Callable

from tests.support.zoo import (
    bert,
    conditioning,
    convolutions,
    experts,
    gpt2,
    heads,
    in_nnx,
    kernels,
    llama,
    made_kernels,
    mixed,
    parallel,
    products,
    recurrent,
    resnet,
    shortcuts,
    solvers,
    state_space,
    streams,
    t5,
    unet,
    vision,
    weighing,
    wrapped,
)
from tests.support.zoo.truth import Model

FILES = (
    gpt2, llama, bert, t5, vision, resnet, unet,
    experts, state_space, recurrent, products,
    conditioning, convolutions, heads, in_nnx, streams,
    kernels, shortcuts, weighing, wrapped, mixed,
    made_kernels, parallel, solvers,
)  # fmt: skip


def models() -> dict[str, Callable[[], Model]]:
    """Return a function for each model, which makes its entry."""
    return {name: make for file in FILES for name, make in file.MODELS.items()}
