"""A network prints as a table of its parameters, in the order of execution."""

from collections.abc import Sequence
from typing import Any

from .._core.results import Table
from .reader.records import Parameter

_HEAD = (
    "parameter", "shape", "role", "layout", "fan_in", "fan_out", "input", "after",
    "uses",
)  # fmt: skip

# Roles in the order in which they are shown; the last few only where no other is.
_SHOWN = (
    "embedding", "input", "query", "key", "value", "attention_output", "gate", "up",
    "router", "expert", "recurrent", "modulation", "residual_output", "readout",
    "temperature", "logit_bias", "convolution", "bias", "scale", "other",
)  # fmt: skip


def network_table(net: Any) -> Table:
    """Return the table of a network: a line for each parameter, then notes."""
    return Table(_HEAD, _lines(net), below=_notes(net))


def _lines(net: Any) -> list[tuple[str, ...]]:
    kernels = [path for path, p in net.parameters.items() if p.fans is not None]
    modules = [path.rpartition("/")[0] for path in kernels]
    return [_cells(parameter, modules) for parameter in net.parameters.values()]


def _cells(parameter: Parameter, modules: Sequence[str]) -> tuple[str, ...]:
    fans = parameter.fans
    # Each output of a lookup is one entry of the table.
    is_lookup = "embedding" in parameter.roles
    return (
        parameter.path,
        str(parameter.shape),
        ", ".join(shown_roles(parameter.roles)),
        parameter.layout or "-",
        "-" if fans is None or is_lookup else str(fans.fan_in),
        "-" if fans is None else str(fans.fan_out),
        _inputs(parameter.inputs, modules),
        "-" if parameter.activation is None else str(parameter.activation),
        str(parameter.uses),
    )


def shown_roles(roles: frozenset[str]) -> list[str]:
    """Return the telling roles, or "hidden" or "matrix" where there are no others."""
    shown = [role for role in _SHOWN if role in roles]
    return shown or sorted(roles - {"matrix"}) or sorted(roles)


def _inputs(paths: Sequence[str], modules: Sequence[str]) -> str:
    """Return what feeds a parameter, the nearest last, by modules of one kernel."""
    names = []
    for path in dict.fromkeys(paths):
        module = path.rpartition("/")[0]
        names.append(module if module and modules.count(module) <= 1 else path)
    if len(names) > 3:
        names = [*names[:1], "...", *names[-1:]]
    return ", ".join(names) or "-"


def _notes(net: Any) -> list[str]:
    total = sum(parameter.size for parameter in net.parameters.values())
    additions = "residual addition" if net.depth == 1 else "residual additions"
    notes = [f"{total:,} numbers, {len(net.layers)} layers, {net.depth} {additions}"]
    for parameter in net.parameters.values():
        if parameter.reason:
            notes.append(f"- {parameter.path}: {parameter.reason}")
    return notes
