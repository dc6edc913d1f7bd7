"""What layers of a kind start from: embeddings, PyTorch's layers, classifier biases."""

import dataclasses
import math
from typing import Any, ClassVar, Literal, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from .._core import checks, dtypes, numbers
from .._core.dtypes import canonical_dtype
from .._initializer.base import Initializer
from .._initializer.entry import Entry
from .._initializer.maker import maker
from .._initializer.parts import Composed
from .._scale.fans import Fans
from .constant import Filling, frozen, thawed
from .fan_based import FanScheme
from .fan_options import FanOptions, fan_maker
from .variance_scaling import variance_scaling

Kind = Literal["sigmoid", "softmax"]

# Flax's own default, by overlapping axes: the fan is the last axis.
_FLAX_EMBEDDING = variance_scaling(1.0, "fan_in", "normal", out_axis=0)


@dataclasses.dataclass(frozen=True, repr=False)
class Embedding(Composed):
    """N(0, 1 / d), d the last axis; a row of zeros for padding."""

    padding_row: int | None = None
    dtype: np.dtype | None = None

    _name: ClassVar[str] = "embedding"

    def __post_init__(self) -> None:
        if self.padding_row is not None:
            row = checks.integer("padding_row", self.padding_row)
            self._set(padding_row=row)
        self._set(dtype=canonical_dtype(self.dtype))

    def std(self, shape: checks.Shape) -> float | None:
        shape = checks.shape(shape)
        self._check(shape)
        return None if self.padding_row is not None else _FLAX_EMBEDDING.std(shape)

    def _check(self, shape: checks.Shape) -> None:
        if len(shape) < 2:
            raise ValueError(
                f"`shape` is {shape}, which has {len(shape)} axes; an embedding has "
                "two, (rows, features), and more before them for several tables."
            )
        row = self.padding_row
        if row is not None and shape[-2] and not -shape[-2] <= row < shape[-2]:
            raise ValueError(
                f"`padding_row` is {row}, and a table of shape {shape} has "
                f"{shape[-2]} rows; take one from {-shape[-2]} to {shape[-2] - 1}."
            )

    def _joined(
        self,
        key: jax.Array,
        shape: checks.Shape,
        dtype: DTypeLike | None,
        factor: float,
    ) -> jax.Array:
        found = dtypes.dtype(self.dtype if dtype is None else dtype, np.inexact)
        table = (factor * _FLAX_EMBEDDING)(key, shape, found)
        if self.padding_row is None or 0 in shape:
            return table
        is_padding = np.arange(shape[-2]) == self.padding_row % shape[-2]
        return jnp.where(is_padding[:, None], jnp.zeros_like(table), table)


@dataclasses.dataclass(frozen=True, repr=False, kw_only=True)
class ScaledUniform(FanScheme):
    """U(+-1 / sqrt(fan_in))."""

    distribution: str = "uniform"

    _name: ClassVar[str] = "scaled_uniform"

    def _variance(self, fans: Fans) -> float | None:
        return 1 / (3 * fans.fan_in) if fans.fan_in else None


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


@maker
def embedding(
    padding_row: int | None = None, *, dtype: DTypeLike | None = None
) -> Initializer:
    """Draw an embedding table, (rows, d), from N(0, 1 / d).

    The values are those of Flax's default, `nn.linear.default_embed_init`. The fan of a
    row is d: the rows do not add up, so their number must not count. Rows have norm 1;
    models that want entries of size 1 multiply by sqrt(d), as `sqrt(d) * embedding()`.

    Args:
      padding_row: the index of a row of zeros, for a padding token.
      dtype: the type of the result where the call names none.

    Raises:
      TypeError: for a `padding_row` that is no integer.
      ValueError: when called, for fewer than two axes, or a row that is not there.

    Example:
      >>> import jax, jinit
      >>> jinit.embedding().std((50_000, 400))
      0.05
      >>> table = jinit.embedding(padding_row=0)(jax.random.key(0), (10, 4))
      >>> table[0].tolist()
      [0.0, 0.0, 0.0, 0.0]

    References:
      Raffel et al., "Exploring the limits of transfer learning with a unified
      text-to-text transformer", 2019, whose code has this law for its layers.
    """
    return Embedding(padding_row, canonical_dtype(dtype))


@fan_maker(ScaledUniform)
def scaled_uniform(**options: Unpack[FanOptions]) -> Initializer:
    """Draw from U(+-1 / sqrt(n_in)): PyTorch's default for kernels and for biases.

    std = 1 / sqrt(3 n_in). PyTorch spells it `kaiming_uniform_(w, a=math.sqrt(5))`. Its
    biases have the fan_in of their kernel, which a bias's shape does not show:
    `scaled_uniform(fan_in=256)`.

    Args:
      **options: the settings of every scheme that counts fans, by keyword.

    Raises:
      ValueError: for options that do not fit; when called, for a bias without `fan_in`.

    Example:
      >>> import jax, jinit
      >>> b = jinit.scaled_uniform(fan_in=256)(jax.random.key(0), (1000,))
      >>> bool(abs(b).max() <= 1 / 16)
      True

    References:
      LeCun, Bottou, Orr and Mueller, "Efficient BackProp", 1998, for the 1 / sqrt(n_in)
      that its limit, not its std, has.
    """
    return ScaledUniform(**options)


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
      Lin, Goyal, Girshick, He and Dollar, "Focal loss for dense object detection",
      2017.
    """
    return PriorBias(prior, kind, canonical_dtype(dtype))


ENTRIES = (
    Entry(
        "embedding",
        embedding,
        "normal",
        "std = 1 / sqrt(d)",
        "embedding tables",
        "Raffel et al. 2019",
        "rows have norm 1, entries 1 / sqrt(d)",
    ),
    Entry(
        "scaled_uniform",
        scaled_uniform,
        "uniform",
        "limit = 1 / sqrt(n_in)",
        "PyTorch's default, also of its biases",
        "LeCun, Bottou, Orr and Mueller 1998",
        "a bias needs `fan_in`; under relu the signal dies: variance / 6 a layer",
    ),
    Entry(
        "constant_bias_from_prior",
        constant_bias_from_prior,
        "constant",
        "b = log(p / (1 - p)), or log p_c",
        "classifiers of unbalanced classes",
        "Lin, Goyal, Girshick, He and Dollar 2017",
        "the share of positives, not the weight of the class",
    ),
)
