"""A transfer check sweeps learning rates at several widths, and compares the best."""

import inspect
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np

from .._core import checks
from ._coordinate_models import Settings, check_width_matters, stacked
from ._parametrization import Parametrization
from ._transfer_fit import fitted
from ._transfer_report import LOGARITHMS, TransferReport, report_of
from ._transfer_sweep import sweep

# A loss of 0 has no logarithm, so it counts as the smallest normal float32.
_SMALLEST = float(np.finfo(np.float32).tiny)


def transfer_check(
    make_model: Callable[..., Any],
    widths: Sequence[int],
    rates: Sequence[float],
    batches: Sequence[tuple[Any, Any]],
    tx: Callable[[Any, Parametrization], Any],
    *,
    loss: Callable[[Any, Any], Any],
    seeds: int = 2,
    score: str | Callable[[np.ndarray], float] = "late",
    parametrize: Callable[[Any, Any], Parametrization] | None = None,
    init: Callable[[Parametrization, Any], Any] | None = None,
    seed: int = 0,
    **options: Any,
) -> TransferReport:
    """Train at every rate and width, and fit how the best rate moves with the width.

    Each model is trained one step on each batch. All rates and seeds of a width are one
    vmapped program. A run has a score, and the scores of a width are least at its best
    rate:

    log2(best rate) = octaves_per_doubling * log2(width) + c.

    The best rate is the minimum of a parabola in the log rate, through the best three
    scores, or through all that the scatter of the seeds cannot tell from the best. The
    slope is 0 if rates transfer, and -1 for Adam in a wide standard network, whose best
    rate is proportional to 1 / width. A slope of -0.2 to 0.3 counts as no move.

    `tx` also decides how the models start. If it reads anything of `p`, they start from
    `p.init(params)`; if not, from their own initializers, as the standard
    parametrization does. The check sees what a coordinate check cannot, such as a
    weight decay whose product with the rate changes with the width. A readout without
    its multiplier may move the best rate of long runs by -0.1 only, which counts as no
    move; `coordinate_check` names this mistake.

    Args:
      make_model: a function of the width that returns a Linen module, or a pair of
        functions (init(key, x), apply(params, x)); or a function of the width and of
        `rngs` that returns an NNX module, as for `coordinate_check`. The model applies
        the scales of readout and attention itself.
      widths: two widths or more, in rising order. The first is the base width.
      rates: three learning rates or more, in rising order, such as
        `2.0 ** np.arange(-12, -2)`. Factors of two are fine enough.
      batches: pairs (input, target) of the same shapes, one for each step.
      tx: a function of the rate and of the `Parametrization` p from the first width to
        this one, such as `lambda rate, p: p.optimizer(optax.adam(rate))`, or
        `lambda rate, p: optax.adam(rate)` for the standard parametrization. The rate is
        a traced number; if `tx` needs a Python number, as `float(rate)` does, each rate
        compiles its own program.
      loss: a function of output and target that returns a scalar.
      seeds: the number of runs at each width and rate. One seed does not show how
        far seeds move the minimum, so a quarter of an octave is assumed.
      score: "late" for the mean of the log loss over the last tenth of the steps,
        "mean" for that over all steps, or a function of the losses of a run, an array
        (steps,), that returns a number, smaller for better runs. A run whose score is
        not finite has diverged, and is the worst.
      parametrize: a function (base_shapes, shapes) -> `Parametrization`; by default
        `jinit.mup.infer` of the networks of the two models.
      init: a function (parametrization, drawn parameters) -> parameters, if models
        start in another way.
      seed: the seed of the root key.
      **options: more arguments of a Linen or NNX model, such as `train=True`.

    Returns:
      A `TransferReport`: print it, look at `best` and `verdict`, `plot` or `check` it.

    Raises:
      TypeError: if `tx` is not a function that returns an Optax transformation, or
        `make_model` does not return a model.
      ValueError: if widths or rates are too few or not in rising order, the batches
        have different shapes, the loss is not a scalar, the score is unknown or has no
        logarithm, the rate has no effect, or every run diverges.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, jinit, optax
      >>> class MLP(nn.Module):
      ...     width: int
      ...     @nn.compact
      ...     def __call__(self, x):
      ...         h = nn.relu(nn.Dense(self.width)(x))
      ...         return 32 / self.width * nn.Dense(4)(nn.relu(nn.Dense(self.width)(h)))
      >>> x = jax.random.normal(jax.random.key(0), (20, 64, 8))
      >>> report = jinit.mup.transfer_check(
      ...     MLP, [32, 64, 128], [2.0**k for k in range(-9, -1)],
      ...     list(zip(x, jnp.sin(x[..., :4]))),
      ...     lambda rate, p: p.optimizer(optax.adam(rate)),
      ...     loss=lambda y, target: jnp.mean((y - target) ** 2), score="mean")
      >>> report.check()
      >>> report.verdict.partition(":")[0]
      'transfers'

    References:
      Yang et al., "Tensor programs V: tuning large neural networks via zero-shot
        hyperparameter transfer", NeurIPS 2021. Figures 1 and 3.
      Everett et al., "Scaling exponents across parameterizations and optimizers", ICML
        2024. Best rates of many parametrizations as powers of the width.
    """
    sizes, grid = _widths(widths), _rates(rates)
    count = checks.positive("seeds", seeds)
    if not callable(score):
        checks.choice("score", score, tuple(LOGARITHMS))
    _check_takes_two(tx)
    pairs = stacked(batches)
    settings = Settings(make_model, tx, loss, parametrize, init, options)
    keys = jax.random.split(jax.random.key(seed), count)
    sweeps = [
        # Every width has the same keys, so that only the width differs.
        sweep(settings, sizes[0], width, grid, jax.random.clone(keys), pairs)
        for width in sizes
    ]
    losses = np.stack([one.losses for one in sweeps])
    _check_rates_matter(losses, grid)
    if any(len(shape) > 1 for shape in sweeps[0].shapes):
        # Models of numbers alone have no width that could change shapes.
        check_width_matters([one.shapes for one in sweeps])
    scores = _scores(losses, score)
    _check_some_are_finite(scores, grid)
    bests, move = fitted(sizes, grid, scores)
    return report_of(sizes, grid, scores, bests, move, score, losses.shape[-1], sweeps)


def _check_takes_two(tx: Any) -> None:
    """Raise unless `tx` is a function of two arguments."""
    try:
        inspect.signature(tx).bind(1.0, None)
    except TypeError as error:
        raise TypeError(
            f"`tx` is {tx!r}, of type {type(tx).__name__}; it must be a function of "
            "the rate and the parametrization, such as "
            "lambda rate, p: p.optimizer(optax.adam(rate))."
        ) from error


def _widths(widths: Sequence[int]) -> tuple[int, ...]:
    is_iterable = isinstance(widths, Iterable)
    sizes = tuple(checks.positive("widths", n) for n in widths) if is_iterable else ()
    if len(sizes) < 2 or any(b <= a for a, b in itertools.pairwise(sizes)):
        raise ValueError(
            f"`widths` is {widths!r}; it must hold two widths or more in rising order, "
            "such as [64, 128, 256], of which the first is the base width."
        )
    return sizes


def _rates(rates: Sequence[float]) -> tuple[float, ...]:
    is_iterable = isinstance(rates, Iterable) and not isinstance(rates, str)
    grid = tuple(
        checks.real("rates", rate, positive=True)
        for rate in (rates if is_iterable else ())
    )
    if len(grid) < 3 or any(b <= a for a, b in itertools.pairwise(grid)):
        raise ValueError(
            f"`rates` is {rates!r}; it must hold three rates or more in rising order, "
            "none of them twice, such as [2.0**k for k in range(-12, -2)]."
        )
    return grid


def _scores(
    losses: np.ndarray, score: str | Callable[[np.ndarray], float]
) -> np.ndarray:
    """Return the score of each run: infinite for one that diverged."""
    # Infinities and NaNs are what diverged runs consist of.
    with np.errstate(all="ignore"):
        if callable(score):
            runs = losses.reshape(-1, losses.shape[-1])
            raw = np.reshape([_number(score(run)) for run in runs], losses.shape[:-1])
        else:
            raw = _logarithms(losses[..., -LOGARITHMS[score](losses.shape[-1]) :])
    return np.where(np.isfinite(raw), raw, math.inf)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`score` returned {value!r}, of type {type(value).__name__}, for the "
            "losses of a run; it must return one number."
        ) from error


def _logarithms(losses: np.ndarray) -> np.ndarray:
    """Return the mean of the log loss over the last axis."""
    if np.any(losses[np.isfinite(losses)] < 0):
        raise ValueError(
            "`loss` is negative in some steps, which have no logarithm; pass "
            "`score=lambda losses: losses[-10:].mean()`, for example."
        )
    means: np.ndarray = np.mean(np.log(np.maximum(losses, _SMALLEST)), axis=-1)
    return means


def _check_rates_matter(losses: np.ndarray, rates: Sequence[float]) -> None:
    """Raise if the losses (width, rate, seed, step) are those of one rate for all."""
    later = losses[..., 1:]
    # A training that diverges at once has no losses that could tell rates apart.
    same = later.size and np.isfinite(later).all() and (later == later[:, :1]).all()
    if same:
        raise ValueError(
            f"the rate has no effect: at every width the losses are equal at all rates "
            f"from {rates[0]:g} to {rates[-1]:g}. `tx` must give its first argument to "
            "the optimizer, as lambda rate, p: p.optimizer(optax.adam(rate)) does, and "
            "`loss` must depend on the output."
        )


def _check_some_are_finite(scores: np.ndarray, rates: Sequence[float]) -> None:
    if not np.isfinite(scores.mean(axis=-1)).any():
        raise ValueError(
            f"at every width and rate a run diverged, even at the lowest rate "
            f"{rates[0]:g}: its score is not finite. Pass lower rates, and look "
            "whether `loss` is finite for the batches."
        )
