"""A traced model -> its layers with weights: what scales each, and where it is met."""

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

# In the names of what is looked up or added: LSUV and its kin are about products.
_LOOKED_UP = "embed"


class Layer(NamedTuple):
    """A layer whose output is linear in one of its parameters, up to a bias.

    Parameters are numbers of leaves of the variables.
    """

    path: str
    kernel: int
    # What is multiplied: the kernel, or the gain of a weight norm around it.
    scale: int
    bias: int | None
    # The taps of its output, in the order of execution.
    taps: tuple[int, ...]
    # For each scan around it the axis of its parameters, or None where it is shared.
    axes: tuple[int | None, ...]
    # Axes of `scale` that the units lie along, counted from the end.
    units: tuple[int, ...]
    # Whether a vmap gives each of its members a kernel; an output has all of them.
    is_mapped: bool = False

    @property
    def is_shared(self) -> bool:
        """Whether the steps of a scan share its weights."""
        return None in self.axes


def layers_of(
    tapped: Tapped, variables: Any, seen: Mapping[str, ModuleCall], skip: PatternLike
) -> list[Layer]:
    """The layers in the order of execution, without those whose path `skip` matches.

    Raises:
      ValueError: if there are none, or a pattern of `skip` matches none.
    """
    leaves = trees.leaves(variables)
    found = list(_found(tapped, leaves, seen))
    # A predicate gets the path of the layer and its kernel.
    places = [
        trees.Leaf(tuple(layer.path.split("/")), leaves[layer.kernel].value)
        for layer in found
    ]
    skipped = patterns.skipped(skip, places)
    kept = [layer for layer, skips in zip(found, skipped, strict=True) if not skips]
    if not kept:
        raise ValueError(
            "the model has no layer to set: no named output is that of a module with a "
            "kernel. In a function, name a layer's output by the path of its weight; "
            "put a model that is one layer into a Sequential."
        )
    return kept


def left_by(layers: Sequence[Layer], variables: Any) -> tuple[str, ...]:
    """The paths of what looks like a weight, and is that of no layer."""
    own = {n for layer in layers for n in (layer.kernel, layer.scale, layer.bias)}
    leaves = trees.leaves(variables)
    others = [leaves[i] for i in trees.parameters_in(leaves) if i not in own]
    return tuple(
        leaf.module_path
        for leaf in others
        if len(_shape(leaf)) > 1 and leaf.parts[-1] not in ("bias", "scale")
    )


def placed(new: jax.Array, old: Any) -> jax.Array:
    """A new parameter, on the devices and in the parts that the old one was."""
    sharding = getattr(old, "sharding", None)
    if sharding is None or sharding.is_equivalent_to(new.sharding, new.ndim):
        return new
    return jax.device_put(new, sharding)


def _found(
    tapped: Tapped, leaves: Sequence[trees.Leaf], seen: Mapping[str, ModuleCall]
) -> Iterator[Layer]:
    own = _by_module(leaves)
    for path in dict.fromkeys(tap.name for tap in tapped.taps):
        met = seen.get(path)
        kernel = _kernel(own.get(path, {}), leaves, met)
        if kernel is None:
            continue
        taps = tuple(i for i, tap in enumerate(tapped.taps) if tap.name == path)
        first = tapped.taps[taps[0]]
        lengths = first.shape[: first.scans]
        name = leaves[kernel].parts[-1]
        shape = met.shapes.get(name) if met else None
        whole = _shape(leaves[kernel])
        axes = _axes(whole, shape, lengths)
        outside = len(whole) - sum(axis is not None for axis in axes)
        gain = _gain(own, path, name)
        units = met.units if met else (-1,)
        yield Layer(
            path,
            kernel,
            kernel if gain is None else gain,
            own[path].get("bias"),
            taps,
            axes,
            units if gain is None else tuple(range(-len(units), 0)),
            shape is not None and outside > len(shape),
        )


def _shape(leaf: trees.Leaf) -> tuple[int, ...]:
    return tuple(getattr(leaf.value, "shape", ()))


def _by_module(leaves: Sequence[trees.Leaf]) -> dict[str, dict[str, int]]:
    """The floating parameters of each module by their names.

    A weight of its own, such as "a" of {"a": w}, is a module of that name, too.
    """
    own: dict[str, dict[str, int]] = {}
    for number, leaf in enumerate(leaves):
        value: Any = leaf.value
        if not (hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jnp.floating)):
            continue
        if leaf.parts[:1] == ("batch_stats",):
            continue
        parts = trees.strip_collection(leaf.parts)
        own.setdefault("/".join(parts[:-1]), {})[parts[-1]] = number
        if len(_shape(leaf)) > 1:
            own.setdefault("/".join(parts), {"kernel": number})
    return own


def _kernel(
    own: Mapping[str, int], leaves: Sequence[trees.Leaf], met: ModuleCall | None
) -> int | None:
    """The leaf named "kernel", or the only one of two axes or more.

    A row in a module, as the token that a ViT puts before its others, is no matrix.
    """
    if "kernel" in own:
        return own["kernel"]
    matrices = [
        number
        for name, number in own.items()
        if len(_shape(leaves[number])) > 1
        and _LOOKED_UP not in name
        and (met is None or math.prod(met.shapes.get(name, (2, 1))[:-1]) > 1)
    ]
    return matrices[0] if len(matrices) == 1 else None


def _gain(own: Mapping[str, Mapping[str, int]], path: str, name: str) -> int | None:
    """The scale of a flax.linen.WeightNorm around a layer: a leaf beside it."""
    above, _, layer = path.rpartition("/")
    wanted = f"{layer}/{name}/scale"
    for module, leaves in own.items():
        if module.rpartition("/")[0] == above and wanted in leaves:
            return leaves[wanted]
    return None


def _axes(
    whole: tuple[int, ...], inside: tuple[int, ...] | None, lengths: tuple[int, ...]
) -> tuple[int | None, ...]:
    """For each scan the axis of a weight that it runs along.

    `inside` is the shape that a step meets; of a function it is not known, and the
    first axes are taken where they fit.
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
