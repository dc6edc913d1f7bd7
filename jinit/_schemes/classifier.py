"""The bias of a classifier starts at the prior probabilities of the classes."""

import dataclasses
import math
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from .._core import checks, numbers, papers
from .._core.dtypes import canonical_dtype
from .._initializer.base import Initializer
from .._initializer.frozen import frozen, thawed
from .._initializer.maker import maker
from .._initializer.scheme import scheme
from .constant import Filling

Kind = Literal["sigmoid", "softmax"]


@dataclasses.dataclass(frozen=True, repr=False)
class PriorBias(Filling):
    """A PriorBias lets a classifier start with the prior probability of each class."""

    prior: Any
    kind: Kind = "sigmoid"
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "constant_bias_from_prior"
    _kind: ClassVar[type[Any]] = np.inexact

    def __post_init__(self) -> None:
        prior = thawed(frozen(self.prior, "prior"))
        kinds = (np.floating, np.integer)
        if not any(jnp.issubdtype(prior.dtype, kind) for kind in kinds):
            raise TypeError(
                f"`prior` is {self.prior!r}; it must be a real number or several."
            )
        checks.choice("kind", self.kind, ("sigmoid", "softmax"))
        if not numbers.is_traced(prior) and not np.all((prior > 0) & (prior < 1)):
            raise ValueError(
                f"`prior` is {self.prior!r}; probabilities lie between 0 and 1, both "
                "excluded: the bias of an impossible class is infinite. For counts "
                "pass (counts + 1) / sum(counts + 1)."
            )
        # Classes with a sigmoid each are independent, and their priors need not add up
        # to 1.
        if self.kind == "softmax" and not _is_distribution(prior):
            raise ValueError(
                f"`prior` is {self.prior!r}; with kind='softmax' it must be a vector "
                "of two or more probabilities that add up to 1, such as "
                "counts / sum(counts)."
            )
        self._set(prior=frozen(self.prior), dtype=canonical_dtype(self.dtype))

    def _value(self) -> Any:
        prior, numpy = self.prior, numbers.numpy_of(self.prior)
        if numpy is np:
            prior = np.asarray(prior, np.float64)
        # Lin et al. (2017): b = -log((1 - p) / p).
        if self.kind == "sigmoid":
            # log1p keeps the digits of a prior near 0, which is the case that matters.
            return numpy.log(prior) - numpy.log1p(-prior)
        return numpy.log(prior) - numpy.mean(numpy.log(prior))


def _is_distribution(prior: Any) -> bool:
    if prior.ndim != 1 or prior.size < 2:
        return False
    # The sum of a traced prior is not known before the program runs.
    return numbers.is_traced(prior) or math.isclose(prior.sum(), 1, abs_tol=1e-6)


@scheme(
    law="constant",
    formula="b = log(p / (1 - p)), or log p_c",
    use="classifiers of unbalanced classes",
    pitfall="the share of positives, not the weight of the class",
    paper=papers.LIN_2017,
)
@maker
def constant_bias_from_prior(
    prior: ArrayLike, kind: Kind = "sigmoid", *, dtype: DTypeLike | None = None
) -> Initializer:
    """Fill the bias of a classifier so that it starts at the prior of the classes.

    For "sigmoid" b = log(p / (1 - p)); for "softmax" b_c = log p_c, less the mean of
    all log p. If the kernel gives small outputs, the first loss is then the entropy of
    the prior instead of log 2 for each class, and frequent classes do not drown the
    gradient of rare ones in the first steps.

    Args:
      prior: the share p of positives, one number for all classes or one for each.
      kind: "sigmoid" for independent classes, "softmax" for exclusive ones.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      TypeError: if `prior` is not real.
      ValueError: if `prior` lies outside (0, 1), or does not add up to 1 for "softmax";
        when called, if the shape has another number of classes.

    Example:
      >>> import jax, jinit
      >>> b = jinit.constant_bias_from_prior(0.01)(jax.random.key(0), (1,))
      >>> round(float(jax.nn.sigmoid(b)[0]), 4)
      0.01

    References:
      Lin, Goyal, Girshick, He and Dollár, "Focal loss for dense object detection", ICCV
        2017.
    """
    return PriorBias(prior, kind, canonical_dtype(dtype))
