"""The settings of a recipe are checked at the door, and brought into one form."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .._core import checks, numbers
from .._core.names import did_you_mean
from .._core.patterns import Pattern


def _size(argument: str, value: Any) -> Any:
    return checks.number(argument, value, minimum=0.0)


def _positive(argument: str, value: Any) -> Any:
    return checks.number(argument, value, positive=True)


# Settings that several recipes have, each with its check. A scheme checks them too,
# but it calls them by its own names, such as `stddev` and `upper`.
_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "num_layers": checks.count,
    "stacked": checks.boolean,
    "std": _size,
    "embedding_std": _size,
    "cut": _positive,
    "head_dim": checks.count,
    "head_size": checks.count,
}


def arguments_of(
    name: str,
    signature: inspect.Signature,
    roles: Sequence[str],
    args: Any,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the arguments of a recipe by name, patterns of roles among them.

    Lists, as JSON and YAML have them, become tuples, and numbers of NumPy those of
    Python.

    Raises:
      TypeError: if the recipe has no such setting, or a value has another type.
      ValueError: if a value is out of range.
    """
    _check_names(name, signature, roles, settings)
    arguments = dict(_bound(name, signature, args, settings))
    for key, value in arguments.items():
        # The defaults may be None, for what a network shows.
        if key in _CHECKS and value is not None:
            checked = _CHECKS[key](key, value)
            default = signature.parameters[key].default
            # A default in float32 is the default, and no number beside it.
            is_default = not numbers.is_traced(value) and value == default
            arguments[key] = default if is_default else checked
    for parameter in signature.parameters.values():
        if parameter.kind == parameter.VAR_KEYWORD:
            passed = arguments.pop(parameter.name, {})
            patterns = {k: v for k, v in passed.items() if v is not None}
            for role, pattern in patterns.items():
                Pattern.of(f"`{role}` of recipes.{name}", pattern)
            arguments |= patterns
    return {k: tupled(v) if _is_list(v) else v for k, v in arguments.items()}


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def tupled(value: Any) -> Any:
    """Return plain data with tuples for lists."""
    if isinstance(value, Mapping):
        return {key: tupled(entry) for key, entry in value.items()}
    return tuple(map(tupled, value)) if _is_list(value) else value


def _check_names(
    name: str,
    signature: inspect.Signature,
    roles: Sequence[str],
    settings: Mapping[str, Any],
) -> None:
    """Raise if a recipe has no such setting, which would be ignored in silence."""
    known = _names(signature)
    unknown = sorted(set(settings) - {*known, *roles})
    if not unknown:
        return
    near = "".join(did_you_mean(key, (*known, *roles), 0.6) for key in unknown)
    listed = ", ".join(map(repr, known)) or "none"
    sentence = f" It takes patterns for {', '.join(map(repr, roles))}." if roles else ""
    raise TypeError(
        f"recipes.{name} has no use for {', '.join(map(repr, unknown))}.{near} Its "
        f"settings are {listed}.{sentence}"
    )


def _names(signature: inspect.Signature) -> list[str]:
    """Return the names of the settings, without the one that stands for all roles."""
    return [p.name for p in signature.parameters.values() if p.kind != p.VAR_KEYWORD]


def _bound(
    name: str, signature: inspect.Signature, args: Any, settings: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return the arguments by name, or raise an error that names the recipe."""
    try:
        return signature.bind(*args, **settings).arguments
    except TypeError as error:
        known = ", ".join(map(repr, _names(signature)))
        problem = f"recipes.{name}: {error}. Its settings are {known}."
    # Outside of the handler, so that Python's error does not stand above this one.
    raise TypeError(problem)


def that_differ(
    signature: inspect.Signature, arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings that are not the defaults, and then the patterns of roles.

    Their order is that of the signature, however a user wrote them.
    """
    settings: dict[str, Any] = {}
    for name in _names(signature):
        default = signature.parameters[name].default
        value = arguments.get(name, default)
        if numbers.is_traced(value) or value != default:
            settings[name] = value
    roles = sorted(set(arguments) - set(signature.parameters))
    return settings | {role: arguments[role] for role in roles}
