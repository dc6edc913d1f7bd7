"""A tensor's class and growth -> the factors of maximal-update parametrization.

With n and o the factors by which a tensor's inputs and outputs grew, relative to base:

| class | std | multiplier | Adam's rate | SGD's rate | epsilon |
| --- | --- | --- | --- | --- | --- |
| input, vector | 1 | 1 | 1 | o | 1 / o |
| hidden | n^(-1/2) | 1 | 1 / n | o / n | 1 / o |
| output | 1 | 1 / n | 1 | n | 1 / n |
| scalar | 1 | 1 | 1 | 1 | 1 |

Yang et al., "Tensor programs V", 2021, table 8. The output's multiplier may be folded
into its weights (table 3), by the symmetry that leaves training as it is: multiplier
times k, std / k, Adam's rate / k, SGD's rate / k^2. The size of a gradient, in the last
column, is what Adam's epsilon has to follow: Everett et al., "Scaling exponents across
parameterizations and optimizers", 2024.
"""

import dataclasses
import math
from typing import NamedTuple

from .._scale.fans import fans
from ._growth import Classed

KINDS = ("adam", "sgd", "muon")
DEPTH_RULES = {"completep": 1.0, "depth_mup": 0.5}


class Factors(NamedTuple):
    """What multiplies a tensor's std, its product, its rates, Adam's epsilon."""

    std: float
    multiplier: float
    adam: float
    sgd: float
    muon: float
    epsilon: float


@dataclasses.dataclass(frozen=True)
class Tensor:
    """What a parametrization says of one tensor.

    `axes` are those that grow with width; `layout` has a letter per axis, as in
    `jinit.fans`; `factors` are relative to the base model, or absolute.
    """

    parts: tuple[str, ...]
    shape: tuple[int, ...]
    base: tuple[int, ...] | None
    role: str
    layout: str
    axes: tuple[int, ...]
    factors: Factors

    @property
    def path(self) -> str:
        return "/".join(self.parts)

    def rate(self, kind: str) -> float:
        """The factor of the learning rate; NaN where the scheme has none."""
        return float(getattr(self.factors, kind))


class Depth(NamedTuple):
    """By how much the number of residual blocks grew, and alpha: branch / L^alpha."""

    ratio: float = 1.0
    alpha: float = 1.0

    @property
    def residual(self) -> float:
        return self.ratio**-self.alpha

    def scaled(self, found: Factors) -> Factors:
        """Of a tensor in a residual branch.

        Its update times the branch's factor, summed over L blocks, has to be of order
        one: Adam's is L^(alpha - 1). A gradient, and so SGD's step, has the factor too.
        """
        slower = self.ratio ** (self.alpha - 1)
        return found._replace(
            adam=found.adam * slower,
            sgd=found.sgd * self.ratio ** (2 * self.alpha - 1),
            muon=found.muon * slower,
            epsilon=found.epsilon * self.residual,
        )


def factors(tensor: Classed, fold: bool) -> Factors:
    """The table above, for one tensor."""
    n, o = tensor.inputs, tensor.outputs
    if tensor.role == "hidden":
        return Factors(n**-0.5, 1.0, 1 / n, o / n, _muon(tensor, o / n), 1 / o)
    if tensor.role == "output":
        found = Factors(1.0, 1 / n, 1.0, n, _muon(tensor, n), 1 / n)
        return rewritten(found, n) if fold else found
    if tensor.role == "scalar":
        return Factors(1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    return Factors(1.0, 1.0, 1.0, o, _muon(tensor, o), 1 / o)


def rewritten(found: Factors, k: float) -> Factors:
    """The multiplier times k, and all else such that training stays as it is."""
    return Factors(
        std=found.std / k,
        multiplier=found.multiplier * k,
        adam=found.adam / k,
        sgd=found.sgd / k**2,
        muon=found.muon / k,
        epsilon=found.epsilon * k,
    )


def _muon(tensor: Classed, wanted: float) -> float:
    """sqrt(wanted): the growth of the update's spectral norm, beside that of Optax.

    optax.contrib.muon gives a matrix an update of spectral norm sqrt(max(1, out / in)).
    """
    norms = [muon_norm(shape, tensor.layout) for shape in (tensor.shape, tensor.base)]
    return math.sqrt(wanted) * norms[1] / norms[0]


def muon_norm(shape: tuple[int, ...], layout: str) -> float:
    """The norm of Optax's update: of a matrix as it lies, of others by their layout."""
    if len(shape) < 2:
        return 1.0
    n_in, n_out = fans(shape, layout if len(shape) > 2 else "io")
    return math.sqrt(max(1.0, n_out / n_in)) if n_in else 1.0


def tensor_of(tensor: Classed, found: Factors) -> Tensor:
    return Tensor(*tensor, factors=Factors(*map(float, found)))
