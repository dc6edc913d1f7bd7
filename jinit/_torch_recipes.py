"""The recipes that come from PyTorch: its layers' defaults, and timm's transformer."""

from collections.abc import Callable
from typing import Any, Unpack

from . import _roles
from ._constant import zeros
from ._distributions import normal, truncated_normal
from ._fans import fans
from ._initializer import Initializer
from ._paths import Leaf
from ._roles import Roles, kernels, role, the_rest, with_fans, with_layout
from ._rules import OfTree, Rule
from ._schemes import lecun, xavier

Rules = list[Rule]


def vit(
    num_layers: int | None = None,
    *,
    std: float = 0.02,
    stacked: bool = False,
    **roles: Unpack[Roles],
) -> Rules:
    """The vision transformer of timm: N(0, std^2), cut at +-2 (not at 2 sigma).

    The patch embedding, a convolution, has torch's default, U(+-1 / sqrt(fan_in)), and
    a class token std 1e-6.

    Args:
      num_layers: not used; depth does not enter.
      std: of kernels and position embeddings.
      stacked: whether kernels have a first axis that counts layers.
      **roles: patterns; positions and embeddings (class tokens too) are used.

    Example:
      >>> import jax, jinit
      >>> shapes = {"mlp": {"kernel": jax.numpy.ones((64, 256))}}
      >>> jinit.plan(shapes, jinit.recipes.vit()).rows[0]["std"]
      0.02

    References:
      Dosovitskiy et al., "An image is worth 16x16 words", 2020; Wightman, "PyTorch
      image models", 2019, for the numbers.
    """
    plain = truncated_normal(std, None, -2 / std, 2 / std)

    def kernel(path: str, leaf: Any) -> Initializer:
        found = _roles.layout(path, leaf.shape, stacked)
        return _torch_uniform(layout=found) if "k" in found else plain

    return [
        *role(roles, "positions").rules(plain),
        Rule("**/cls*", normal(1e-6), optional=True),
        *role(roles, "embeddings").rules(plain),
        *kernels(kernel),
        *the_rest(),
    ]


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
      library", 2019; the `reset_parameters` of its layers.
    """

    def kernel(path: str, leaf: Any) -> Initializer:
        if _roles.module(path) in _roles.CELLS:
            return _torch_uniform(fan_in=leaf.shape[-1])
        return with_layout(_torch_uniform, stacked)(path, leaf)

    def packed(own: Any) -> Initializer:
        return xavier(distribution="uniform", fan_in=own.fan_in, fan_out=3 * own.fan_in)

    def bias(leaves: list[Leaf]) -> Callable[[str, Any], Initializer]:
        beside = {x.path.removesuffix("kernel"): x for x in leaves if _is_kernel(x)}
        return lambda path, leaf: _bias(path, leaf, beside, stacked)

    attention = ("query", "key", "value")
    return [
        *(
            r
            for n in attention
            for r in role(roles, n).rules(with_fans(packed, stacked))
        ),
        *role(roles, "embeddings").rules(normal(1.0)),
        *kernels(kernel),
        Rule("**/bias", OfTree(bias), optional=True),
        *the_rest(),
    ]


def _bias(path: str, leaf: Any, kernels: dict[str, Leaf], stacked: bool) -> Initializer:
    beside, name = kernels.get(path.removesuffix("bias")), _roles.module(path)
    if beside is None or name in ("query", "key", "value", "out"):
        return zeros  # norms and attention
    if name in _roles.CELLS:
        return _torch_uniform(fan_in=leaf.shape[-1])
    found = _roles.layout(beside.path, beside.value.shape, stacked)
    return _torch_uniform(fan_in=fans(beside.value.shape, found).fan_in)


def _torch_uniform(**options: Any) -> Initializer:
    """U(+-1 / sqrt(fan_in)): torch's kaiming_uniform with a = sqrt(5)."""
    return lecun(distribution="uniform", gain=3**-0.5, **options)


def _is_kernel(leaf: Leaf) -> bool:
    return leaf.parts[-1:] == ("kernel",)
