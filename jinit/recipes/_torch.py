"""The recipe `torch_defaults` starts a network as PyTorch's layers start themselves."""

import math
import re
from typing import Any, Unpack

from .._core.papers import PASZKE_2019
from .._initializer.base import Initializer
from .._network.flax_names import KEY, OUT_OF_HEADS, QUERY, VALUE
from .._plan.model import Model
from .._plan.rules import FromTree, Rule
from .._scale.fans import Fans
from .._schemes.constant import constant, zeros
from .._schemes.distributions import normal
from .._schemes.fan_based import xavier
from .._schemes.scaled_uniform import scaled_uniform
from ._laws_of_torch import LawsOfTorch
from ._layouts import Layouts, without_axis
from ._recipe import Law, Recipe, Source, recipe
from ._roles import (
    ATTENTION,
    WHOLE,
    Roles,
    in_role,
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


_ATTENTION = (QUERY, KEY, VALUE)


def _reads_heads(name: str) -> bool:
    return any(name in kind for kind in _ATTENTION)


def _is_of_attention(name: str) -> bool:
    return _reads_heads(name) or name in OUT_OF_HEADS


@recipe(
    use="any network, as PyTorch's layers start by default",
    law="U(+-1 / sqrt(fan_in)), biases too; embeddings N(0, 1); attention Xavier",
    sources=(
        Source("pytorch/pytorch", "torch/nn/modules/linear.py", "f2889c8"),
        PASZKE_2019,
    ),
    roles=(*ATTENTION, *WHOLE),
)
def torch_defaults(
    num_layers: int | None = None, *, stacked: bool = False, **roles: Unpack[Roles]
) -> Recipe:
    """Return rules that start every layer as PyTorch does by default.

    Kernels and biases of linear layers and convolutions are drawn from
    U(+-1 / sqrt(fan_in)), where a bias has the fan of the kernel beside it. Embeddings
    are N(0, 1). In an attention query, key and value are Xavier-uniform as one kernel
    of shape (d, 3 d), and biases are 0. Recurrent cells are U(+-1 / sqrt(hidden)).
    Norms have scale 1 and bias 0.

    Args:
      num_layers: the number of layers, which all recipes take. It changes nothing here.
      stacked: whether kernels have an axis that counts layers, the first or the
        second. In the plan of a network this is read.
      **roles: patterns of embeddings, query, key and value.

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.

    Example:
      >>> import jax, jinit
      >>> ones = jax.numpy.ones
      >>> shapes = {"fc": {"kernel": ones((64, 8)), "bias": ones(8)}}
      >>> rows = jinit.plan(shapes, jinit.recipes.torch_defaults()).rows
      >>> [round(row["std"] * 3**0.5, 3) for row in rows]
      [0.125, 0.125]

      In the plan of a network, roles and layouts are read from the equations:

      >>> model = lambda p, x: jax.nn.relu(x @ p["up"].T + p["bias"]) @ p["down"].T
      >>> params = {"up": ones((64, 16)), "bias": ones((1, 64)), "down": ones((16, 64))}
      >>> net = jinit.network(model, params, ones((2, 16)))
      >>> rows = jinit.plan(net, jinit.recipes.torch_defaults()).rows
      >>> {row["path"]: round(row["std"] * 3**0.5, 3) for row in rows}
      {'bias': 0.25, 'down': 0.125, 'up': 0.25}

    References:
      Paszke et al., "PyTorch: an imperative style, high-performance deep learning
        library", NeurIPS 2019. The `reset_parameters` of its layers.
    """

    def law(name: str) -> FromTree:
        def of(model: Model) -> Any:
            if model.network is not None:
                return getattr(LawsOfTorch(model.network), name)
            return getattr(_Neighbours(model, stacked, num_layers), name)

        return FromTree(of)

    laws = [
        Law("kernels", "U(+-1 / sqrt(fan_in))", "linear layers and convolutions"),
        Law("biases", "U(+-1 / sqrt(fan_in))", "with the fan of the layer's kernel"),
        Law("query, key, value", "U, variance 2 / (d + 3 d)", "packed in one kernel"),
        Law("recurrent", "U(+-1 / sqrt(hidden))", "all kernels and biases of cells"),
        Law("embeddings", "N(0, 1)", "all tables"),
        Law("scales", "1", "norms, whose biases are 0"),
    ]
    rules = [
        *(rule for name in ATTENTION for rule in role(roles, name, law("attention"))),
        # torch.nn.Embedding draws from N(0, 1), whatever its width.
        *role(roles, "embeddings", normal(1.0)),
        *others(roles, ("positions",), normal(1.0)),
        Rule(in_role("lookups"), normal(1.0), optional=True),
        *others(roles, ("residual_outputs", "readout"), law("kernel")),
        *kernels(law("kernel")),
        Rule(in_role("biases_of_layers"), law("bias"), optional=True),
        # PReLU starts at 0.25 in PyTorch, and at 0.01 in Flax.
        Rule(_slopes(), constant(0.25), optional=True),
        *the_rest(),
    ]
    return Recipe(rules, laws)


def _slopes() -> FromTree:
    # A network does not say which parameters are slopes.
    return FromTree(lambda m: () if m.network else "**/negative_slope")


def biases_of_windows(stacked: bool, num_layers: int | None) -> FromTree:
    """Return PyTorch's law for the biases of convolutions, and 0 for other biases."""

    def of(model: Model) -> Any:
        if model.network is not None:
            return LawsOfTorch(model.network).bias_of_window
        layouts = Layouts(model, stacked, num_layers)

        def bias(path: str, _leaf: Any) -> Initializer:
            kernel = path.removesuffix("bias") + "kernel"
            if kernel in layouts.leaves and "k" in layouts.of(kernel):
                return scaled_uniform(fan_in=layouts.fans(kernel).fan_in)
            return zeros

        return bias

    return FromTree(of)


class _Neighbours:
    """A _Neighbours knows the shapes of a tree, and gives each leaf PyTorch's law.

    The law of a leaf may depend on its neighbours: a bias has the fan of its kernel,
    and a kernel in a recurrent cell has the size of the cell.
    """

    def __init__(self, model: Model, stacked: bool, num_layers: int | None) -> None:
        self.layouts = Layouts(model, stacked, num_layers)
        self.shapes = self.layouts.shapes
        # A name may have "/" in it, so that splitting a path would not give its parts.
        self.parts = {x.path: x.parts for x in model.leaves}
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
        if self._attends(parts) and _is_of_attention(parts[-2]):
            return zeros
        return scaled_uniform(fan_in=self._fan_in((*parts[:-1], "kernel")))

    def attention(self, path: str, leaf: Any) -> Initializer:
        """Return Xavier's law, for the packed kernel if query, key and value fit.

        If all three read inputs of one width, PyTorch packs them into one kernel of
        shape (d, 3 d), whose fan_out counts three times.
        """
        parts = self._parts(path)
        fan_in, fan_out = self._fans(parts, "ioo")
        names = self.modules.get(parts[:-2], set())
        is_packed = all(
            self._fans((*parts[:-2], name, "kernel"), "ioo") == (fan_in, fan_out)
            for name in names
            if _reads_heads(name)
        )
        # Xavier's variance 2 / (d + 3 d) is half of that of a square kernel.
        outputs = 3 * fan_out if is_packed else fan_out
        return xavier(distribution="uniform", fan_in=fan_in, fan_out=outputs)

    def _parts(self, path: str) -> tuple[str, ...]:
        return self.parts.get(path, tuple(path.split("/")))

    def _attends(self, parts: tuple[str, ...]) -> bool:
        names = self.modules.get(parts[:-2], set())
        return all(any(name in kind for name in names) for kind in _ATTENTION)

    def _fans(self, parts: tuple[str, ...], heads: str | None = None) -> Fans:
        return self.layouts.fans("/".join(parts), heads)

    def _fan_in(self, parts: tuple[str, ...]) -> int:
        """Return n of U(+-1 / sqrt(n)): fan_in, or the hidden units of a cell."""
        axis = self.layouts.axis("/".join(parts))
        shape = without_axis(self.shapes[parts], axis)
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
            return math.prod(shape) // math.prod(without_axis(bias, axis))
        return self._fans(parts).fan_in

    def _layout(self, parts: tuple[str, ...]) -> str | None:
        """Return the layout of a kernel, or None if the law takes another n."""
        shape = self.shapes[parts]
        if self._hidden(parts) is not None or _TRANSPOSED.search(parts[-2]):
            return None
        # There the bias tells the fan_in, and no layout has to be guessed.
        stacked = self.layouts.stacked
        if (*parts[:-1], "bias") in self.shapes and len(shape) - stacked > 2:
            return None
        return self.layouts.of("/".join(parts))

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
