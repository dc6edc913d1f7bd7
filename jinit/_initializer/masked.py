"""`masked` draws by one initializer where a mask is true, and by another elsewhere."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from .._core import checks, numbers
from .base import DrawSpec, Initializer
from .foreign import check_part, in_torch_layout, with_axes
from .frozen import frozen, thawed
from .kernel_axes import KernelAxes
from .maker import maker
from .parts import Composed, common_dtype, part
from .scheme import scheme


@dataclasses.dataclass(frozen=True, repr=False)
class Masked(Composed):
    """A Masked has the draw of `a` where a mask is true, and that of `b` elsewhere."""

    mask: Any
    a: Any
    b: Any

    _name: ClassVar[str] = "masked"

    def __post_init__(self) -> None:
        check_part("a", self.a)
        check_part("b", self.b)
        mask = thawed(frozen(self.mask, "mask"))
        # `jnp.where` takes any number but 0 for true, so a mask and a part that were
        # exchanged would pass.
        if mask.dtype != bool:
            raise TypeError(
                f"`mask` has dtype {mask.dtype}; it must be an array of booleans."
            )
        self._set(mask=frozen(mask, "mask"))

    def _in_torch_layout(self) -> Initializer:
        # The mask belongs to the axes of the shape that is asked for, and stays.
        return Masked(self.mask, in_torch_layout(self.a), in_torch_layout(self.b))

    def _with_axes(self, axes: KernelAxes) -> Initializer:
        return Masked(self.mask, with_axes(self.a, axes), with_axes(self.b, axes))

    def _check(self, shape: checks.Shape) -> None:
        checks.broadcasts(shape, mask=thawed(self.mask))

    def _dtype(self, dtype: DTypeLike | None, shape: checks.Shape) -> np.dtype:
        return common_dtype([self.a, self.b], dtype)

    def _joined(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        # Under one key two equal laws would draw equal numbers, whatever the mask is.
        a, b = (
            part(init, jax.random.fold_in(key, index), spec)
            for index, init in enumerate((self.a, self.b))
        )
        mask = thawed(self.mask)
        whole = numbers.numpy_of(mask).broadcast_to(mask, spec.shape)
        return jnp.where(whole, a, b)


@scheme(
    law="the laws of its parts",
    formula="w = a where mask, else b",
    use="causal or sparse kernels, parts that start at zero",
    pitfall="each part counts the fans of the whole shape",
)
@maker
def masked(mask: ArrayLike, a: Any, b: Any) -> Initializer:
    """Draw from `a` where the mask is true, and from `b` elsewhere.

    The keys are `jax.random.fold_in(key, 0)` for `a` and `fold_in(key, 1)` for `b`.
    Each of them draws the whole shape, so that its fans do not depend on the mask.

    Args:
      mask: booleans that broadcast to the shape.
      a: an initializer from jinit, from JAX or your own.
      b: another initializer.

    Raises:
      TypeError: if the mask does not hold booleans, or a part is not an initializer.
      ValueError: when called, if the mask does not broadcast to the shape.

    Example:
      >>> import jax, jinit
      >>> lower = jax.numpy.tril(jax.numpy.ones((4, 4), bool))
      >>> w = jinit.masked(lower, jinit.he(), jinit.zeros)(jax.random.key(0), (4, 4))
      >>> bool((w == jax.numpy.tril(w)).all())
      True
    """
    return Masked(mask, a, b)
