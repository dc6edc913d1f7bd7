"""The recipe `torch_defaults` starts a network as PyTorch's layers start themselves."""

import math
import re
from typing import Any, Unpack

from .._core.trees import Leaf
from .._initializer.base import Initializer
from .._plan.rules import FromTree, Rule
from .._scale.fans import Fans, fans
from .._schemes.constant import constant, zeros
from .._schemes.distributions import normal
from .._schemes.fan_based import xavier
from .._schemes.scaled_uniform import scaled_uniform
from ._layouts import layout
from ._roles import (
    ATTENTION,
    WHOLE,
    Roles,
    Rules,
    check,
    kernels,
    others,
    role,
    the_rest,
)

_TRANSPOSED = re.compile("conv_?transpose|deconv", re.I)
# The layers in each recurrent cell of Linen and NNX: some cells have one for each gate,
# others have packed layers.
_CELLS = (
    {"ii", "if", "ig", "io", "hi", "hf", "hg", "ho"},
    {"ii", "if_", "ig", "io", "hi", "hf", "hg", "ho"},
    {"ir", "iz", "in", "hr", "hz", "hn"},
    {"if", "in", "hf", "hn"},
    {"i", "h"},
    {"dense_i", "dense_h"},
)


def torch_defaults(
    num_layers: int | None = None, *, stacked: bool = False, **roles: Unpack[Roles]
) -> Rules:
    """Return rules that start every layer as PyTorch does by default.

    Kernels and biases of linear layers and convolutions are drawn from
    U(+-1 / sqrt(fan_in)), where a bias has the fan of the kernel beside it. Embeddings
    are N(0, 1). In an attention query, key and value are Xavier-uniform as one kernel
    of shape (d, 3 d), and biases are 0. Recurrent cells are U(+-1 / sqrt(hidden)).
    Norms have scale 1 and bias 0.

    Args:
      num_layers: the number of layers, which all recipes take. It changes nothing here.
      stacked: whether kernels have a first axis that counts layers.
      **roles: patterns of embeddings, query, key and value.

    Returns:
      A list of rules for `jinit.plan`.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.

    Example:
      >>> import jax, jinit
      >>> ones = jax.numpy.ones
      >>> shapes = {"fc": {"kernel": ones((64, 8)), "bias": ones(8)}}
      >>> rows = jinit.plan(shapes, jinit.recipes.torch_defaults()).rows
      >>> [round(row["std"] * 3**0.5, 3) for row in rows]
      [0.125, 0.125]

    References:
      Paszke et al., "PyTorch: an imperative style, high-performance deep learning
        library", NeurIPS 2019. The `reset_parameters` of its layers.
    """
    check("torch_defaults", roles, *ATTENTION, *WHOLE)

    def packed(leaves: list[Leaf]) -> Any:
        return _Neighbours(leaves, stacked).attention

    def kernel(leaves: list[Leaf]) -> Any:
        return _Neighbours(leaves, stacked).kernel

    def bias(leaves: list[Leaf]) -> Any:
        return _Neighbours(leaves, stacked).bias

    return [
        *(r for n in ATTENTION for r in role(roles, n).rules(FromTree(packed))),
        # torch.nn.Embedding draws from N(0, 1), whatever its width.
        *role(roles, "embeddings").rules(normal(1.0)),
        *others(roles, ("positions",), normal(1.0)),
        *others(roles, ("residual_outputs", "readout"), FromTree(kernel)),
        *kernels(FromTree(kernel)),
        Rule("**/bias", FromTree(bias), optional=True),
        # PReLU starts at 0.25 in PyTorch, and at 0.01 in Flax.
        Rule("**/negative_slope", constant(0.25), optional=True),
        *the_rest(),
    ]


def bias_of_window(
    path: str, shapes: dict[str, tuple[int, ...]], stacked: bool
) -> Initializer:
    """Return PyTorch's law for the bias of a convolution, and 0 for other biases."""
    kernel = path.removesuffix("bias") + "kernel"
    if kernel in shapes:
        letters = layout(kernel, shapes[kernel], stacked)
        if "k" in letters:
            return scaled_uniform(fan_in=fans(shapes[kernel], letters).fan_in)
    return zeros


class _Neighbours:
    """A _Neighbours knows the shapes of a tree, and gives each leaf PyTorch's law.

    The law of a leaf may depend on its neighbours: a bias has the fan of its kernel,
    and a kernel in a recurrent cell has the size of the cell.
    """

    def __init__(self, leaves: list[Leaf], stacked: bool) -> None:
        self.stacked = stacked
        self.shapes: dict[tuple[str, ...], tuple[int, ...]] = {
            x.parts: tuple(x.value.shape) for x in leaves
        }
        # A name may have "/" in it, so that splitting a path would not give its parts.
        self.parts = {x.path: x.parts for x in leaves}
        self.modules: dict[tuple[str, ...], set[str]] = {}
        for parts in self.shapes:
            if parts[-1:] == ("kernel",) and len(parts) > 1:
                self.modules.setdefault(parts[:-2], set()).add(parts[-2])

    def kernel(self, path: str, leaf: Any) -> Initializer:
        # With a layout the table of a plan shows both fans; with a number, only fan_in.
        letters = self._layout(self._parts(path))
        if letters is not None:
            return scaled_uniform(layout=letters)
        return scaled_uniform(fan_in=self._fan_in(self._parts(path)))

    def bias(self, path: str, leaf: Any) -> Initializer:
        parts = self._parts(path)
        if (*parts[:-1], "kernel") not in self.shapes:
            return zeros  # The bias of a norm has no kernel beside it.
        # torch.nn.MultiheadAttention sets the biases of all four layers to 0.
        if self._attends(parts) and parts[-2] in (*ATTENTION, "out"):
            return zeros
        return scaled_uniform(fan_in=self._fan_in((*parts[:-1], "kernel")))

    def attention(self, path: str, leaf: Any) -> Initializer:
        """Return Xavier's law, for the packed kernel if query, key and value fit.

        If all three read inputs of one width, PyTorch packs them into one kernel of
        shape (d, 3 d), whose fan_out counts three times.
        """
        parts = self._parts(path)
        fan_in, fan_out = self._fans(parts, "ioo")
        beside = [(*parts[:-2], name, "kernel") for name in ATTENTION]
        is_packed = all(
            self._fans(other, "ioo") == (fan_in, fan_out)
            for other in beside
            if other in self.shapes
        )
        # Xavier's variance 2 / (d + 3 d) is half of that of a square kernel.
        outputs = 3 * fan_out if is_packed else fan_out
        return xavier(distribution="uniform", fan_in=fan_in, fan_out=outputs)

    def _parts(self, path: str) -> tuple[str, ...]:
        return self.parts.get(path, tuple(path.split("/")))

    def _attends(self, parts: tuple[str, ...]) -> bool:
        return set(ATTENTION) <= self.modules.get(parts[:-2], set())

    def _fans(self, parts: tuple[str, ...], heads: str | None = None) -> Fans:
        shape = self.shapes[parts]
        return fans(shape, layout("/".join(parts), shape, self.stacked, heads))

    def _fan_in(self, parts: tuple[str, ...]) -> int:
        """Return n of U(+-1 / sqrt(n)): fan_in, or the hidden units of a cell."""
        shape = self.shapes[parts][self.stacked :]
        # torch.nn.RNNBase draws all its arrays from U(+-1 / sqrt(hidden)), those of the
        # inputs too.
        hidden = self._hidden(parts)
        if hidden is not None:
            return hidden
        if _TRANSPOSED.search(parts[-2]):
            # PyTorch stores such a kernel as (in, out, *window) and counts its fans as
            # of (out, in, *window), so that its fan_in is this kernel's fan_out.
            return math.prod(shape[:-2]) * shape[-1]
        # A bias has one entry for each output, so the quotient is the fan_in of any
        # kernel, also of one whose layout cannot be told by its name.
        bias = self.shapes.get((*parts[:-1], "bias"))
        if bias is not None and 0 not in shape:
            return math.prod(shape) // math.prod(bias[self.stacked :])
        return self._fans(parts).fan_in

    def _layout(self, parts: tuple[str, ...]) -> str | None:
        """Return the layout of a kernel, or None if the law takes another n."""
        shape = self.shapes[parts]
        if self._hidden(parts) is not None or _TRANSPOSED.search(parts[-2]):
            return None
        # There the bias tells the fan_in, and no layout has to be guessed.
        if (*parts[:-1], "bias") in self.shapes and len(shape) - self.stacked > 2:
            return None
        return layout("/".join(parts), shape, self.stacked)

    def _hidden(self, parts: tuple[str, ...]) -> int | None:
        """Return the hidden units of the recurrent cell of a kernel, or None."""
        names = self.modules.get(parts[:-2], set())
        for cell in _CELLS:
            if cell <= names and parts[-2] in cell:
                if "dense_h" not in cell:
                    return self.shapes[parts][-1]
                # A packed kernel has several gates along its last axis, so the units
                # are counted where dense_h reads the state.
                return self.shapes[(*parts[:-2], "dense_h", "kernel")][-2]
        return None
