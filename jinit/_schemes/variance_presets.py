"""JAX has names for the usual settings of `variance_scaling`: Glorot, LeCun and He.

Each maker is one line of the table `PRESETS`, with JAX's positional arguments.
"""

from jax.typing import DTypeLike

from .._core import papers
from .._core.dtypes import canonical_dtype
from .._initializer.base import Initializer
from .._initializer.maker import maker
from .._initializer.scheme import scheme
from .variance_scaling import PRESETS, Axes, VarianceScaling


@scheme(
    law="uniform",
    formula="limit = sqrt(6 / (n_in + n_out))",
    use="as `xavier`",
    paper=papers.GLOROT_2010,
)
@maker
def glorot_uniform(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Draw from U(+-sqrt(6 / (fan_in + fan_out))), for tanh and linear layers.

    The preset is `variance_scaling(1.0, "fan_avg", "uniform")`.

    Args:
      in_axis: the axis or axes of the inputs.
      out_axis: the axis or axes of the outputs.
      batch_axis: the axis or axes that count independent copies.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: when called, if the axes do not fit the shape.

    Example:
      >>> import jinit
      >>> jinit.glorot_uniform().std((300, 100)) == (2 / 400) ** 0.5
      True

    References:
      Glorot and Bengio, "Understanding the difficulty of training deep feedforward
        neural networks", AISTATS 2010.
    """
    return _preset("glorot_uniform", in_axis, out_axis, batch_axis, dtype)


@scheme(
    law="normal, truncated at 2 sigma",
    formula="std = sqrt(2 / (n_in + n_out))",
    use="as `xavier`",
    paper=papers.GLOROT_2010,
)
@maker
def glorot_normal(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Draw from a normal law truncated at 2 sigma, std = sqrt(2 / (fan_in + fan_out)).

    The preset is `variance_scaling(1.0, "fan_avg", "truncated_normal")`.

    Args:
      in_axis: the axis or axes of the inputs.
      out_axis: the axis or axes of the outputs.
      batch_axis: the axis or axes that count independent copies.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: when called, if the axes do not fit the shape.

    Example:
      >>> import jinit
      >>> jinit.glorot_normal().std((300, 100)) == (2 / 400) ** 0.5
      True

    References:
      Glorot and Bengio, "Understanding the difficulty of training deep feedforward
        neural networks", AISTATS 2010.
    """
    return _preset("glorot_normal", in_axis, out_axis, batch_axis, dtype)


@scheme(
    law="uniform",
    formula="limit = sqrt(3 / n_in)",
    use="as `lecun`",
    paper=papers.LECUN_1998,
)
@maker
def lecun_uniform(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Draw from U(+-sqrt(3 / fan_in)), for selu and linear layers.

    The preset is `variance_scaling(1.0, "fan_in", "uniform")`.

    Args:
      in_axis: the axis or axes of the inputs.
      out_axis: the axis or axes of the outputs.
      batch_axis: the axis or axes that count independent copies.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: when called, if the axes do not fit the shape.

    Example:
      >>> import jinit
      >>> jinit.lecun_uniform().std((100, 7))
      0.1

    References:
      LeCun, Bottou, Orr and Müller, "Efficient BackProp", Neural Networks: Tricks of
        the Trade 1998.
    """
    return _preset("lecun_uniform", in_axis, out_axis, batch_axis, dtype)


@scheme(
    law="normal, truncated at 2 sigma",
    formula="std = sqrt(1 / n_in)",
    use="selu; Flax's default kernel",
    paper=(papers.LECUN_1998, papers.KLAMBAUER_2017),
)
@maker
def lecun_normal(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Draw from a normal law truncated at 2 sigma, std = sqrt(1 / fan_in), for selu.

    The preset is `variance_scaling(1.0, "fan_in", "truncated_normal")`, the default
    of Flax for kernels.

    Args:
      in_axis: the axis or axes of the inputs.
      out_axis: the axis or axes of the outputs.
      batch_axis: the axis or axes that count independent copies.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: when called, if the axes do not fit the shape.

    Example:
      >>> import jinit
      >>> jinit.lecun_normal().std((100, 7))
      0.1

    References:
      LeCun, Bottou, Orr and Müller, "Efficient BackProp", Neural Networks: Tricks of
        the Trade 1998.
      Klambauer, Unterthiner, Mayr and Hochreiter, "Self-normalizing neural networks",
        NeurIPS 2017.
    """
    return _preset("lecun_normal", in_axis, out_axis, batch_axis, dtype)


@scheme(
    law="uniform",
    formula="limit = sqrt(6 / n_in)",
    use="as `he`",
    paper=papers.HE_2015,
)
@maker
def he_uniform(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Draw from U(+-sqrt(6 / fan_in)), for relu.

    The preset is `variance_scaling(2.0, "fan_in", "uniform")`.

    Args:
      in_axis: the axis or axes of the inputs.
      out_axis: the axis or axes of the outputs.
      batch_axis: the axis or axes that count independent copies.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: when called, if the axes do not fit the shape.

    Example:
      >>> import jinit
      >>> jinit.he_uniform().std((512, 256))
      0.0625

    References:
      He, Zhang, Ren and Sun, "Delving deep into rectifiers: surpassing human-level
        performance on ImageNet classification", ICCV 2015.
    """
    return _preset("he_uniform", in_axis, out_axis, batch_axis, dtype)


@scheme(
    law="normal, truncated at 2 sigma",
    formula="std = sqrt(2 / n_in)",
    use="as `he`",
    paper=papers.HE_2015,
)
@maker
def he_normal(
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: DTypeLike | None = None,
) -> Initializer:
    """Draw from a normal law truncated at 2 sigma, std = sqrt(2 / fan_in), for relu.

    The preset is `variance_scaling(2.0, "fan_in", "truncated_normal")`.

    Args:
      in_axis: the axis or axes of the inputs.
      out_axis: the axis or axes of the outputs.
      batch_axis: the axis or axes that count independent copies.
      dtype: the dtype of the array, unless the call gives another.

    Raises:
      ValueError: when called, if the axes do not fit the shape.

    Example:
      >>> import jinit
      >>> jinit.he_normal().std((512, 256))
      0.0625

    References:
      He, Zhang, Ren and Sun, "Delving deep into rectifiers: surpassing human-level
        performance on ImageNet classification", ICCV 2015.
    """
    return _preset("he_normal", in_axis, out_axis, batch_axis, dtype)


# The makers above are written out one by one, with JAX's order of arguments, so that
# `help`, editors and type checkers see a signature instead of *args.
def _preset(
    name: str,
    in_axis: Axes,
    out_axis: Axes,
    batch_axis: Axes,
    dtype: DTypeLike | None,
) -> Initializer:
    axes = in_axis, out_axis, batch_axis
    return VarianceScaling(*PRESETS[name], *axes, canonical_dtype(dtype))


# JAX has both names for each of these.
xavier_uniform, xavier_normal = glorot_uniform, glorot_normal
kaiming_uniform, kaiming_normal = he_uniform, he_normal
