"""Trees have leaves at paths, and a path decides the key that its leaf draws with.

The parts of a path are the keys, attributes and indices of `jax.tree_util` on the way
to a leaf, as text. The boxes that Flax puts around arrays, nnx.Variable and
nn.Partitioned, are not parts of a path: their attribute has had several names over the
years, and a path must outlive them.
"""

import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_PARAMS = ("params",)
_BOXES = {"AxisMetadata", "Variable", "VariableState"}


class Leaf(NamedTuple):
    """A Leaf is a value of a tree, with its path.

    `roles` say what the leaf does in a network, and are None where no network was read.
    """

    parts: tuple[str, ...]
    value: Any
    roles: frozenset[str] | None = None

    @property
    def path(self) -> str:
        """Return the path as one text."""
        return "/".join(self.parts)

    @property
    def module_path(self) -> str:
        """Return the path without "params", as in the names of modules."""
        return "/".join(strip_collection(self.parts))

    def __str__(self) -> str:
        shape = getattr(self.value, "shape", None)
        return repr(self.path) if shape is None else f"{self.path!r} {tuple(shape)}"


def leaves(tree: Any, is_leaf: Any = lambda _: False) -> list[Leaf]:
    """Return the leaves of a tree, in JAX's order.

    Raises:
      ValueError: if two leaves have the same path.
    """
    every = list(_walk(tree, (), is_leaf))
    paths = set()
    for leaf in every:
        # Two leaves at one path would get one key, and with equal rules equal numbers.
        if leaf.parts in paths:
            raise ValueError(
                f"the tree has two leaves at {leaf.path!r}; register its nodes with "
                "keys that tell them apart (jax.tree_util.register_dataclass)."
            )
        paths.add(leaf.parts)
    return every


def _walk(tree: Any, above: tuple[str, ...], is_leaf: Any) -> Iterable[Leaf]:
    boxed = is_box(tree) and not is_leaf(tree)

    def stops(node: Any) -> bool:
        return is_leaf(node) or (is_box(node) and node is not tree)

    for keys, node in jax.tree_util.tree_flatten_with_path(tree, stops)[0]:
        parts = above + tuple(map(_part, keys[1:] if boxed else keys))
        if node is not tree and is_box(node) and not is_leaf(node):
            yield from _walk(node, parts, is_leaf)
        else:
            yield Leaf(parts, node)


def is_box(node: Any) -> bool:
    """Tell whether a node is one of Flax's boxes around an array."""
    kind: Any = type(node)
    return _is_box_type(kind)


@functools.lru_cache(maxsize=1024)
def _is_box_type(kind: type) -> bool:
    return any(
        base.__name__ in _BOXES and base.__module__.partition(".")[0] == "flax"
        for base in kind.__mro__
    )


def _part(key: Any) -> str:
    """Return one part of a path, without the brackets and dots that JAX prints."""
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def digest(parts: tuple[str, ...]) -> tuple[np.uint32, np.uint32]:
    """Return 64 bits of a path, the same in every process and on every machine.

    Each part is preceded by its length, so ("ab", "c") and ("a", "bc") differ.
    """
    # Python's own hash of a text differs from process to process. The key of a dict may
    # be any text, also one with a lone surrogate, which plain UTF-8 refuses.
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    text = b"".join(len(part).to_bytes(8, "little") + part for part in encoded)
    low, high = np.frombuffer(hashlib.blake2b(text, digest_size=8).digest(), "<u4")
    return np.uint32(low), np.uint32(high)


def key_of(key: jax.Array, parts: tuple[str, ...]) -> jax.Array:
    """Return the root key, folded with the digest of a path."""
    folded: jax.Array = _fold(key, *digest(parts))
    return folded


# `fold_in` takes 32 bits. With 32 alone, two of 10,000 leaves would share a key in one
# model of a hundred, so two calls fold in 64 bits.
@jax.jit
def _fold(key: jax.Array, low: np.uint32, high: np.uint32) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(key, low), high)


def listed(lines: Iterable[Any]) -> str:
    """Return a text with an indented line for each item."""
    return "".join(f"\n  {line}" for line in lines)


def struct(value: Any) -> jax.ShapeDtypeStruct | None:
    """Return the shape and dtype of an array or a number; None for any other leaf."""
    if is_number(value):
        # A TrainState begins with step=0, which `jit` takes for an array, too.
        return jax.ShapeDtypeStruct((), jax.dtypes.result_type(value))
    if not (hasattr(value, "shape") and hasattr(value, "dtype")):
        return None
    if isinstance(value, np.ndarray) and value.dtype.kind in "OSUMm":
        return None  # JAX has no arrays of texts, dates or objects.
    # The sharding of a struct is a request. That of an array only says where it lies.
    sharding = value.sharding if isinstance(value, jax.ShapeDtypeStruct) else None
    return jax.ShapeDtypeStruct(value.shape, canonical(value.dtype), sharding=sharding)


# A tree may hold PRNG keys, whose dtype `canonicalize_dtype` refuses.
def canonical(dtype: Any) -> Any:
    """Return the dtype that JAX will use: without x64, float32 instead of float64."""
    if jnp.issubdtype(dtype, jax.dtypes.extended):
        return dtype
    return jax.dtypes.canonicalize_dtype(dtype)


def stand_in(leaf: Leaf) -> jax.ShapeDtypeStruct:
    """Return the shape and dtype of a leaf that must be an array.

    Raises:
      TypeError: if the leaf is not an array.
    """
    likeness = None if is_number(leaf.value) else struct(leaf.value)
    if likeness is None:
        raise TypeError(
            f"the leaf at {leaf.path!r} is {leaf.value!r}, of type "
            f"{type(leaf.value).__name__}; an initializer draws only arrays, or what a "
            "jax.ShapeDtypeStruct stands for. Keep all other leaves by a first rule, "
            "(lambda path, leaf: not hasattr(leaf, 'shape'), jinit.keep), or leave "
            "them out (for an Equinox module, equinox.filter(module, lambda leaf: "
            "hasattr(leaf, 'shape')))."
        )
    return likeness


def is_placeholder(value: Any) -> bool:
    """Tell whether a leaf stands for a missing value; `...` is Orbax's placeholder."""
    return value is ... or isinstance(value, jax.ShapeDtypeStruct)


# NumPy's float64 is a Python float as well, but has a dtype and counts as an array.
def is_number(value: Any) -> bool:
    """Tell whether a leaf is a Python number, which JAX takes for an array."""
    return isinstance(value, bool | int | float | complex) and not hasattr(
        value, "dtype"
    )


def align(
    name: str,
    tree: Any,
    expected: Mapping[tuple[str, ...], Leaf],
    owner: str,
    cure: str = "",
) -> list[Leaf]:
    """Return the leaves of a tree, after a check of its paths, shapes and dtypes."""
    every = leaves(tree)
    paths = {leaf.parts for leaf in every}
    absent = [leaf for parts, leaf in expected.items() if parts not in paths]
    extra = [leaf for leaf in every if leaf.parts not in expected]
    # All such leaves are named at once, not one in each attempt.
    for wrong, text in (
        (absent, f"`{name}` lacks {len(absent)} leaves of {owner}"),
        (extra, f"`{name}` has {len(extra)} leaves that {owner} does not know"),
    ):
        if wrong:
            raise ValueError(f"{text}:{listed(wrong)}")
    for leaf in every:
        check_like(name, leaf, expected[leaf.parts].value, owner, cure)
    return every


def check_like(
    name: str, leaf: Leaf, expected: Any, owner: str, cure: str = ""
) -> None:
    """Raise unless a leaf has the shape and the dtype of `expected`.

    Two leaves that cannot be arrays, such as strings, always agree. The sentence `cure`
    ends the error about a shape or a dtype.
    """
    has, needs = struct(leaf.value), struct(expected)
    if _type(has) == _type(needs):
        return
    if has is None or is_number(leaf.value):
        raise TypeError(
            f"`{name}` must agree with {owner}: the leaf at {leaf.path!r} is "
            f"{leaf.value!r}, of type {type(leaf.value).__name__}, where {owner} has "
            f"{_spelled(expected, needs)}."
        )
    raise ValueError(
        f"`{name}` has at {leaf.path!r} {_spelled(leaf.value, has)}, where {owner} has "
        f"{_spelled(expected, needs)}; they must agree.{cure}"
    )


def _type(likeness: jax.ShapeDtypeStruct | None) -> Any:
    return None if likeness is None else (likeness.shape, likeness.dtype)


def _spelled(value: Any, likeness: jax.ShapeDtypeStruct | None) -> str:
    if likeness is None:
        return f"{value!r}, which is not an array"
    return f"shape {likeness.shape} and dtype {likeness.dtype}"


def strip_collection(parts: Sequence[str]) -> tuple[str, ...]:
    """Return the parts of a path without "params", Linen's name for parameters.

    Linen's variables are {"params": ..., "batch_stats": ...}, and the path of a module
    has no collection in it. A tree of parameters alone has none either.
    """
    return tuple(parts[1:] if tuple(parts[:1]) == _PARAMS else parts)


def parameters_in(leaves: Sequence[Leaf]) -> tuple[int, ...]:
    """Return the indices of the parameters among the leaves.

    They are those in the collection "params" if there is one, and all leaves otherwise.
    """
    within = tuple(i for i, leaf in enumerate(leaves) if leaf.parts[:1] == _PARAMS)
    return within or tuple(range(len(leaves)))


def trained_in(leaves: Sequence[Leaf]) -> tuple[int, ...]:
    """Return the indices of the floating parameters among the leaves."""
    return tuple(
        index
        for index in parameters_in(leaves)
        if jnp.issubdtype(getattr(leaves[index].value, "dtype", np.int32), jnp.floating)
    )
