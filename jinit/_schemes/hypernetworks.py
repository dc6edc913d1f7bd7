"""The head of a hypernetwork generates the weights of another layer.

Its kernel is scaled so that the generated weights have the variance of He's scheme.
"""

import dataclasses
from typing import Any, ClassVar, Unpack

from .._core import checks, papers
from .._initializer.base import Initializer
from .._initializer.scheme import scheme
from .._scale.fans import Fans, check_layout, fans
from .fan_based import FanScheme
from .fan_options import FanOptions, fan_maker, refuse_activation


@dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
class Hyperfan(FanScheme):
    """A Hyperfan scales a head so that the weights it generates have He's variance.

    If a generated bias shares the variance of the signal, each of the two has half.
    """

    generated: Any
    generated_layout: str | None = None
    relu: bool = True
    bias: bool = False
    embedding_variance: float = 1.0

    def __post_init__(self) -> None:
        # The head's kernel has a layout too, which FanScheme checks.
        check_layout(self.generated_layout, "generated_layout")
        self._set(
            generated=checks.shape(self.generated),
            relu=checks.boolean("relu", self.relu),
            bias=checks.boolean("bias", self.bias),
            embedding_variance=checks.number(
                "embedding_variance", self.embedding_variance, positive=True
            ),
        )
        # A wrong shape must raise in the maker, not in the first call.
        self._generated_fan()
        super().__post_init__()

    def _generated_fan(self) -> int:
        """Return the fan in the formula, of the layer whose weights are generated."""
        raise NotImplementedError

    def _generated_fans(self) -> Fans:
        if 0 in self.generated:
            raise ValueError(
                f"`shape_of_generated` is {self.generated}, so the head generates "
                "nothing; all axes must be positive."
            )
        return fans(self.generated, self.generated_layout)

    def _variance(self, fans: Fans) -> float | None:
        if not fans.fan_in:
            return None
        # Chang et al. (2020): Var H = 2^relu / (2^bias d_j d_k Var e), where d_j is the
        # fan of the generated layer and d_k counts the inputs of the head.
        numerator = (2 if self.relu else 1) / self._shares()
        fan = self._generated_fan()
        return numerator / (fan * fans.fan_in * self.embedding_variance)

    def _shares(self) -> int:
        """Return 2 if kernel and bias share the variance of the signal, else 1."""
        # A shape with one axis is that of a bias.
        return 2 if self.bias or len(self.generated) == 1 else 1


@dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
class HyperfanIn(Hyperfan):
    """HyperfanIn divides by the fan_in of the generated layer: it keeps the signal."""

    _name: ClassVar[str] = "hyperfan_in"

    def _generated_fan(self) -> int:
        # A generated bias adds to the sum as one input does.
        if len(self.generated) == 1:
            return 1
        return self._generated_fans().fan_in

    def _spelling(self) -> tuple[str, dict[str, Any]]:
        return _spelled(*super()._spelling())


@dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
class HyperfanOut(Hyperfan):
    """HyperfanOut divides by the generated layer's fan_out: it keeps the gradient."""

    _name: ClassVar[str] = "hyperfan_out"

    def _mode(self) -> str:
        return "fan_in"

    def _generated_fan(self) -> int:
        if len(self.generated) == 1:
            raise ValueError(
                f"`shape_of_generated` is {self.generated}, a bias, which starts at "
                "zero in this scheme. Use jinit.zeros for the head that generates it."
            )
        return self._generated_fans().fan_out

    def _shares(self) -> int:
        # A gradient does not pass through the bias, so the kernel has no half to give.
        return 1

    def _spelling(self) -> tuple[str, dict[str, Any]]:
        return _spelled(*super()._spelling())


def _spelled(name: str, settings: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Spell the field `generated` by the name of the makers' argument."""
    return name, {
        "shape_of_generated" if key == "generated" else key: value
        for key, value in settings.items()
    }


@scheme(
    law="normal, uniform or truncated",
    formula="std = sqrt(c / (n_in e Var(h)))",
    use="heads of hypernetworks: keeps the signal",
    pitfall="n_in is that of the generated kernel",
    paper=papers.CHANG_2020,
)
@fan_maker(HyperfanIn)
def hyperfan_in(
    shape_of_generated: checks.Shape,
    *,
    generated_layout: str | None = None,
    relu: bool = True,
    bias: bool = False,
    embedding_variance: float = 1.0,
    **options: Unpack[FanOptions],
) -> Initializer:
    """Draw the head of a hypernetwork so that the generated layer keeps the signal.

    The variance is c / (n_in e Var(h)), where n_in is the fan_in of the generated
    kernel, e the number of inputs of the head, and Var(h) their mean square. c is 2
    with relu and 1 without, and half of that if the layer has a generated bias as well.
    So the generated weights have He's variance, c / n_in.

    Args:
      shape_of_generated: the shape of the generated kernel; or of a generated bias,
        which counts as one input and has the other half of the variance.
      generated_layout: one letter for each axis of that shape; by default as
        `jinit.fans` reads it.
      relu: whether relu follows the generated layer.
      bias: whether the generated layer has a generated bias.
      embedding_variance: the mean square Var(h) of the inputs of the head.
      **options: the settings of the kernel of the head, by keyword.

    Raises:
      TypeError: if a setting has the wrong type.
      ValueError: if a setting is wrong, or `gain` is an activation beside relu=True.

    Example:
      >>> import jinit
      >>> head = jinit.hyperfan_in((100, 50))  # a head (64, 5000)
      >>> round(head.std((64, 5000)) ** 2 * 64 * 100, 6)
      2.0

    References:
      Chang, Flokas and Lipson, "Principled weight initialization for hypernetworks",
        ICLR 2020.
    """
    if relu:
        refuse_activation("hyperfan_in", options, "Set relu=False, or a number.")
    return HyperfanIn(
        generated=shape_of_generated,
        generated_layout=generated_layout,
        relu=relu,
        bias=bias,
        embedding_variance=embedding_variance,
        **options,
    )


@scheme(
    law="normal, uniform or truncated",
    formula="std = sqrt(c / (n_out e Var(h)))",
    use="heads of hypernetworks: keeps the gradient",
    pitfall="n_out is that of the generated kernel",
    paper=papers.CHANG_2020,
)
@fan_maker(HyperfanOut)
def hyperfan_out(
    shape_of_generated: checks.Shape,
    *,
    generated_layout: str | None = None,
    relu: bool = True,
    embedding_variance: float = 1.0,
    **options: Unpack[FanOptions],
) -> Initializer:
    """Draw the head of a hypernetwork so that the generated layer keeps the gradient.

    The variance is c / (n_out e Var(h)), where n_out is the fan_out of the generated
    kernel, e the number of inputs of the head, and Var(h) their mean square. c is 2
    with relu and 1 without. A generated bias starts at zero and has no share.

    Args:
      shape_of_generated: the shape of the generated kernel.
      generated_layout: one letter for each axis of that shape; by default as
        `jinit.fans` reads it.
      relu: whether relu follows the generated layer.
      embedding_variance: the mean square Var(h) of the inputs of the head.
      **options: the settings of the kernel of the head, by keyword.

    Raises:
      TypeError: if a setting has the wrong type.
      ValueError: if a setting is wrong, `shape_of_generated` is that of a bias, or
        `gain` is an activation beside relu=True.

    Example:
      >>> import jinit
      >>> head = jinit.hyperfan_out((100, 50))
      >>> round(head.std((64, 5000)) ** 2 * 64 * 50, 6)
      2.0

    References:
      Chang, Flokas and Lipson, "Principled weight initialization for hypernetworks",
        ICLR 2020.
    """
    if relu:
        refuse_activation("hyperfan_out", options, "Set relu=False, or a number.")
    return HyperfanOut(
        generated=shape_of_generated,
        generated_layout=generated_layout,
        relu=relu,
        embedding_variance=embedding_variance,
        **options,
    )
