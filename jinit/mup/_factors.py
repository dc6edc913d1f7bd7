"""The class and growth of a tensor give its factors in maximal-update parametrization.

With n and o the growth of a tensor's inputs and outputs from the base to the target:

| class | std | multiplier | Adam's rate | SGD's rate | epsilon |
| --- | --- | --- | --- | --- | --- |
| input, vector | 1 | 1 | 1 | o | 1 / o |
| hidden | n^(-1/2) | 1 | 1 / n | o / n | 1 / o |
| output | 1 | 1 / n | 1 | n | 1 / n |
| scalar | 1 | 1 | 1 | 1 | 1 |

Yang et al., "Tensor programs V", 2021, table 8. The multiplier of the output may be
folded into its weights (table 3), by a symmetry that does not change training:
multiplier times k, std / k, Adam's rate / k, SGD's rate / k^2. Adam's epsilon follows
the size of the gradient, which is the last column: Everett et al., "Scaling exponents
across parameterizations and optimizers", 2024.
"""

import dataclasses
import math
from typing import NamedTuple

from .._scale.fans import fans
from ._growth import ClassifiedTensor
from ._matrices import Matrix, matrix_of

KINDS = ("adam", "sgd", "muon")
# alpha of each rule: a residual branch is divided by L^alpha.
DEPTH_RULES = {"completep": 1.0, "depth_mup": 0.5}


class Factors(NamedTuple):
    """Factors multiply a tensor's std, its product, its rates, and Adam's epsilon."""

    std: float
    multiplier: float
    adam: float
    sgd: float
    muon: float
    epsilon: float


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of a parametrization has a class, a layout and factors.

    `axes` are the axes that grow with the width; `layout` has a letter per axis, as in
    `jinit.fans`; `factors` are relative to the base model, or absolute. `is_folded`
    tells that std and rates have taken the multiplier of an output in. `drawn` is the
    growth of the initializer's std from base to target, if it was measured. `roles` are
    those of a network; `moe` is "router" or "expert" in a mixture of experts; `matrix`
    has the axes of inputs and of outputs of a matrix that Muon takes.
    """

    parts: tuple[str, ...]
    shape: tuple[int, ...]
    base: tuple[int, ...] | None
    mup_class: str
    layout: str
    axes: tuple[int, ...]
    factors: Factors
    is_folded: bool = False
    drawn: float | None = None
    roles: tuple[str, ...] | None = None
    moe: str = ""
    matrix: Matrix | None = None

    @property
    def path(self) -> str:
        """Return the path, with slashes between its parts."""
        return "/".join(self.parts)

    @property
    def role(self) -> str:
        """Return the class, which version 0.1 called a role."""
        return self.mup_class

    def rate(self, kind: str) -> float:
        """Return the factor of the learning rate; NaN if the scheme has none."""
        return float(getattr(self.factors, kind))


class Depth(NamedTuple):
    """A depth grew by a ratio L, so that a residual branch is divided by L^alpha."""

    ratio: float = 1.0
    alpha: float = 1.0
    rule: str | None = None

    @property
    def residual(self) -> float:
        """Return the factor of a residual branch."""
        return float(self.ratio**-self.alpha)

    def scaled(self, factors: Factors) -> Factors:
        """Return the factors of a tensor in a residual branch.

        Its update times the branch's factor, summed over L blocks, has to be of order
        one, so Adam's rate is L^(alpha - 1). A gradient, and so a step of SGD, has the
        branch's factor, too.
        """
        slower = self.ratio ** (self.alpha - 1)
        return factors._replace(
            adam=factors.adam * slower,
            sgd=factors.sgd * self.ratio ** (2 * self.alpha - 1),
            muon=factors.muon * slower,
            epsilon=factors.epsilon * self.residual,
        )


def factors(tensor: ClassifiedTensor, fold: bool) -> Factors:
    """Return the factors of one tensor, from the table at the head of this file.

    Args:
      tensor: the tensor.
      fold: whether the weights of an output take its multiplier in.
    """
    n, o = tensor.inputs, tensor.outputs
    if tensor.mup_class == "hidden":
        # A random hidden matrix keeps its signal by n^(-1/2). An update is aligned with
        # its inputs, so it adds up over n of them and not over sqrt(n): hence Adam's
        # 1 / n.
        return Factors(n**-0.5, 1.0, 1 / n, o / n, _muon(tensor, o / n), 1 / o)
    if tensor.mup_class == "output":
        output = Factors(1.0, 1 / n, 1.0, n, _muon(tensor, n), 1 / n)
        return rewritten(output, n) if fold else output
    if tensor.mup_class == "scalar":
        return Factors(1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    # With o times as many outputs the gradient of each entry is 1 / o as large, for
    # which SGD's rate makes up.
    return Factors(1.0, 1.0, 1.0, o, _muon(tensor, o), 1 / o)


def rewritten(factors: Factors, k: float) -> Factors:
    """Multiply the multiplier by k, and change the rest so that training is the same.

    For Adam's epsilon: the gradient in the weights grows by k with the multiplier.
    """
    return Factors(
        # The gradient becomes k times as large, and the weight is to move 1 / k as far.
        # Adam ignores the size of a gradient, so its rate takes one k; SGD does not,
        # and takes two.
        std=factors.std / k,
        multiplier=factors.multiplier * k,
        adam=factors.adam / k,
        sgd=factors.sgd / k**2,
        muon=factors.muon / k,
        epsilon=factors.epsilon * k,
    )


def _muon(tensor: ClassifiedTensor, square: float) -> float:
    """Return the factor that makes an update's spectral norm grow by sqrt(square).

    The update of optax.contrib.muon has the spectral norm sqrt(max(1, n_out / n_in)),
    whose own growth is divided out.
    """
    norms = [muon_norm(shape, tensor.layout) for shape in (tensor.shape, tensor.base)]
    return math.sqrt(square) * norms[1] / norms[0]


def muon_norm(shape: tuple[int, ...], layout: str) -> float:
    """Return the spectral norm of the update by optax.contrib.muon.

    Optax takes a matrix as (inputs, outputs), whatever its layout.
    """
    if len(shape) < 2:
        return 1.0
    n_in, n_out = fans(shape, layout if len(shape) > 2 else "io")
    return math.sqrt(max(1.0, n_out / n_in)) if n_in else 1.0


def tensor_of(
    tensor: ClassifiedTensor, factors: Factors, is_folded: bool = False
) -> Tensor:
    """Return a classified tensor with its factors."""
    return Tensor(
        tensor.parts,
        tensor.shape,
        tensor.base,
        tensor.mup_class,
        tensor.layout,
        tensor.axes,
        Factors(*map(float, factors)),
        is_folded,
        tensor.drawn,
        None if tensor.roles is None else tuple(sorted(tensor.roles)),
        tensor.moe,
        matrix_of(tensor),
    )
