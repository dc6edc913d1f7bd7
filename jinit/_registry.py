"""The table of all schemes: name -> how to make it, its law, when to use it, its "
"paper."""

import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Any

from . import _checks, _constant, _distributions, _orthogonal, _schemes, _variance
from ._initializer import Initializer, Scaled

_GLOROT = "Glorot and Bengio 2010"
_HE = "He, Zhang, Ren and Sun 2015"
_LECUN = "LeCun, Bottou, Orr and Mueller 1998"
_SELU = "Klambauer, Unterthiner, Mayr and Hochreiter 2017"
_SAXE = "Saxe, McClelland and Ganguli 2013"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One scheme: its maker, and what to know before using it."""

    name: str
    maker: Callable[..., Any]
    law: str
    formula: str
    use: str
    reference: str
    pitfall: str = ""


_ENTRIES = (
    Entry(
        "xavier",
        _schemes.xavier,
        "normal, uniform or truncated",
        "std = sqrt(2 / (n_in + n_out))",
        "tanh, sigmoid, linear layers",
        _GLOROT,
        "halves the variance in every relu layer",
    ),
    Entry(
        "he",
        _schemes.he,
        "normal, uniform or truncated",
        "std = sqrt(2 / n_in)",
        "relu, leaky relu",
        _HE,
        "doubles the variance of the input in a first layer",
    ),
    Entry(
        "kaiming",
        _schemes.kaiming,
        "normal, uniform or truncated",
        "std = gain(f) / sqrt(n), or sqrt(2 / (n + f'(0)))",
        "any activation: gelu, silu, your own",
        _HE,
        "the second rule, the source article's, hardly rescales",
    ),
    Entry(
        "lecun",
        _schemes.lecun,
        "normal, uniform or truncated",
        "std = sqrt(1 / n_in)",
        "selu, linear layers, a first layer",
        _LECUN,
    ),
    Entry(
        "variance_scaling",
        _variance.variance_scaling,
        "normal, uniform or truncated",
        "std = sqrt(scale / n)",
        "what the presets below are made of",
        _HE,
        "overlapping axes pass, as in JAX",
    ),
    Entry(
        "glorot_uniform",
        _variance.glorot_uniform,
        "uniform",
        "limit = sqrt(6 / (n_in + n_out))",
        "as `xavier`",
        _GLOROT,
    ),
    Entry(
        "glorot_normal",
        _variance.glorot_normal,
        "truncated at 2 sigma",
        "std = sqrt(2 / (n_in + n_out))",
        "as `xavier`",
        _GLOROT,
    ),
    Entry(
        "lecun_uniform",
        _variance.lecun_uniform,
        "uniform",
        "limit = sqrt(3 / n_in)",
        "as `lecun`",
        _LECUN,
    ),
    Entry(
        "lecun_normal",
        _variance.lecun_normal,
        "truncated at 2 sigma",
        "std = sqrt(1 / n_in)",
        "selu; Flax's default kernel",
        _SELU,
    ),
    Entry(
        "he_uniform",
        _variance.he_uniform,
        "uniform",
        "limit = sqrt(6 / n_in)",
        "as `he`",
        _HE,
    ),
    Entry(
        "he_normal",
        _variance.he_normal,
        "truncated at 2 sigma",
        "std = sqrt(2 / n_in)",
        "as `he`",
        _HE,
    ),
    Entry(
        "orthogonal",
        _orthogonal.orthogonal,
        "Haar",
        "W'W = scale^2 or WW' = scale^2",
        "deep linear and tanh networks, recurrent kernels",
        _SAXE,
        "on a reshaped convolution it keeps no norm: use `delta_orthogonal`",
    ),
    Entry(
        "delta_orthogonal",
        _orthogonal.delta_orthogonal,
        "Haar at the centre tap, else 0",
        "W_centre W_centre' = scale^2",
        "deep convolutions without normalization",
        "Xiao, Bahri, Sohl-Dickstein, Schoenholz and Pennington 2018",
        "needs n_out >= n_in",
    ),
    Entry(
        "normal",
        _distributions.normal,
        "normal",
        "std = stddev",
        "embeddings, a std that you know",
        "-",
        "knows nothing of the shape",
    ),
    Entry(
        "truncated_normal",
        _distributions.truncated_normal,
        "truncated at `lower`, `upper`",
        "std = 0.8796 stddev at +-2",
        "a std that you know, without tails",
        "-",
        "stddev is the one before the truncation",
    ),
    Entry(
        "uniform",
        _distributions.uniform,
        "uniform on [0, scale)",
        "std = scale / sqrt(12)",
        "positive parameters",
        "-",
        "not centred: not for weights",
    ),
    Entry(
        "constant",
        _constant.constant,
        "constant",
        "w = value",
        "biases, scales",
        "-",
        "equal weights stay equal: not for kernels",
    ),
    Entry(
        "zeros",
        _constant.zeros_init,
        "constant",
        "w = 0",
        "biases, the last layer of a residual branch",
        "-",
        "a network of zeros does not learn",
    ),
    Entry(
        "ones",
        _constant.ones_init,
        "constant",
        "w = 1",
        "scales of normalization layers",
        "-",
    ),
)

registry: Mapping[str, Entry] = types.MappingProxyType({e.name: e for e in _ENTRIES})

# Other names of the same schemes, in JAX and Flax.
_ALIASES = {
    "xavier_uniform": "glorot_uniform",
    "xavier_normal": "glorot_normal",
    "kaiming_uniform": "he_uniform",
    "kaiming_normal": "he_normal",
    "zeros_init": "zeros",
    "ones_init": "ones",
}


def get(name: str, **settings: Any) -> Initializer:
    """Make an initializer by its name, for configuration files.

    Args:
      name: a name in `jinit.registry`, or an alias such as "xavier_uniform".
      **settings: what the maker takes.

    Raises:
      ValueError: for an unknown name, with the nearest ones.

    Example:
      >>> import jinit
      >>> jinit.get("he_normal") == jinit.he_normal()
      True
      >>> jinit.get("xavier", distribution="uniform")
      jinit.xavier(distribution='uniform')
    """
    names = (*registry, *_ALIASES)
    _checks.choice("name", name, names)
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
    if config["name"] == Scaled._name:
        return settings["factor"] * settings["init"]
    return get(config["name"], **settings)


def _plain(key: str, value: Any) -> Any:
    if isinstance(value, Initializer):
        return to_config(value)
    if isinstance(value, tuple):
        return [_plain(key, v) for v in value]
    if hasattr(value, "itemsize") and hasattr(value, "name"):
        return value.name
    if not callable(value):
        return value
    name = _checks.public_name(value)
    if name.startswith("jax."):
        return name
    raise ValueError(
        f"`{key}` is {value!r}, a function that a configuration cannot name; pass the "
        "activation by its name, or a function of jax.nn or jax.numpy."
    )


def _rebuilt(value: Any) -> Any:
    if isinstance(value, Mapping):
        return from_config(value)
    if isinstance(value, str) and value.startswith("jax."):
        return _checks.public_function(value)
    return _tupled(value)


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, list) else value
