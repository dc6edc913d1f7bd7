"""`probe` measures the signal and the gradient in every layer of a model."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax

from .._core import checks
from .._network.calling import network_of
from .._network.record import Network
from . import formats as narrow
from .chances import chances_of
from .dead_units import suspects
from .jacobian import of_first
from .passes import passes_of
from .report import Report
from .statistics import may_be_infinite
from .stream import stream_of


def probe(
    model: Any,
    *arguments: Any,
    loss: Callable[[Any], Any] | None = None,
    classes: int | None = None,
    formats: Sequence[Any] = (),
    rngs: Any = None,
    jacobian: bool = False,
    **options: Any,
) -> Report:
    """Measure the signal and the gradient in every layer, in one pass each way.

    The statistics of a layer's output are mean, std, rms, the share of dead units (0
    for every input), excess kurtosis, the mean cosine of two inputs, the share of
    entries at the largest value, and the rms of the loss's gradient in the output. The
    statistics of a parameter are its rms, the rms of its gradient, and their ratio. All
    are computed in float32 or wider, in compiled programs.

    Rows are in the order of execution: a product or convolution of data with a
    parameter, by the path of its weight, with its bias; a module of Linen or NNX; an
    activation that JAX calls by its name (relu, silu, elu, ...), and tanh, sigmoid,
    gelu and relu also where they are written out; the logits of an attention; a value
    that is named by `jax.ad_checkpoint.checkpoint_name`; and the model's own output.
    The layers of a scanned stack have a row each, with their index:
    "layers/Dense_0[3]". Layers inside the branches of `cond` and the bodies of `while`
    have no row, and `notes` name them. A layer before a `while` of unknown length has
    no gradient: its row has NaN.

    `verdict` judges what each layer reads and what each branch adds, not single rows: a
    branch, a head or a gate that starts at 0 is no trouble. It compares layers with
    others like them, since norms hide a layer that is too large. A `loss` that is a
    cross entropy of the output is compared with that of guessing. Units count as dead
    if there are more of them than a fresh kernel would have on the same inputs.

    `formats` asks how much narrower formats of numbers would lose. For each format,
    layer and parameter `Report.formats` has the share of values beyond the largest
    number, the share of nonzero values that become 0, and both shares of the gradients.

    Args:
      model: a Linen module, a function of (variables, ...), a model that holds its
        arrays, or a `jinit.Network` of one of them.
      *arguments: those with which one would call the model; see `jinit.network`.
      loss: a function from the output to a scalar; by default the component of the
        output along a fixed random direction, averaged over the batch.
      classes: how many classes the loss is a cross entropy over, so that guessing costs
        ln(classes). By default the loss of equal logits is looked at: it is the loss of
        guessing if it is the logarithm of the output's last axis, or of 2.
      formats: names of formats, such as "bfloat16", "float16" and "float8_e4m3fn".
        Gradients that are lost are findings only with a `loss`, which gives them their
        size.
      rngs: keys, where the call draws numbers, as for `jinit.network`.
      jacobian: whether to compute the largest and the least singular value of the
        Jacobian of the first output with respect to the first input, for
        `Report.jacobian`. They are exact up to 256 inputs or outputs. Beyond, power
        iteration finds them, and the least comes out too large if many are near it.
      **options: keyword arguments of the call, such as `train=True`.

    Returns:
      A `Report`: print it, look at its `rows` and `verdict`, `plot` or `check` it.

    Raises:
      TypeError: as for `jinit.network`, if shapes came where numbers are needed, or if
        the loss is not a function.
      ValueError: if nothing in the model can be measured, the loss is not a scalar,
        `classes` comes without a loss or is below 2, or a format is unknown.

    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, jinit
      >>> he = jinit.he()
      >>> model = nn.Sequential([nn.Dense(64, kernel_init=he) for _ in range(3)])
      >>> x = jax.random.normal(jax.random.key(0), (32, 64))
      >>> report = jinit.probe(model, model.init(jax.random.key(1), x), x)
      >>> [row["path"] for row in report.rows]
      ['layers_0', 'layers_1', 'layers_2']
      >>> report.rows[2]["rms"] > report.rows[0]["rms"]  # he(), and no relu
      True
      >>> w, formats = 1e5 * jnp.eye(64), ["bfloat16", "float16"]
      >>> report = jinit.probe(lambda w, x: x @ w, w, x, formats=formats)
      >>> [finding.category for finding in report.verdict]
      ['float16 overflow']

    References:
      Glorot and Bengio, "Understanding the difficulty of training deep feedforward
        neural networks", AISTATS 2010. The paper looks at these statistics layer by
        layer.
      Micikevicius et al., "Mixed precision training", ICLR 2018. It scales the loss, so
        that gradients do not become 0 in float16.
    """
    if loss is not None and not callable(loss):
        raise TypeError(
            f"`loss` is {loss!r}; it must be a function from the output of the model "
            "to a scalar, such as lambda y: jnp.mean((y - target) ** 2)."
        )
    formats = narrow.checked(formats)
    guess = _guess_of(classes, loss)
    net = network_of(model, arguments, rngs, options, "probe")
    return report_of(net, loss, jacobian, formats, guess)


def _guess_of(classes: Any, loss: Any) -> float | None:
    """Return the cross entropy of guessing one of so many classes."""
    if classes is None:
        return None
    if loss is None:
        raise ValueError(
            f"`classes` is {classes!r}, and there is no `loss` that guessing could be "
            "compared with. Pass the cross entropy of the output as `loss`, too."
        )
    if checks.integer("classes", classes) < 2:
        raise ValueError(f"`classes` is {classes}; a choice has at least 2 classes.")
    return math.log(classes)


def report_of(
    net: Network,
    loss: Callable[[Any], Any] | None,
    jacobian: bool = False,
    formats: tuple[str, ...] = (),
    guess: float | None = None,
) -> Report:
    """Return the report of a network whose parameters and inputs are arrays."""
    passes = passes_of(net, loss, formats)
    with may_be_infinite():
        statistics = jax.device_get(passes.statistics(net.params, net.inputs))
        flat = passes.flat()
        guess = passes.guess(flat) if guess is None else guess
        statistics = statistics._replace(guess=guess, flat=flat)
    stream = stream_of(passes.reading, passes.places, *statistics[:3])
    chances = chances_of(net, suspects(stream))
    singular_values = of_first(net) if jacobian else None
    return passes.report(statistics, stream, chances, singular_values)
