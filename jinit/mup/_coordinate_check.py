"""A coordinate check trains models of several widths and compares their activations."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from .._core import checks
from ._coordinate_models import Settings, check_width_matters, stacked
from ._coordinate_report import CoordinateReport
from ._coordinate_run import measured
from ._coordinate_summary import rows_of_runs
from ._parametrization import Parametrization


def coordinate_check(
    make_model: Callable[..., Any],
    widths: Sequence[int],
    batches: Sequence[tuple[Any, Any]],
    tx: Any,
    *,
    loss: Callable[[Any, Any], Any],
    base_width: int | None = None,
    parametrize: Callable[[Any, Any], Parametrization] | None = None,
    init: Callable[[Parametrization, Any], Any] | None = None,
    seeds: int = 4,
    seed: int = 0,
    tolerance: float = 0.2,
    refined: bool = False,
    **options: Any,
) -> CoordinateReport:
    """Train a few steps at each width, and fit how activations grow with the width.

    Each model is trained one step on each batch, for several seeds at once. The check
    takes the output of every layer (as `jinit.probe` names them), the logits of every
    attention and the output of the model. It fits the rms of each value, and of its
    change since the start: log rms = slope log width + c. Learning rates that are tuned
    at one width hold at another only if the slopes are 0. The output of a readout is
    left out before its multiplier: the multiplied output counts.

    A layer that is not flat has a finding, which names the expected slopes and the
    cure. The cure follows from what is measured: whether the std of the layer's kernel
    and the size of its update depend on the width as the parametrization says.

    With `refined` the change of each product of data with a kernel is split in two,

      W_t x_t - W_0 x_0 = (W_t - W_0) x_t + W_0 (x_t - x_0),

    the effective part, which the layer itself has learned, and the propagated part,
    which comes from the layers before. One part may hide the other at moderate width,
    and in muP neither part depends on the width. The equation of the product is
    evaluated again with another kernel or input, so this holds for dense layers,
    convolutions, stacks and experts. Tables that are looked up, and kernels that data
    choose or scale, have no such row.

    The check looks at activations in a few steps. It cannot see weight decay,
    schedules, a batch size that changes or later training, so a rate may fail to
    transfer although every layer is flat: `jinit.mup.transfer_check` measures that.

    Args:
      make_model: a function of the width that returns a Linen module, or a pair of
        functions (init(key, x), apply(params, x)); or a function of the width and
        of `rngs` that returns an NNX module. The model applies the scales of readout
        and attention itself.
      widths: two widths or more, such as [64, 128, 256, 512].
      batches: pairs (input, target) of the same shapes, one for each step.
      tx: a function of the `Parametrization` of each width that returns an Optax
        transformation, such as `lambda p: p.optimizer(optax.adam(1e-2))`; or a
        transformation, for a model that is not parametrized.
      loss: a function of output and target that returns a scalar.
      base_width: the base width of the parametrization; by default the first width.
      parametrize: a function (base_shapes, shapes) -> `Parametrization`; by default
        `jinit.mup.infer` of the networks of the two models.
      init: a function (parametrization, drawn parameters) -> parameters; by default
        `p.init(params)` if `tx` is a function of p, else the drawn parameters.
      seeds: the number of models of each width.
      seed: the seed of the root key.
      tolerance: the largest slope that counts as flat.
      refined: whether to split the change of each layer, for `report.refined`. The
        first call compiles a program for each shape of a layer, and the inputs and
        kernels of all layers of one width are in memory at once.
      **options: more arguments of a Linen or NNX model, such as `train=True`.

    Returns:
      A `CoordinateReport`: print it, look at its `rows`, `plot` or `check` it.

    Raises:
      TypeError: if `make_model` or `tx` does not return what it should, or `refined` is
        not True or False.
      ValueError: if there are fewer than two widths, the batches have different shapes,
        the loss is not a scalar, or `refined` is true and the model has no product.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, jinit, optax
      >>> class MLP(nn.Module):
      ...     width: int
      ...     scale: float
      ...     @nn.compact
      ...     def __call__(self, x):
      ...         x = nn.relu(nn.Dense(self.width)(x))
      ...         x = nn.relu(nn.Dense(self.width)(x))
      ...         return self.scale * nn.Dense(4)(x)
      >>> x = jax.random.normal(jax.random.key(0), (16, 8))
      >>> report = jinit.mup.coordinate_check(
      ...     lambda width: MLP(width, 32 / width), [32, 256], [(x, x[:, :4])] * 3,
      ...     lambda p: p.optimizer(optax.adam(1e-2)),
      ...     loss=lambda y, target: jnp.mean((y - target) ** 2))
      >>> set(report.verdict.values())
      {'flat'}

    References:
      Yang et al., "Tensor programs V: tuning large neural networks via zero-shot
        hyperparameter transfer", NeurIPS 2021. Appendix D.1.
      Haas, Bordt, von Luxburg and Vankadara, "On the surprising effectiveness of large
        learning rates under standard width scaling", NeurIPS 2025. The refined check.
      Everett et al., "Scaling exponents across parameterizations and optimizers", ICML
        2024. Alignment exponents.
    """
    sizes, refined = _widths(widths), checks.boolean("refined", refined)
    pairs = stacked(batches)
    settings = Settings(make_model, tx, loss, parametrize, init, options)
    keys = jax.random.split(jax.random.key(seed), checks.count("seeds", seeds) or 1)
    base = base_width or sizes[0]
    runs = [
        # Every width has the same keys, so that only the width differs.
        measured(settings, base, width, jax.random.clone(keys), pairs, refined)
        for width in sizes
    ]
    check_width_matters([values.layers for values, _ in runs])
    steps = len(jax.tree.leaves(pairs)[0])
    rows, parts = rows_of_runs(settings, sizes, runs, tolerance)
    return CoordinateReport(sizes, rows, len(keys), steps, tolerance, parts)


def _widths(widths: Sequence[int]) -> tuple[int, ...]:
    is_iterable = isinstance(widths, Iterable)
    sizes = tuple(checks.integer("widths", n) for n in widths) if is_iterable else ()
    if len(set(sizes)) < 2 or min(sizes) < 1:
        raise ValueError(
            f"`widths` is {widths!r}; it must hold two widths or more, such as "
            "[64, 128, 256], for a slope."
        )
    return sizes
