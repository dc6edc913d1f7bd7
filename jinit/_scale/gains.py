"""A gain undoes what an activation does to the size of a signal, or of a gradient."""

import contextlib
import functools
import math
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from .._core import checks, names
from .._core.identity import remembered
from .activations import ACTIVATIONS, GATES
from .quadrature import Unresolved, normal_mean

Function = Callable[..., Any]
Activation = str | tuple[str, float] | Callable[[Any], Any]

_DIRECTIONS = ("forward", "backward")
_CONVENTIONS = ("exact", "torch")

_CONVOLUTIONS = (f"conv{t}{d}d" for t in ("", "_transpose") for d in (1, 2, 3))
_TORCH = dict.fromkeys(("linear", "identity", "sigmoid", *_CONVOLUTIONS), 1.0) | {
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "leaky_relu": math.nan,
    "selu": 3 / 4,
}


def gain(
    activation: Activation,
    *,
    param: float | None = None,
    direction: str = "forward",
    convention: str = "exact",
) -> float:
    """Return the factor that undoes what an activation f does to a signal's size.

    forward: 1 / sqrt(E f(z)^2); backward: 1 / sqrt(E f'(z)^2), both for z ~ N(0, 1). A
    kernel with std gain / sqrt(fan_in) keeps the mean square of the pre-activations at
    1 (forward); with std gain / sqrt(fan_out) it keeps that of their gradients
    (backward).

    The integral is computed by Gauss-Legendre on panels in float64. The panels are
    split where the function is not smooth, until a finer integral agrees to 1e-8 (or to
    the precision of the function, if it computes in a narrower type). It can be
    computed while a program is traced.

    Args:
      activation: a name such as "relu", "gelu" or "silu"; a pair of a name and its
        `param`, such as ("leaky_relu", 0.2); or any function of a scalar. "swiglu",
        "geglu", "reglu" and "glu" are gated units f(a) b of independent a and b, which
        have the forward gain of f.
      param: the slope of "leaky_relu" and "prelu", the alpha of "elu" and "celu".
      direction: "forward" or "backward".
      convention: "exact", or "torch" for the table of `torch.nn.init.calculate_gain`,
        which has no directions.

    Returns:
      A Python float.

    Raises:
      TypeError: if `activation` is neither a name nor a function.
      ValueError: if the name is unknown, the activation does not take `param`, or a
        function does not map scalars to scalars, is not finite, is zero everywhere, or
        cannot be integrated.

    Example:
      >>> import jax, jinit
      >>> round(jinit.gain("relu") ** 2, 12)
      2.0
      >>> round(jinit.gain(jax.nn.silu), 6), round(jinit.gain("tanh"), 6)
      (1.676532, 1.592537)
      >>> jinit.gain("tanh", convention="torch") == 5 / 3
      True

    References:
      He, Zhang, Ren and Sun, "Delving deep into rectifiers: surpassing human-level
        performance on ImageNet classification", ICCV 2015.
      Klambauer, Unterthiner, Mayr and Hochreiter, "Self-normalizing neural networks",
        NeurIPS 2017.
    """
    checks.choice("direction", direction, _DIRECTIONS)
    if checks.choice("convention", convention, _CONVENTIONS) == "torch":
        return _torch_gain(activation, param)
    # He et al. (2015), Eq. 10, for any f: n Var(w) E f(z)^2 = 1. For the gradient,
    # Eq. 14, f' takes the place of f and fan_out that of fan_in.
    return 1 / math.sqrt(second_moment(activation, param, direction))


def slope_at_zero(activation: Activation, *, param: float | None = None) -> float:
    """Return f'(0), as JAX differentiates f at 0.

    At a kink the slope is a convention: 0 for `jax.nn.relu`, 1 for `jax.nn.leaky_relu`,
    0.5 for `jnp.maximum(x, 0)`.

    Args:
      activation: a name, a pair of a name and its `param`, or any function of a scalar
        that JAX can differentiate.
      param: as for `gain`.

    Raises:
      TypeError: if `activation` is neither a name nor a function.
      ValueError: if the name is unknown, the activation does not take `param`, or JAX
        cannot differentiate the function at 0.

    Example:
      >>> import jax.numpy as jnp, jinit
      >>> jinit.slope_at_zero("relu"), jinit.slope_at_zero("leaky_relu")
      (0.0, 1.0)
      >>> jinit.slope_at_zero(lambda x: jnp.maximum(x, 0))
      0.5
    """
    # A function is not replaced by its name: each has its own convention at a kink.
    if isinstance(activation, tuple):
        activation, param = split(activation, param)
    if isinstance(activation, str):
        function = _jax_function(_name(activation), _parameter(activation, param))
    else:
        if param is not None or not callable(activation):
            _reject(activation, param)
        function = activation
    with _double_precision():
        try:
            slope = float(jax.grad(function)(0.0))
        except Exception as error:
            raise ValueError(
                f"`activation` {_called(activation)} cannot be differentiated by JAX "
                f"at 0: {error}"
            ) from error
    if not math.isfinite(slope):
        raise ValueError(
            f"`activation` {_called(activation)} has slope {slope} at 0; a scheme "
            "needs a finite one."
        )
    return slope


def second_moment(
    activation: Activation, param: float | None = None, direction: str = "forward"
) -> float:
    """Return E f(z)^2 ("forward") or E f'(z)^2 ("backward") for z ~ N(0, 1)."""
    activation, param = split(activation, param)
    if not isinstance(activation, str):
        return _moment_of_function(activation, direction)
    # Forward, b is independent of a and has E b^2 = 1, so E (f(a) b)^2 = E f(a)^2.
    if activation in GATES and direction == "backward":
        raise ValueError(
            f"`activation` {activation!r} is a gated unit f(a) b, which sends "
            "gradients into two kernels and has no single backward gain; take those of "
            f"f, {GATES[activation]!r}, forward (for b) and backward (for a)."
        )
    return _moment_of_name(_name(activation), _parameter(activation, param), direction)


def split(
    activation: Activation, param: float | None = None
) -> tuple[str | Callable[[Any], Any], float | None]:
    """Return an activation's name and parameter, or the function and None."""
    if param is None:
        activation = canonical(activation)
        if isinstance(activation, tuple):
            return activation
    if isinstance(activation, str):
        return checks.choice("activation", activation, (*ACTIVATIONS, *GATES)), param
    if param is not None or not callable(activation):
        _reject(activation, param)
    # JAX's own functions have the moments of their names, which need no compilation.
    return _known(activation) or activation, None


def canonical(activation: Any) -> Any:
    """Return a pair (name, slope) for a function of JAX with its slope bound.

    Other activations are returned as they are. Pairs of a name and a number can be
    equal and have a configuration; a partial function is equal only to itself.
    """
    if isinstance(activation, functools.partial):
        return _bound(activation)
    if not isinstance(activation, tuple | list):
        return activation
    if len(activation) != 2 or not isinstance(activation[0], str):
        raise ValueError(
            f"`activation` is {activation!r}; a pair must be a name and its parameter, "
            "such as ('leaky_relu', 0.2)."
        )
    name, param = activation
    checks.choice("activation", name, (*ACTIVATIONS, *GATES))
    return name, _parameter(name, checks.real("param", param))


def _bound(function: functools.partial[Any]) -> Any:
    """Return the pair or the name that a partial function stands for, else itself."""
    name, settings = _known(function.func), dict(function.keywords)
    param = settings.pop(_BOUND.get(name or "", ""), None)
    if function.args or settings or not isinstance(param, int | float):
        return function
    if name == "gelu_tanh":
        return "gelu_tanh" if param else "gelu"
    return name, float(param)


# The parameter of each function of jax.nn that a partial function may bind.
_BOUND = {
    "leaky_relu": "negative_slope", "elu": "alpha", "celu": "alpha",
    "gelu_tanh": "approximate",
}  # fmt: skip


@remembered(1024)
def _moment_of_name(name: str, param: float | None, direction: str) -> float:
    if name in ("linear", "identity"):
        return 1.0
    if name in ("relu", "leaky_relu", "prelu"):
        # By symmetry; exact, so that all ways to He's formula agree to the last bit.
        return (1 + (param or 0.0) ** 2) / 2
    spec = ACTIVATIONS[name]
    function = spec.f if direction == "forward" else spec.df
    settings = () if param is None else (param,)
    moment = normal_mean(lambda z: function(z, *settings) ** 2, spec.kinks)
    return _positive(name, moment)


@remembered(1024)
def _moment_of_function(function: Function, direction: str) -> float:
    sample, precision = sampled(function, direction)
    try:
        # A function that computes in float32 is rough at 1e-7, and the quadrature would
        # split its panels for ever in search of 1e-12.
        moment = normal_mean(lambda z: sample(z) ** 2, tolerance=precision)
    except Unresolved as error:
        raise ValueError(f"`activation` {_called(function)} {error}") from None
    return _positive(_called(function), moment)


def sampled(function: Function, direction: str) -> tuple[Function, float]:
    """Return a function, or its derivative, over float64 arrays.

    The second value is the relative precision of what the function returns.
    """
    # The call of a class may succeed: Linen's modules are dataclasses.
    if isinstance(function, type):
        raise TypeError(
            f"`activation` is the class {function.__name__}; it must be a function of "
            "a scalar, such as jax.nn.gelu, or the name of one."
        )
    scalar = function if direction == "forward" else jax.grad(function)
    batched: Function = jax.jit(jax.vmap(scalar))
    try:
        probe = _evaluate(batched, np.linspace(-1, 1, 8))
    except Exception as error:
        if direction == "backward":
            raise ValueError(
                f"`activation` {_called(function)} cannot be differentiated by JAX as "
                f"a function of a scalar: {error}"
            ) from error
        # NumPy's functions and those with an `if` cannot be traced, but can be called.
        batched = np.vectorize(function)
        probe = _evaluate_plain(function, batched, error)
    if probe.shape != (8,):
        raise ValueError(
            f"`activation` {_called(function)} gives shape {probe.shape[1:]} for a "
            "scalar; it must map a scalar to a scalar."
        )
    inexact = jnp.issubdtype(probe.dtype, jnp.inexact)
    precision = float(jnp.finfo(probe.dtype).eps) if inexact else 0.0
    # A function of several operations rounds several times.
    return lambda z: _evaluate(batched, z).astype(np.float64), 16 * precision


def _evaluate_plain(
    function: Function, batched: Function, error: Exception
) -> np.ndarray:
    """Evaluate a function that JAX cannot trace, of plain Python or NumPy."""
    try:
        return _evaluate(batched, np.linspace(-1, 1, 8))
    except Exception:
        raise ValueError(
            f"`activation` {_called(function)} cannot be called on a scalar, and must "
            f"map a scalar to a scalar: {error}"
        ) from error


def _evaluate(batched: Function, z: np.ndarray) -> np.ndarray:
    """Evaluate a function at all of z, in chunks of one size: one compilation."""
    size = 8 if z.size == 8 else 2048
    # Each round of the quadrature has another number of points, and JAX would compile
    # the function for each of them.
    padded = np.resize(z, math.ceil(z.size / size) * size).reshape(-1, size)
    with _double_precision():
        rows = [np.asarray(batched(row)) for row in padded]
    return np.concatenate(rows)[: z.size]


@contextlib.contextmanager
def _double_precision() -> Any:
    """Evaluate now, in float64, whatever is being traced and whatever the flags say."""
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        yield


def _torch_gain(activation: Activation, param: float | None) -> float:
    activation = canonical(activation)
    if isinstance(activation, tuple) and param is None:
        activation, param = activation
    if not isinstance(activation, str) or activation not in _TORCH:
        name = activation if isinstance(activation, str) else _called(activation)
        raise ValueError(
            f"`activation` is {name!r}, and convention='torch' knows only "
            f"{', '.join(map(repr, _TORCH))}; convention='exact' takes any."
        )
    if activation == "leaky_relu":
        slope = 0.01 if param is None else checks.real("param", param)
        return math.sqrt(2 / (1 + slope**2))
    if param is not None:
        _reject(activation, param)
    return _TORCH[activation]


def _name(activation: str) -> str:
    checks.choice("activation", activation, (*ACTIVATIONS, *GATES))
    return GATES.get(activation, activation)


def _parameter(activation: str, param: float | None) -> float | None:
    default = ACTIVATIONS[_name(activation)].param
    if param is None:
        return default
    if default is None:
        _reject(activation, param)
    value = checks.real("param", param)
    if activation == "celu" and value == 0:
        raise ValueError("`param` is 0; the alpha of 'celu' must not be 0.")
    return value


def _reject(activation: Any, param: float | None) -> NoReturn:
    if not isinstance(activation, str | tuple) and not callable(activation):
        raise TypeError(
            f"`activation` is {activation!r}; it must be a name such as 'relu', a pair "
            "such as ('leaky_relu', 0.2), or a function of a scalar."
        )
    takers = ", ".join(repr(n) for n, a in ACTIVATIONS.items() if a.param is not None)
    raise ValueError(
        f"`param` is {param!r}, and `activation` {_called(activation)} takes none; it "
        f"is for {takers}. Bind the settings of a function with functools.partial."
    )


def _known(function: Function) -> str | None:
    """Return the name of a function of JAX, whose moments need no compilation."""
    path = names.public_name(function)
    if path in ("jax.nn.gelu", "jax.nn.leaky_relu", "jax.nn.elu", "jax.nn.celu"):
        # jax.nn.gelu is the tanh approximation unless `approximate` is False.
        return {"jax.nn.gelu": "gelu_tanh"}.get(path, path.rpartition(".")[2])
    module, _, name = path.rpartition(".")
    return name if module in ("jax.nn", "jax.numpy") and name in ACTIVATIONS else None


def _jax_function(name: str, param: float | None) -> Function:
    """Return JAX's form of a named activation, for its derivative at a kink."""
    others: dict[str, Function] = {
        "linear": lambda x: x,
        "identity": lambda x: x,
        "gelu": functools.partial(jax.nn.gelu, approximate=False),
        "gelu_tanh": jax.nn.gelu,
        "softsign": jax.nn.soft_sign,
        "prelu": jax.nn.leaky_relu,
        "erf": jax.lax.erf,
        "sin": jnp.sin,
    }
    function = others.get(name) or getattr(jax.nn, name)
    return function if param is None else lambda x: function(x, param)


def _positive(name: str, moment: float) -> float:
    if not moment > 0:
        raise ValueError(
            f"`activation` {name} is zero for every input, and has no gain: no factor "
            "makes a signal of zeros. Pass another activation, or a number as gain."
        )
    return moment


def _called(activation: Any) -> str:
    if isinstance(activation, str):
        return repr(activation)
    return names.public_name(activation)
