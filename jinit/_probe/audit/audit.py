"""`audit` compares how each parameter is drawn with what the network does to it."""

from collections.abc import Callable
from typing import Any

from ..._network.calling import network_of
from . import findings, wrong_fans
from .audited import audited
from .first_loss import first_loss
from .report import Audit
from .wrong_gains import wrong_gains


def audit(
    model: Any,
    *arguments: Any,
    loss: Callable[[Any], Any] | None = None,
    rngs: Any = None,
    **options: Any,
) -> Audit:
    """Tell whether a model is initialized as its author meant.

    Each parameter's std is measured and compared with gain(f) / sqrt(fan_in), the one
    that keeps the signal, where the fans and the activation f come from the model's
    equations. The likeliest law is the known formula that gives the measured std, over
    the axes that it would have to count. A law is claimed only within the error of the
    std of n draws, std / sqrt(2 n) for a normal, and only where the draws have its
    distribution.

    Findings are laws over the wrong axes, members and groups that are counted as
    inputs, gains of another activation where they matter, parameters with equal draws
    (one key was used twice), entries that are not finite, kernels of one value, draws
    in 16 bits with few distinct values, and a first loss far above guessing. Kernels
    that start at 0 on purpose, such as ends of residual branches, are no findings.

    Args:
      model: a Linen module, a function of (variables, ...), a model that holds its
        arrays, or a `jinit.Network` of one of them.
      *arguments: those with which one would call the model; see `jinit.network`.
      loss: a function of the output that returns a scalar; None leaves the first loss
        out.
      rngs: keys, where the call draws numbers, as for `jinit.network`.
      **options: keyword arguments of the call, such as `train=True`.

    Returns:
      An `Audit`: print it, look at its `rows` and `findings`, `plot` or `check` it.

    Raises:
      TypeError: as for `jinit.network`, or if shapes came where numbers are needed.
      ValueError: if the model has no parameters, or the loss is not a scalar.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> def blocks(w, x):  # eight blocks, each with 64 inputs and 256 outputs
      ...     return jnp.einsum("bgi,gio->bgo", x, w)
      >>> key, x = jax.random.key(0), jnp.ones((2, 8, 64))
      >>> w = jax.nn.initializers.lecun_normal()(key, (8, 64, 256))
      >>> report = jinit.audit(blocks, w, x)
      >>> report.rows[0]["law"]
      'lecun over axes (0, 1): fan_in 8 x 64 = 512 (truncated normal)'
      >>> report.findings[0].category
      'members counted as inputs'
      >>> w = jinit.lecun(layout="bio")(key, (8, 64, 256))
      >>> jinit.audit(blocks, w, x).check()

    References:
      Glorot and Bengio, "Understanding the difficulty of training deep feedforward
        neural networks", AISTATS 2010. The source of the law that counts both fans.
      He, Zhang, Ren and Sun, "Delving deep into rectifiers: surpassing human-level
        performance on ImageNet classification", ICCV 2015.
    """
    net = network_of(model, arguments, rngs, options, "audit")
    everything = audited(net)
    mistakes = wrong_fans.wrong_fans(everything)
    several = wrong_fans.findings(everything, mistakes)
    several += findings.findings(everything)
    several += wrong_gains(net, everything)
    if loss is not None:
        several += first_loss(net, loss, everything)
    return Audit(
        tuple(one.row(mistakes.get(path)) for path, one in everything.items()),
        sorted(several, key=findings.rank),
        findings.notes(everything, net.depth),
    )
