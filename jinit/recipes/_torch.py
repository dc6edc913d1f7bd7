"""The recipes that come from PyTorch: its layers' defaults, and timm's transformer."""

import math
import re
from typing import Any, Unpack

from .._core.trees import Leaf
from .._initializer.base import Initializer
from .._plan.rules import OfTree, Rule
from .._scale.fans import Fans, fans
from .._schemes.constant import constant, zeros
from .._schemes.distributions import normal
from .._schemes.fan_based import xavier
from .._schemes.scaled_uniform import scaled_uniform
from . import _layouts
from ._roles import ATTENTION, WHOLE, Roles, check, kernels, others, role, the_rest

Rules = list[Rule]
_TRANSPOSED = re.compile("conv_?transpose|deconv", re.I)
# The layers of Linen's and NNX's recurrent cells: one for each gate, or packed ones.
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
    """What PyTorch's layers do by default.

    Linear and convolution: kernel and bias U(+-1 / sqrt(fan_in)); a bias has the fan of
    the kernel beside it. Embedding: N(0, 1). Attention: query, key and value
    Xavier-uniform as one kernel, (d, 3 d), and biases 0. Recurrent cells: U(+-1 /
    sqrt(hidden)). Norms: 1 and 0.

    Args:
      num_layers: not used; depth does not enter.
      stacked: whether kernels have a first axis that counts layers.
      **roles: patterns; embeddings, query, key and value are used.

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
        *(r for n in ATTENTION for r in role(roles, n).rules(OfTree(packed))),
        *role(roles, "embeddings").rules(normal(1.0)),
        *others(roles, ("positions",), normal(1.0)),
        *others(roles, ("residual_outputs", "readout"), OfTree(kernel)),
        *kernels(OfTree(kernel)),
        Rule("**/bias", OfTree(bias), optional=True),
        Rule("**/negative_slope", constant(0.25), optional=True),
        *the_rest(),
    ]


def bias_of_window(
    path: str, shapes: dict[str, tuple[int, ...]], stacked: bool
) -> Initializer:
    """Torch's law for the bias of a convolution; 0 for others."""
    kernel = path.removesuffix("bias") + "kernel"
    if kernel in shapes:
        found = _layouts.layout(kernel, shapes[kernel], stacked)
        if "k" in found:
            return scaled_uniform(fan_in=fans(shapes[kernel], found).fan_in)
    return zeros


class _Neighbours:
    """A tree's kernels, for laws that hang on what lies beside a leaf."""

    def __init__(self, leaves: list[Leaf], stacked: bool):
        self.stacked = stacked
        self.shapes = {x.parts: tuple(x.value.shape) for x in leaves}
        self.parts = {x.path: x.parts for x in leaves}
        self.modules: dict[tuple[str, ...], set[str]] = {}
        for parts in self.shapes:
            if parts[-1:] == ("kernel",) and len(parts) > 1:
                self.modules.setdefault(parts[:-2], set()).add(parts[-2])

    def kernel(self, path: str, leaf: Any) -> Initializer:
        found = self._layout(self._parts(path))
        if found is not None:
            return scaled_uniform(layout=found)
        return scaled_uniform(fan_in=self._fan_in(self._parts(path)))

    def bias(self, path: str, leaf: Any) -> Initializer:
        parts = self._parts(path)
        if (*parts[:-1], "kernel") not in self.shapes:
            return zeros  # a norm's
        if self._attends(parts) and parts[-2] in (*ATTENTION, "out"):
            return zeros
        return scaled_uniform(fan_in=self._fan_in((*parts[:-1], "kernel")))

    def attention(self, path: str, leaf: Any) -> Initializer:
        """Xavier's law, of the packed kernel where all three read the same width."""
        parts = self._parts(path)
        own = self._fans(parts, "ioo")
        beside = [(*parts[:-2], name, "kernel") for name in ATTENTION]
        alike = all(self._fans(p, "ioo") == own for p in beside if p in self.shapes)
        outputs = 3 * own.fan_out if alike else own.fan_out
        return xavier(distribution="uniform", fan_in=own.fan_in, fan_out=outputs)

    def _parts(self, path: str) -> tuple[str, ...]:
        return self.parts.get(path, tuple(path.split("/")))

    def _attends(self, parts: tuple[str, ...]) -> bool:
        return set(ATTENTION) <= self.modules.get(parts[:-2], set())

    def _fans(self, parts: tuple[str, ...], heads: str | None = None) -> Fans:
        shape = self.shapes[parts]
        return fans(shape, _layouts.layout("/".join(parts), shape, self.stacked, heads))

    def _fan_in(self, parts: tuple[str, ...]) -> int:
        """The number under the root: of a cell the hidden units, as in torch."""
        shape = self.shapes[parts][self.stacked :]
        hidden = self._hidden(parts)
        if hidden is not None:
            return hidden
        if _TRANSPOSED.search(parts[-2]):
            # Torch keeps such a kernel as (in, out, *window), and reads it as any.
            return math.prod(shape[:-2]) * shape[-1]
        bias = self.shapes.get((*parts[:-1], "bias"))
        if bias is not None and math.prod(shape):
            return math.prod(shape) // math.prod(bias[self.stacked :])
        return self._fans(parts).fan_in

    def _layout(self, parts: tuple[str, ...]) -> str | None:
        """The layout of a kernel, if its fan_in is the number under the root."""
        shape = self.shapes[parts]
        if self._hidden(parts) is not None or _TRANSPOSED.search(parts[-2]):
            return None
        if (*parts[:-1], "bias") in self.shapes and len(shape) - self.stacked > 2:
            return None
        return _layouts.layout("/".join(parts), shape, self.stacked)

    def _hidden(self, parts: tuple[str, ...]) -> int | None:
        """The hidden units of the recurrent cell that a kernel belongs to."""
        names = self.modules.get(parts[:-2], set())
        for cell in _CELLS:
            if cell <= names and parts[-2] in cell:
                if "dense_h" not in cell:
                    return self.shapes[parts][-1]
                return self.shapes[(*parts[:-2], "dense_h", "kernel")][-2]
        return None
