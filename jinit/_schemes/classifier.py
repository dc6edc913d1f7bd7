"""A classifier's bias starts from the classes' prior probabilities."""

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
    """The biases with which a classifier gives its classes their prior."""

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
                "excluded: the bias of an impossible class is infinite. Of counts take "
                "(counts + 1) / sum(counts + 1)."
            )
        if self.kind == "softmax" and not _is_distribution(prior):
            raise ValueError(
                f"`prior` is {self.prior!r}; with kind='softmax' it must be a vector "
                "of two or more probabilities that add up to 1: counts / sum(counts)."
            )
        self._set(prior=frozen(self.prior), dtype=canonical_dtype(self.dtype))

    def _value(self) -> Any:
        prior, numpy = self.prior, numbers.numpy_of(self.prior)
        if numpy is np:
            prior = np.asarray(prior, np.float64)
        if self.kind == "sigmoid":
            return numpy.log(prior) - numpy.log1p(-prior)
        # A common number added to all biases changes nothing: their mean is 0.
        return numpy.log(prior) - numpy.mean(numpy.log(prior))


def _is_distribution(prior: Any) -> bool:
    if prior.ndim != 1 or prior.size < 2:
        return False
    # The sum of a traced prior is not known yet, so it cannot be checked.
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
    """Fill a classifier's bias so that it starts with the classes' prior.

    "sigmoid": b = log(p / (1 - p)), for each class or for all; "softmax": b_c = log p_c
    less their mean. With a kernel that gives small outputs, the first loss is then the
    entropy of the prior instead of log 2 a class, and the rare classes' gradient is not
    drowned in the first steps.

    Args:
      prior: the share of positives: a number for all classes, or one for each class.
      kind: "sigmoid" for independent classes, "softmax" for exclusive ones.
      dtype: the type of the result where the call names none.

    Raises:
      ValueError: for a prior outside (0, 1), or one that does not add up to 1 where
        classes exclude each other; when called, for another number of classes.

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
