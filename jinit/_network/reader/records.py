"""The records of a reading: parameters, layers and residual branches."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from ..._scale.fans import Fans


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter: what it does in the network, and how it is laid out.

    `roles` say what it does; `layout` has a letter for each axis, as in `jinit.fans`,
    or is None where the parameter is not multiplied. `inputs` are the paths of the
    parameters that feed it, or "data"; `activation` is what its inputs went through
    since then: None, a name, or the traced function of one number. `reason` says why a
    parameter has the role "other".
    """

    path: str
    shape: tuple[int, ...]
    dtype: Any
    roles: frozenset[str]
    layout: str | None = None
    fans: Fans | None = None
    groups: int = 1
    inputs: tuple[str, ...] = ()
    activation: Any = None
    uses: int = 0
    members: int = 1
    reason: str | None = None

    @property
    def ndim(self) -> int:
        """The number of axes, as an array has it."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of entries, as an array has it."""
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class Layer:
    """One product of data with a parameter.

    `path` is that of its weight. `parameters` are all parameters that the weight is
    made of, such as the two factors of an adapter. `count` says how often the
    product is executed, which is the length of the scans around it.
    """

    path: str
    kind: str
    parameters: tuple[str, ...]
    roles: frozenset[str]
    layout: str | None
    fans: Fans | None
    inputs: tuple[str, ...]
    activation: Any
    count: int


@dataclasses.dataclass(frozen=True)
class Branch:
    """One residual branch, whose result is added to the stream.

    `begin` is what feeds the stream where the branch leaves it, `layers` are the paths
    of its weights, `ends` are those whose products are added. `count` says how often
    the sum is executed, which is the length of the scans that carry the stream.
    """

    begin: tuple[str, ...]
    layers: tuple[str, ...]
    ends: tuple[str, ...]
    count: int


@dataclasses.dataclass(frozen=True)
class Reading:
    """Everything that is read from the equations of a network."""

    parameters: Mapping[str, Parameter]
    layers: tuple[Layer, ...]
    branches: tuple[Branch, ...]
    depth: int
