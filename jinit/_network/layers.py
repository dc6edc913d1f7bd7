"""The layers of a traced model are found: their weights, and the taps of their outputs.

In a Linen or NNX model a layer is a module with a kernel whose output has a name (see
calls.py). In a function a layer is an output that the user named by the path of its
weight.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._core import patterns, trees
from .._core.patterns import PatternLike
from .calls import ModuleCall
from .taps import Tapped

# Parameters whose name contains this are looked up or added, never multiplied, so they
# are not kernels of layers.
_LOOKED_UP = "embed"


class Layer(NamedTuple):
    """A layer has an output that is linear in one of its parameters, up to a bias.

    Its parameters are given by their indices among the leaves of the variables.
    """

    path: str
    kernel: int
    # The parameter that scales the output: the kernel, or a weight norm's gain.
    scale: int
    bias: int | None
    # The taps of its output, in the order of execution.
    taps: tuple[int, ...]
    # For each scan around the layer, the axis of the parameters that the scan runs
    # along, or None if its steps share the parameters.
    axes: tuple[int | None, ...]
    # The axes of `scale` that the units lie along, counted from the end.
    units: tuple[int, ...]
    # Whether the layer is inside of a vmap with a kernel for each of its members. The
    # output of such a layer has all members at once.
    is_mapped: bool = False

    @property
    def is_shared(self) -> bool:
        """Tell whether the steps of a scan share its weights."""
        return None in self.axes


def layers_of(
    tapped: Tapped,
    variables: Any,
    calls: Mapping[str, ModuleCall],
    skip: PatternLike,
) -> list[Layer]:
    """Return the layers in the order of execution, without those that `skip` matches.

    Raises:
      ValueError: if no layer is left, or a pattern of `skip` matches no layer.
    """
    leaves = trees.leaves(variables)
    layers = list(_all_layers(tapped, leaves, calls))
    if not layers:
        raise ValueError(
            "the model has no layer to set: no named output is that of a module with a "
            "kernel. In a function, name a layer's output by the path of its weight; "
            "put a model that is one layer into a Sequential."
        )
    # A predicate gets the path of the layer and its kernel.
    places = [
        trees.Leaf(tuple(layer.path.split("/")), leaves[layer.kernel].value)
        for layer in layers
    ]
    skipped = patterns.skipped(skip, places)
    kept = [layer for layer, skips in zip(layers, skipped, strict=True) if not skips]
    if not kept:
        paths = [layer.path for layer in layers]
        raise ValueError(
            f"`skip` matches all layers, {paths}, so that no layer is left to set. "
            "Change `skip` so that it leaves one."
        )
    return kept


def left_by(layers: Sequence[Layer], variables: Any) -> tuple[str, ...]:
    """Return the paths of the parameters that look like weights and are in no layer."""
    in_layers = {n for layer in layers for n in (layer.kernel, layer.scale, layer.bias)}
    leaves = trees.leaves(variables)
    others = [leaves[i] for i in trees.parameters_in(leaves) if i not in in_layers]
    return tuple(
        leaf.module_path
        for leaf in others
        if len(_shape(leaf)) > 1 and leaf.parts[-1] not in ("bias", "scale")
    )


def placed(new: jax.Array, old: Any) -> jax.Array:
    """Return a new parameter on the devices, and in the parts, of the old one."""
    sharding = getattr(old, "sharding", None)
    if sharding is not None and not sharding.is_equivalent_to(new.sharding, new.ndim):
        new = jax.device_put(new, sharding)
    return new


def _all_layers(
    tapped: Tapped, leaves: Sequence[trees.Leaf], calls: Mapping[str, ModuleCall]
) -> Iterator[Layer]:
    modules = _by_module(leaves)
    for path in dict.fromkeys(tap.name for tap in tapped.taps):
        call = calls.get(path)
        kernel = _kernel(modules.get(path, {}), leaves, call)
        if kernel is None:
            continue
        taps = tuple(i for i, tap in enumerate(tapped.taps) if tap.name == path)
        first = tapped.taps[taps[0]]
        name = leaves[kernel].parts[-1]
        # The kernel as the module's call has it, without the axes of scans and vmaps.
        inside = call.shapes.get(name) if call else None
        whole = _shape(leaves[kernel])
        axes = _axes(whole, inside, first.shape[: first.scans])
        unscanned = len(whole) - sum(axis is not None for axis in axes)
        gain = _gain(modules, path, name)
        units = call.units if call else (-1,)
        yield Layer(
            path,
            kernel,
            kernel if gain is None else gain,
            modules[path].get("bias"),
            taps,
            axes,
            # A weight norm has a gain for each unit, and no other axes.
            units if gain is None else tuple(range(-len(units), 0)),
            inside is not None and unscanned > len(inside),
        )


def _shape(leaf: trees.Leaf) -> tuple[int, ...]:
    return tuple(getattr(leaf.value, "shape", ()))


def _by_module(leaves: Sequence[trees.Leaf]) -> dict[str, dict[str, int]]:
    """Return the indices of each module's floating parameters, by their names.

    A weight that is in no module, such as "a" in {"a": w}, is a module itself, too.
    """
    modules: dict[str, dict[str, int]] = {}
    for number, leaf in enumerate(leaves):
        value: Any = leaf.value
        if not (hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jnp.floating)):
            continue
        if leaf.parts[:1] == ("batch_stats",):
            continue
        parts = trees.strip_collection(leaf.parts)
        modules.setdefault("/".join(parts[:-1]), {})[parts[-1]] = number
        if len(_shape(leaf)) > 1:
            modules.setdefault("/".join(parts), {"kernel": number})
    return modules


def _kernel(
    parameters: Mapping[str, int],
    leaves: Sequence[trees.Leaf],
    call: ModuleCall | None,
) -> int | None:
    """Return the parameter named "kernel", or the only one of two or more axes."""
    if "kernel" in parameters:
        return parameters["kernel"]
    matrices = [
        number
        for name, number in parameters.items()
        if len(_shape(leaves[number])) > 1
        and _LOOKED_UP not in name
        # A single row, such as the token that a ViT puts before the others, is added
        # or concatenated, and not multiplied.
        and (call is None or math.prod(call.shapes.get(name, (2, 1))[:-1]) > 1)
    ]
    return matrices[0] if len(matrices) == 1 else None


def _gain(modules: Mapping[str, Mapping[str, int]], path: str, name: str) -> int | None:
    """Return the gain of a flax.linen.WeightNorm around a layer, or None.

    The gain belongs to a module beside the layer, and has the layer's path in its name.
    """
    above, _, layer = path.rpartition("/")
    gain = f"{layer}/{name}/scale"
    for module, parameters in modules.items():
        if module.rpartition("/")[0] == above and gain in parameters:
            return parameters[gain]
    return None


def _axes(
    whole: tuple[int, ...], inside: tuple[int, ...] | None, lengths: tuple[int, ...]
) -> tuple[int | None, ...]:
    """Return for each scan the axis of a weight that the scan runs along, or None.

    `inside` is the shape of the weight in one step. In a function it is not known, and
    the first axes are taken if their lengths fit.
    """
    scans = range(len(lengths))
    for count in range(len(lengths), -1, -1):
        for chosen in itertools.combinations(scans, count):
            added = tuple(lengths[i] for i in chosen)
            rest = whole[count:] if inside is None else inside
            if whole == added + rest and (inside is not None or len(rest) > 1):
                where = {scan: axis for axis, scan in enumerate(chosen)}
                return tuple(where.get(scan) for scan in scans)
    for scan in scans:
        for axis in range(len(whole)):
            without = whole[:axis] + whole[axis + 1 :]
            if inside == without and whole[axis] == lengths[scan]:
                return tuple(axis if other == scan else None for other in scans)
    return (None,) * len(lengths)
