"""The table of all schemes, by name; initializers from names and configurations."""

import types
from collections.abc import Mapping
from typing import Any

from .._core import checks, numbers
from .._core.names import public_function, public_name
from .._initializer import around, stack
from .._initializer.base import TRACED_ADVICE, Initializer
from .._initializer.entry import Entry
from .._initializer.maker import check_called
from . import (
    adapters,
    combine,
    constant,
    coordinates,
    distributions,
    fan_based,
    hadamard,
    hypernetworks,
    layers,
    mimetic,
    recurrent,
    ssm,
    stft,
    structured,
    transformers,
    truncated,
    upsampling,
    variance_scaling,
    whitening,
)
from .orthogonal import kernels, looks_linear

_FAMILIES = (
    fan_based,
    variance_scaling,
    kernels,
    looks_linear,
    distributions,
    truncated,
    constant,
    structured,
    hadamard,
    layers,
    coordinates,
    upsampling,
    stft,
    recurrent,
    ssm,
    transformers,
    mimetic,
    adapters,
    hypernetworks,
    whitening,
    stack,
    around,
    combine,
)

registry: Mapping[str, Entry] = types.MappingProxyType(
    {entry.name: entry for family in _FAMILIES for entry in family.ENTRIES}
)

# Other names of the same schemes, in JAX and Flax.
_ALIASES = {
    "xavier_uniform": "glorot_uniform",
    "xavier_normal": "glorot_normal",
    "kaiming_uniform": "he_uniform",
    "kaiming_normal": "he_normal",
    "zeros_init": "zeros",
    "ones_init": "ones",
}


def get(name: str | Initializer, **settings: Any) -> Initializer:
    """Make an initializer by its name, for configuration files.

    Args:
      name: a name in `jinit.registry`, or an alias such as "xavier_uniform"; an
        initializer comes back as it is.
      **settings: what the maker takes.

    Raises:
      ValueError: for an unknown name, with the nearest ones.
      TypeError: for settings of an initializer that is made already.

    Example:
      >>> import jinit
      >>> jinit.get("he_normal") == jinit.he_normal()
      True
      >>> jinit.get("xavier", distribution="uniform")
      jinit.xavier(distribution='uniform')
    """
    if isinstance(name, Initializer):
        if settings:
            raise TypeError(
                f"`name` is {name!r}, made already, and takes no settings: "
                f"{sorted(settings)}. Give its name, or leave them out."
            )
        return name
    check_called("`name`", name)
    names = (*registry, *_ALIASES)
    checks.choice("name", name, names)
    return registry[_ALIASES.get(name, name)].maker(**settings)


def to_config(init: Initializer) -> dict[str, Any]:
    """An initializer as a plain dict: strings, numbers, booleans, lists and dicts.

    Raises:
      TypeError: for something that is not a jinit initializer.
      ValueError: for a setting that has no name, such as a lambda.

    Example:
      >>> import jinit
      >>> jinit.to_config(0.5 * jinit.he(mode="fan_out"))
      {'name': 'scaled', 'factor': 0.5, 'init': {'name': 'he', 'mode': 'fan_out'}}
    """
    check_called("`init`", init)
    if not isinstance(init, Initializer):
        raise TypeError(
            f"`init` is {init!r}, of type {type(init).__name__}; only jinit's own "
            "initializers have a configuration."
        )
    name, settings = init._spelling()
    return {"name": name} | {key: _plain(key, v) for key, v in settings.items()}


def from_config(config: Mapping[str, Any]) -> Initializer:
    """The initializer that `to_config` described, also after JSON or YAML.

    Raises:
      TypeError: for something that is not a mapping, or an argument that is unknown.
      ValueError: for a missing or unknown name.

    Example:
      >>> import jinit
      >>> jinit.from_config({"name": "xavier", "layout": "kkio"})
      jinit.xavier(layout='kkio')
    """
    if not isinstance(config, Mapping):
        raise TypeError(f"`config` is {config!r}; it must be a dict with a 'name'.")
    if "name" not in config:
        raise ValueError(
            f"`config` is {dict(config)!r}; it must have a 'name', one of those in "
            "jinit.registry."
        )
    settings = {key: _rebuilt(v) for key, v in config.items() if key != "name"}
    return get(config["name"], **settings)


def _plain(key: str, value: Any) -> Any:
    if numbers.is_traced(value):
        raise ValueError(
            f"`{key}` is {numbers.spell(value)}, which a configuration cannot hold. "
            f"{TRACED_ADVICE}"
        )
    if isinstance(value, Initializer):
        return to_config(value)
    if isinstance(value, complex):
        # JSON and YAML have no complex numbers.
        return {"real": value.real, "imag": value.imag}
    if isinstance(value, tuple):
        return [_plain(key, v) for v in value]
    if hasattr(value, "itemsize") and hasattr(value, "name"):
        return value.name
    if not callable(value):
        return value
    name = public_name(value)
    if name.startswith("jax."):
        return name
    raise ValueError(
        f"`{key}` is {value!r}, a function that a configuration cannot name; pass the "
        "activation by its name, or a function of jax.nn or jax.numpy."
    )


def _rebuilt(value: Any) -> Any:
    if isinstance(value, Mapping):
        if value.keys() == {"real", "imag"}:
            return complex(value["real"], value["imag"])
        return from_config(value)
    if isinstance(value, str) and value.startswith("jax."):
        return public_function(value)
    return tuple(map(_rebuilt, value)) if isinstance(value, list) else value
