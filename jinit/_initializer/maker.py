"""A maker takes settings, returns an initializer, and explains mistakes in its call.

The signature of a maker names every setting, also those that it hands on as
`**options`, so that `help` and editors show them and an error can list them.
"""

import dataclasses
import functools
import inspect
import numbers
import reprlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from .._core.names import did_you_mean
from .._core.names import public_name as _public_name
from .._scale.activations import ACTIVATIONS, GATES

F = TypeVar("F", bound=Callable[..., Any])

# Where a user finds a maker; the file that defines it is private.
_HOMES = ("jinit", "jinit.recurrent", "jinit.ssm")

# Settings that other libraries, and PyTorch above all, have for an activation.
_ACTIVATION_WORDS = ("activation", "nonlinearity", "act")
_SLOPE_WORDS = ("a", "alpha", "slope", "negative_slope", "param")

# Settings of some schemes that users also pass to others.
_ELSEWHERE = {"mode": "jinit.he, jinit.kaiming and jinit.variance_scaling"}


def maker(function: F) -> F:
    """Decorate a maker: a mistake in its call is an error that says what to write."""

    @functools.wraps(function)
    def make(*args: Any, **settings: Any) -> Any:
        # kernel_init=jinit.he instead of jinit.he() is the commonest mistake. Flax then
        # calls the maker with a key and a shape, deep inside of its own code.
        if (args or settings) and _is_call_of_initializer(args, settings):
            raise TypeError(_not_called(make))
        try:
            return function(*args, **settings)
        except TypeError:
            # Binding takes microseconds, so it waits until something went wrong.
            message = _misfit(make, args, settings)
            if message is None:
                raise
        # Outside of the handler, so that Python's error does not stand above this one.
        raise TypeError(message)

    # A maker is a plain function, which nothing else tells from an initializer of a
    # user.
    make._is_maker = True  # type: ignore[attr-defined]
    return make  # type: ignore[return-value]


def spelled(
    record: type[Any], texts: Mapping[str, str], *, but: tuple[str, ...] = ()
) -> Callable[[F], F]:
    """Name in a function's signature and docstring what it takes as `**options`.

    Args:
      record: the dataclass that the options become, which has their defaults.
      texts: the line of the docstring for each option.
      but: options that the function itself decides.
    """
    fields = {field.name: field for field in dataclasses.fields(record)}

    def spell(function: F) -> F:
        signature = inspect.signature(function)
        explicit = [p for p in signature.parameters.values() if p.kind != p.VAR_KEYWORD]
        names = [n for n in texts if n not in signature.parameters and n not in but]
        options = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=fields[name].default,
                annotation=fields[name].type,
            )
            for name in names
        ]
        signature = signature.replace(parameters=[*explicit, *options])
        # `inspect.signature` and `help` read this attribute before the code of the
        # function.
        function.__signature__ = signature  # type: ignore[attr-defined]
        function.__doc__ = _with_options(function.__doc__, [texts[n] for n in names])
        return function

    return spell


def _with_options(doc: str | None, texts: list[str]) -> str | None:
    """Add a line for each option to a docstring, below the line of `**options`.

    From Python 3.13 on docstrings come without their indentation.
    """
    if doc is None:  # python -OO
        return None
    lines = doc.split("\n")
    first = next(i for i, line in enumerate(lines) if "**options:" in line)
    indent = len(lines[first]) - len(lines[first].lstrip())
    last = first + 1
    while lines[last].startswith(" " * (indent + 1)):
        last += 1
    nested = [" " * (indent + 2) + row for text in texts for row in text.split("\n")]
    return "\n".join(lines[:last] + nested + lines[last:])


def check_called(argument: str, value: Any) -> None:
    """Raise if the value of `argument` is a maker, and not an initializer."""
    if getattr(value, "_is_maker", False):
        name = public_name(value)
        raise TypeError(
            f"{argument} is {name}, which makes an initializer and is not one itself. "
            f"Call it first: {name}({_required(value)})."
        )


def public_name(make: Callable[..., Any]) -> str:
    """Return the name by which users find a maker, such as `jinit.ssm.hippo_legs`."""
    name = make.__name__
    for home in _HOMES:
        # `jinit` may be in the middle of its own import, so it is not imported from
        # here.
        if getattr(sys.modules.get(home), name, None) is make:
            return f"{home}.{name}"
    return f"jinit.{name}"


def _is_call_of_initializer(args: tuple[Any, ...], settings: dict[str, Any]) -> bool:
    """Tell whether the arguments are the (key, shape, ...) of an initializer.

    A typed key is never a setting. A legacy key is an array of uint32, as the value of
    a constant may be, so such an array counts as a key only if a shape follows it.
    """
    first = args[0] if args else settings.get("key")
    if not isinstance(first, jax.Array | np.ndarray):
        return False
    if jnp.issubdtype(first.dtype, jax.dtypes.prng_key):
        return True
    second = args[1] if len(args) > 1 else settings.get("shape")
    is_shape = isinstance(second, tuple | list | numbers.Integral)
    return first.dtype == np.uint32 and first.ndim > 0 and is_shape


def _not_called(make: Callable[..., Any]) -> str:
    name = public_name(make)
    call = f"{name}({_required(make)})"
    returned = inspect.signature(make).return_annotation
    if getattr(returned, "__name__", "") == "Initializer":
        begin, end = "makes an initializer", f"Call it first: kernel_init={call}."
    else:
        begin, end = "is not an initializer", f"Call it with its settings: {call}."
    return (
        f"{name} {begin}; it was called with a PRNG key and a shape as if it were one. "
        + end
    )


def _required(make: Callable[..., Any]) -> str:
    parameters = inspect.signature(make).parameters.values()
    plain = (p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL))
    return ", ".join(p.name for p in plain if p.default is p.empty)


def _misfit(
    make: Callable[..., Any], args: tuple[Any, ...], settings: dict[str, Any]
) -> str | None:
    """Say which arguments a maker does not take; None where it takes all of them."""
    signature = inspect.signature(make)
    try:
        signature.bind(*args, **settings)
        return None
    except TypeError as error:
        problem = str(error)
    name, parameters = public_name(make), signature.parameters
    positional = [p for p in parameters.values() if p.kind != p.KEYWORD_ONLY]
    surplus = args[len(positional) :]
    unknown = {key: v for key, v in settings.items() if key not in parameters}
    sentences = []
    if surplus:
        taken = ", ".join(f"`{p.name}`" for p in positional)
        by_position = f"only {taken}" if taken else "nothing"
        sentences.append(
            f"{name} got {', '.join(map(reprlib.repr, surplus))} by position, and "
            f"takes {by_position} by position."
        )
    sentences += [_no_setting(name, key, list(parameters)) for key in unknown]
    if not sentences:
        sentences.append(f"{name}: {problem}.")
    plain = signature.replace(
        parameters=[p.replace(annotation=p.empty) for p in parameters.values()],
        return_annotation=signature.empty,
    )
    sentences.append(f"Its settings are {plain}.")
    # `he_uniform` and its kin count fans, and have no gain of their own.
    counts = "gain" in parameters or "in_axis" in parameters
    if counts and (activation := _activation(args, surplus, unknown)):
        law = ", distribution='uniform'" if name.endswith("_uniform") else ""
        sentences.append(
            "For the scale that an activation needs call "
            f"jinit.kaiming({activation}{law})."
        )
    return " ".join(sentences)


def _no_setting(name: str, key: str, known: list[str]) -> str:
    # torch's orthogonal_(w, gain) names by gain what jinit and JAX name by scale.
    is_scale = key == "gain" and "scale" in known
    near = " Did you mean 'scale'?" if is_scale else did_you_mean(key, known)
    sentence = f"{name} has no setting `{key}`.{near}"
    return sentence + (f" {_ELSEWHERE[key]} have it." if key in _ELSEWHERE else "")


def _activation(
    args: tuple[Any, ...], surplus: tuple[Any, ...], unknown: dict[str, Any]
) -> str | None:
    """Return the activation that the arguments name, spelled for `kaiming`."""
    named = [*args, *(unknown[w] for w in _ACTIVATION_WORDS if w in unknown)]
    names = [v for v in named if isinstance(v, str) and v in {*ACTIVATIONS, *GATES}]
    slopes = [*surplus, *(unknown[w] for w in _SLOPE_WORDS if w in unknown)]
    numeric = [v for v in slopes if isinstance(v, int | float)]
    if numeric:
        name = names[0] if names else "leaky_relu"
        takes_one = name in ACTIVATIONS and ACTIVATIONS[name].param is not None
        return repr((name, numeric[0]) if takes_one else name)
    functions = [_public_name(v) for v in named if callable(v)]
    return next(iter([*map(repr, names), *functions]), None)
