"""A reading is a set of records: parameters, layers, residual branches and taps."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jax.extend.core import JaxprEqn

from ..._scale.fans import Fans

# The reason of a parameter that the network does not use.
UNUSED = "it is never used"


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


class Loop(NamedTuple):
    """A Loop is a scan around the residual stream, by its number in the network.

    `reverse` says that its steps run from the last to the first.
    """

    number: int
    length: int
    reverse: bool


class BranchPlace(NamedTuple):
    """A BranchPlace says where a residual branch stands in the order of execution.

    Parallel branches that are summed first have one `sum`. `loops` are the scans that
    carry the stream there, the outermost first. `slices` are the parameters of which
    the branch uses one entry of an axis: the path, the axis and the index.
    """

    sum: int
    loops: tuple[Loop, ...]
    slices: frozenset[tuple[str, int, int]] = frozenset()


class Part(NamedTuple):
    """A Part is a parameter of a layer, by its number, with the meaning of its axes.

    `scans` has for each scan around the layer the axis of the parameter that the scan
    runs along, or None if its steps share the parameter. `dims` are pairs: a dimension
    of the layer's output within one step, and the axis that it runs along.
    """

    number: int
    scans: tuple[int | None, ...]
    dims: tuple[tuple[int, int], ...]


class Adjustable(NamedTuple):
    """An Adjustable is a layer whose output follows a factor of one parameter.

    A bias does not follow it. `scale` is that parameter: the kernel, or the gain of a
    weight norm. `members` and `units` are
    dimensions of the output: those of independent copies, such as experts, and those of
    units; None says that the units cannot be told. `taps` are the numbers of its
    outputs, in the order of execution.
    """

    path: str
    kernel: Part
    scale: Part
    bias: Part | None
    members: tuple[int, ...]
    units: tuple[int, ...] | None
    taps: tuple[int, ...] = ()

    @property
    def is_shared(self) -> bool:
        """Tell whether the steps of a scan share its weights."""
        return None in self.kernel.scans


class Tap(NamedTuple):
    """A Tap is a value that can be recorded or changed while the equations run.

    `kind` is "layer", "module", "name", "activation", "logits" or "output". `place` is
    the equation that gives the value, behind the calls and scans around it; `number`
    says which of its results the value is, or which operand. The shape begins with the
    lengths of the scans around the value.
    """

    name: str
    kind: str
    place: tuple[JaxprEqn, ...]
    number: int
    is_operand: bool
    shape: tuple[int, ...]
    dtype: Any
    # The number of scans around the value, whose axes are the first ones.
    scans: int
    # The dimensions of logits that a softmax runs along, and those of the heads.
    keys: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()


class Fed(NamedTuple):
    """A Fed is the input of a layer: the operand of its product, with the summed axes.

    `dims` are pairs: a dimension of the operand, and the axis of the kernel that is
    summed over with it.
    """

    tap: Tap
    dims: tuple[tuple[int, int], ...]


class Product(NamedTuple):
    """A Product is one execution of a layer, with what it reads and what it gives.

    `layer` is the number of its record, `output` that of its tap. `input` is the
    operand of the product, if it is known, and `units` are the dimensions of the
    operand that are summed. `shared` says for each scan around it whether the steps of
    the scan share its weights. `is_modulated` says that data have scaled or chosen the
    kernel.
    """

    layer: int
    output: int
    input: Tap | None
    units: tuple[int, ...]
    shared: tuple[bool, ...]
    is_modulated: bool = False


class Sum(NamedTuple):
    """A Sum is a residual sum: its two operands, and the layers of the branch."""

    shortcut: Tap
    branch: Tap
    layers: tuple[str, ...]
    ends: tuple[str, ...]


class Passage(NamedTuple):
    """A Passage has the functions before and after a parameter is applied to data.

    `function` is the function of one number that its entries went through. `shifts` are
    the paths of the biases that were added to these data before, and `mixes` the paths
    of the parameters that multiplied these data, or a summand of them, entry by entry.
    `after` are the names of the functions that data go through after the parameter was
    added to them.
    """

    function: Callable[[Any], Any]
    shifts: tuple[str, ...]
    mixes: tuple[str, ...]
    after: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Reading:
    """A Reading has everything that is read from the equations of a network.

    `taps` are in the order of execution. `adjustable` are the layers whose outputs can
    be set.
    """

    parameters: Mapping[str, Parameter]
    layers: tuple[Layer, ...]
    branches: tuple[Branch, ...]
    depth: int
    taps: tuple[Tap, ...]
    adjustable: tuple[Adjustable, ...]
    # The input of each adjustable layer, where it is known.
    inputs: tuple[Fed | None, ...]
    # The numbers of the parameters that are biases of layers; and for each parameter
    # the number of its axes without those that steps of scans choose from.
    biases: frozenset[int]
    inner_axes: tuple[int, ...]
    # The layers in the order of execution, as far as they can be recorded; and the
    # residual sums.
    products: tuple[Product, ...]
    sums: tuple[Sum, ...]
    # The place of each branch; and for each parameter of a layer the axes that scans
    # run along, by the numbers of the scans, or None if its steps share the parameter.
    places: tuple[BranchPlace, ...] = ()
    steps: Mapping[str, Mapping[int, int | None]] = dataclasses.field(
        default_factory=dict
    )
    # Path of a parameter -> the functions before and after its first use.
    passages: Mapping[str, Passage] = dataclasses.field(default_factory=dict)
    # The layers whose outputs cannot be recorded: the path, and where the layer lies.
    hidden: tuple[tuple[str, str], ...] = ()
    # The axis of the window of each parameter whose slices multiply shifts of one value
    # and are added: a convolution that is written as a loop.
    windows: Mapping[str, int] = dataclasses.field(default_factory=dict)
