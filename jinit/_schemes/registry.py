"""The registry lists all schemes by name.

`get` and `from_config` make an initializer from a name, and `to_config` describes an
initializer by its name and settings.
"""

import importlib
import pkgutil
import types
from collections.abc import Mapping
from typing import Any

from .. import _initializer, _schemes
from .._core import checks, numbers
from .._core.names import public_function, public_name
from .._initializer.base import TRACED_ADVICE, Initializer
from .._initializer.maker import check_called
from .._initializer.scheme import SCHEMES, Entry


def _all_schemes() -> dict[str, Entry]:
    """Import every file that can hold a scheme; return the schemes sorted by name."""
    for package in (_initializer, _schemes):
        for file in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(file.name)
    # Files register their schemes when they are imported, in an order that depends on
    # which name of jinit a program used first.
    return dict(sorted(SCHEMES.items()))


# A view that cannot be written to: one program's change would be seen by all.
registry: Mapping[str, Entry] = types.MappingProxyType(_all_schemes())

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
    """Make the initializer of a name, for configuration files.

    Args:
      name: a name in `jinit.registry`, or an alias such as "xavier_uniform"; an
        initializer is returned unchanged.
      **settings: the arguments of the scheme's maker.

    Raises:
      ValueError: if the name is unknown; the message has the nearest ones.
      TypeError: if there are settings and `name` is an initializer.

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
                f"`name` is {name!r}, an initializer, which takes no settings: "
                f"{sorted(settings)}. Give the name of a scheme, or no settings."
            )
        return name
    check_called("`name`", name)
    names = (*registry, *_ALIASES)
    checks.choice("name", name, names)
    init: Initializer = registry[_ALIASES.get(name, name)].maker(**settings)
    return init


def to_config(init: Initializer) -> dict[str, Any]:
    """Describe an initializer by strings, numbers, booleans, lists and dicts alone.

    Args:
      init: an initializer from jinit.

    Returns:
      A dict that JSON and YAML can hold, with the maker's "name" and its settings.

    Raises:
      TypeError: if `init` is not an initializer from jinit.
      ValueError: if a setting is a function without a name, such as a lambda.

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
    """Make the initializer that `to_config` described, also after JSON or YAML.

    Args:
      config: a dict with the "name" of a scheme and the settings of its maker.

    Raises:
      TypeError: if `config` is not a mapping, or has a setting that is unknown.
      ValueError: if the name is missing or unknown.

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
    # JSON and YAML have no tuples, and `_rebuilt` makes tuples of all lists again.
    if isinstance(value, tuple):
        return [_plain(key, v) for v in value]
    # A dtype of NumPy, by its name, which bfloat16 has as well.
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
