"""Adapt initializers of any origin (jinit's, JAX's, a user's) to one shape and dtype.

jinit's initializers share their compiled programs by themselves. Initializers of JAX,
of Flax and of users are compiled here, once for each shape, dtype and sharding.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from .._core import checks, numbers
from .._core.identity import identity
from .._core.meshes import explicit_axes
from .._core.names import public_name
from .._core.programs import jit_to
from .base import DrawSpec, Initializer, is_random
from .kernel_axes import KernelAxes
from .maker import check_called, maker
from .scheme import scheme


@dataclasses.dataclass(frozen=True, repr=False)
class Foreign(Initializer):
    """A Foreign makes a value of JAX's or a user's initializer, so that it scales."""

    init: Any

    _name: ClassVar[str] = "scaled"

    @property
    def _random(self) -> bool:  # type: ignore[override]
        return is_random(self.init)

    def _sample(self, key: jax.Array, spec: DrawSpec) -> jax.Array:
        shape, dtype, sharding, factor = spec
        drawn = BoundInitializer(self.init, shape, dtype)(key, sharding)
        # A traced factor is a float32, and would make a product of 16 bits as wide.
        return drawn if numbers.is_one(factor) else (drawn * factor).astype(dtype)

    def _in_torch_layout(self) -> Initializer:
        return Foreign(in_torch_layout(self.init))

    def _with_axes(self, axes: KernelAxes) -> Initializer:
        return Foreign(with_axes(self.init, axes))

    def _spelling(self) -> tuple[str, dict[str, Any]]:
        # The maker `scaled` of factor 1 rebuilds this value; for other factors a Scaled
        # stands around it, which spells them.
        return self._name, {"init": self.init, "factor": 1.0}


@scheme(
    law="the law of its part",
    formula="w = factor init",
    use="another scale for any initializer",
)
@maker
def scaled(init: Any, factor: float) -> Initializer:
    """Scale an initializer of any origin: factor times its draw.

    For an initializer of jinit it is `factor * init`, rounded once.

    Args:
      init: an initializer from jinit, from JAX or your own.
      factor: a finite number.

    Raises:
      TypeError: if `init` is not an initializer, or `factor` is not a number.
      ValueError: if `factor` is not finite.

    Example:
      >>> import jax, jinit
      >>> jinit.scaled(jinit.he(), 0.5) == 0.5 * jinit.he()
      True
      >>> small = jinit.scaled(jax.nn.initializers.ones, 0.1)
      >>> small(jax.random.key(0), (2,)).tolist() == [jax.numpy.float32(0.1)] * 2
      True
    """
    check_part("init", init)
    value = init if isinstance(init, Initializer) else Foreign(init)
    return value * factor


def check_part(name: str, init: Any) -> None:
    """Raise unless a part of a composed initializer is itself an initializer."""
    check_called(f"`{name}`", init)
    if not callable(init):
        raise TypeError(
            f"`{name}` is {init!r}, of type {type(init).__name__}; it must be an "
            "initializer from jinit, from JAX or your own."
        )


class BoundInitializer:
    """A BoundInitializer draws arrays of one shape and dtype, by its programs."""

    def __init__(
        self, init: Callable[..., Any], shape: checks.Shape, dtype: Any
    ) -> None:
        self.init, self.shape, self.dtype = init, shape, dtype
        self._programs: dict[Any, Any] = {None: jax.jit(self._draw)}
        self._check()

    def __call__(self, key: jax.Array, sharding: Any = None) -> jax.Array:
        """Draw an array where it will live; the sharding is checked already."""
        named = sharding is None or isinstance(sharding, (NamedSharding, PartitionSpec))
        # jinit's initializers take shardings with named axes. Others, such as that of a
        # single device, are left to `jax.jit`.
        if isinstance(self.init, Initializer) and named:
            return self.init(key, self.shape, self.dtype, sharding)
        axes = explicit_axes() if named else ()
        where = None if sharding is None else (sharding, axes)
        if where not in self._programs:
            self._programs[where] = jit_to(self._draw, (), sharding, axes)
        drawn: jax.Array = self._programs[where](key)
        return drawn

    def _draw(self, key: jax.Array) -> Any:
        return call(self.init, key, self.shape, self.dtype)

    def _check(self) -> None:
        """Raise what a draw would raise; nothing is computed."""
        problem: Exception | None = None

        def draw(key: jax.Array) -> Any:
            nonlocal problem
            drawn = self._draw(key)
            # The problem is spelled here, since a tracer must not outlive its trace.
            problem = self._problem(drawn)
            # `eval_shape` would refuse a function that was returned, with an error that
            # does not say that a maker lacks its call.
            return () if problem else drawn

        jax.eval_shape(draw, jax.eval_shape(jax.random.key, 0))
        if problem is not None:
            raise problem

    def _problem(self, drawn: Any) -> Exception | None:
        """Return the error if `drawn` is not an array of the right shape and dtype."""
        name = public_name(self.init)
        if not isinstance(drawn, jax.Array | np.ndarray):
            advice = "it is a maker, so call it first" if callable(drawn) else ""
            advice = advice or "an initializer returns an array of the shape asked for"
            return TypeError(
                f"{name} returned {drawn!r}, which is not an array; {advice}."
            )
        if drawn.shape != self.shape or drawn.dtype != self.dtype:
            return ValueError(
                f"{name} returned an array of shape {drawn.shape} and dtype "
                f"{drawn.dtype}; it must have shape {self.shape} and dtype "
                f"{self.dtype}."
            )
        return None


def call(init: Any, key: jax.Array, shape: checks.Shape, dtype: Any) -> Any:
    """Call an initializer with as much of (key, shape, dtype) as it takes."""
    if isinstance(init, Initializer):
        return init(key, shape, dtype)
    try:
        parameters = list(inspect.signature(init).parameters.values())
    except (TypeError, ValueError):
        # Some built-in callables have no signature that Python can read.
        return init(key, shape, dtype)
    if any(p.name == "dtype" and p.kind is p.KEYWORD_ONLY for p in parameters):
        return init(key, shape, dtype=dtype)
    plain = [p for p in parameters if p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD)]
    if len(plain) >= 3 or any(p.kind is p.VAR_POSITIONAL for p in plain):
        return init(key, shape, dtype)
    # A function of (key, shape) draws in a dtype that it chooses, mostly float32.
    return jnp.asarray(init(key, shape)).astype(dtype)


class Samplers:
    """A Samplers object has one sampler for all leaves of a plan that draw alike."""

    def __init__(self) -> None:
        self._made: dict[Any, BoundInitializer] = {}
        # The sampler of an initializer by its id. The initializer is held, so that no
        # other object gets its id.
        self._known: dict[Any, tuple[Any, BoundInitializer]] = {}

    def of(self, init: Any, shape: checks.Shape, dtype: Any) -> BoundInitializer:
        """Return the sampler of an initializer at a shape and dtype."""
        name = (id(init), shape, dtype)
        # `identity` reads all that a function closes over. A plan asks for thousands of
        # leaves, most of which share an initializer, and its id is read at once.
        if name not in self._known:
            alike = (identity(init), shape, dtype)
            if alike not in self._made:
                self._made[alike] = BoundInitializer(init, shape, dtype)
            self._known[name] = init, self._made[alike]
        return self._known[name][1]


def in_torch_layout(init: Any) -> Any:
    """Return an initializer for kernels in PyTorch's layout (out, in, *window)."""
    if isinstance(init, Initializer):
        return init._in_torch_layout()
    if _counts_by_default(init):
        raise ValueError(
            f"`init` is {init!r}, which counts fans by in_axis=-2 and out_axis=-1, "
            "and PyTorch's kernel is (out, in, *window). Make it with in_axis=1 "
            "and out_axis=0, or take jinit's initializer of its name."
        )
    return init


def with_axes(init: Any, axes: KernelAxes) -> Any:
    """Return an initializer for a kernel with these axes; see `KernelAxes`."""
    if axes.are_default:
        return init
    if isinstance(init, Initializer):
        return init._with_axes(axes)
    if _counts_by_default(init):
        raise ValueError(
            f"{public_name(init)} counts fans by in_axis=-2 and out_axis=-1, and the "
            f"layout here is {axes.layout!r}. Take jinit's initializer of its name, "
            "which gets the layout from the plan, or name the axes."
        )
    return init


def _counts_by_default(init: Any) -> bool:
    """Tell whether an initializer of jax.nn counts fans, by axes that nobody named."""
    # They are closures, whose settings are nowhere but in their cells.
    names = getattr(getattr(init, "__code__", None), "co_freevars", ())
    if not {"in_axis", "out_axis"} <= set(names):
        return False
    cells = dict(zip(names, init.__closure__, strict=True))
    return [cells[n].cell_contents for n in ("in_axis", "out_axis")] == [-2, -1]


_KEYS = ("key", "rng", "prng_key")


def is_initializer(function: Callable[..., Any]) -> bool:
    """Tell whether a callable is an initializer, or else a function of (path, leaf).

    Raises:
      TypeError: if it can be neither.
    """
    if isinstance(function, Initializer):
        return True
    names = positional(function)
    # (key, shape) and (path, leaf) are two parameters each, so the first name decides.
    if names is None or len(names) >= 3 or (names and names[0] in _KEYS):
        return True
    if len(names) == 2:
        return False
    raise TypeError(
        f"{function!r} takes {len(names)} arguments: it is neither an initializer "
        "(key, shape, dtype) nor a function (path, leaf) -> initializer."
    )


def positional(function: Callable[..., Any]) -> list[str] | None:
    """Return the names of the parameters that may be passed by position.

    The result is None for a function that has no signature, or takes any number of
    arguments.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in kinds]
