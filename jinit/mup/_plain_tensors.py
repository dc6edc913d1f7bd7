"""Tensors of a parametrization are plain data when saved, and text in a table."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from ._factors import Factors, Tensor
from ._matrices import as_matrix


def config_of(tensor: Tensor) -> dict[str, Any]:
    """Return a tensor as plain data."""
    # Saved parametrizations keep the first name of the class.
    config = dataclasses.asdict(tensor).items()
    return {"role" if k == "mup_class" else k: v for k, v in config}


def tensor_from(config: Mapping[str, Any]) -> Tensor:
    """Return the tensor that `config_of` described, also after JSON."""
    fields = {"mup_class" if k == "role" else k: v for k, v in config.items()}
    # JSON has no NaN, and `plain` wrote None for it.
    factors = {k: math.nan if v is None else v for k, v in config["factors"].items()}
    sequences = {
        name: None if config[name] is None else tuple(config[name])
        for name in ("parts", "shape", "base", "axes")
    }
    # Version 0.1 saved neither roles nor matrices.
    roles = config.get("roles")
    return Tensor(
        **{
            **fields,
            **sequences,
            "factors": Factors(**factors),
            "roles": None if roles is None else tuple(roles),
            "matrix": as_matrix(config.get("matrix")),
        }
    )


def cell_of(value: Any) -> str:
    """Return a value of a row as the text of a table's cell."""
    if not isinstance(value, float):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.4g}"
