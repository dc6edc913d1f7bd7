"""Samplers are compiled here: one program for each shape, dtype and sharding.

A sampler that is called outside of any `jit` is compiled with 512-bit vectors
preferred, where XLA's default is 256. Its loop is bound by arithmetic, and processors
with the wider registers finish it in two thirds of the time; others ignore the
preference. Inside a user's `jit` a sampler is part of the user's program, with the
user's options. The values are the same.
"""

import contextvars
import functools
import inspect
import math
import os
from collections.abc import Callable, Hashable
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from .checks import is_static
from .erf_inv import parts_depend_on_loop
from .meshes import Sharding, check_fits, explicit_axes, mesh_and_spec

try:
    # jax 0.12 has it here alone, and jax 0.9 in the other place alone.
    from jax.extend.core import get_opaque_trace_state as get_opaque_trace_state
except ImportError:
    from jax.core import get_opaque_trace_state as get_opaque_trace_state

_VECTOR_WIDTH = "xla_cpu_prefer_vector_width"
WIDE = {_VECTOR_WIDTH: 512}

# Below this many elements a draw takes microseconds, whatever the vectors.
LARGE = 1 << 14

# Whether the program that is being traced prefers vectors of 512 bits.
_PREFERS_WIDE = contextvars.ContextVar("prefers_wide", default=False)

# A name of jinit may be loaded while something is being traced.
with jax.core.eval_context():
    _TOP_LEVEL = get_opaque_trace_state(convention="jinit")


def compiled(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Jit a sampler, and give it the argument `out_sharding`.

    Its keyword-only arguments, such as `shape`, are static; all others are operands.
    """
    static = tuple(
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    )
    # Two programs, since JAX refuses compiler options inside of another `jit`.
    plain = jax.jit(function, static_argnames=static)
    wide = jax.jit(
        _preferring_wide(function), static_argnames=static, compiler_options=WIDE
    )

    @functools.wraps(function)
    def sample(*operands: Any, out_sharding: Sharding = None, **settings: Any) -> Any:
        if out_sharding is not None:
            check_fits(out_sharding, settings["shape"])
            run = _jit_to(function, static, out_sharding, explicit_axes())
        elif _is_arithmetic(**settings) and may_choose_options():
            run = wide
        else:
            run = plain
        return run(*operands, **settings)

    return sample


def _preferring_wide(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    @functools.wraps(function)
    def run(*operands: Any, **settings: Any) -> jax.Array:
        token = _PREFERS_WIDE.set(True)
        try:
            return function(*operands, **settings)
        finally:
            _PREFERS_WIDE.reset(token)

    return run


def prefers_wide() -> bool:
    """Tell whether the program that is being traced is compiled with `WIDE`."""
    return _PREFERS_WIDE.get()


def _is_arithmetic(shape: tuple[int, ...], dtype: np.dtype, **_: Any) -> bool:
    """Tell whether wide vectors pay: narrow dtypes fill a vector of 256 bits, too."""
    # A symbolic dimension occurs only inside a `jit`, whose options are the user's.
    return dtype.itemsize >= 4 and is_static(shape) and math.prod(shape) >= LARGE


def may_choose_options() -> bool:
    """Tell whether this call becomes a separate CPU program, with its own options."""
    chosen = _VECTOR_WIDTH in os.environ.get("XLA_FLAGS", "")
    if chosen or jax.default_backend() != "cpu":
        return False
    return at_top_level()


# To make a constant and look whether it is a tracer would tell as well. But that tiny
# program took the place of a worker's thread, and a draw of 2^20 elements took 0.2 to
# 1 ms longer.
def at_top_level() -> bool:
    """Tell whether nothing is being traced; a call inside `jit` is a part of it."""
    return bool(get_opaque_trace_state(convention="jinit") == _TOP_LEVEL)


@jax.tree_util.register_static
class _Context:
    """A _Context stands for the settings of one trace, and equals only itself."""


@jax.jit
def _traced_anew() -> _Context:
    return _Context()


def trace_context() -> Hashable:
    """Return a key of the settings of JAX that a trace depends on.

    JAX traces a function anew for each set of them: the mesh, x64, promotion, and more.
    So the result of a traced function tells them apart, whatever their names are. A few
    flags that functions read while they are traced are added: JAX leaves them out.
    """
    flags = tuple(getattr(jax.config, name, None) for name in _READ_BY_FUNCTIONS)
    return _traced_anew.eval_shape(), flags


_READ_BY_FUNCTIONS = (
    "jax_default_prng_impl", "jax_enable_custom_prng", "jax_default_dtype_bits",
)  # fmt: skip


def jit_to(
    function: Callable[..., Any],
    static: tuple[str, ...],
    out_sharding: Any,
    explicit: tuple[str, ...],
) -> Callable[..., Any]:
    """Return a jitted function whose result has one sharding.

    In an explicit mesh the type of the result says the sharding.
    """
    if out_sharding is not None:
        function = _without_unlike_parts(function, out_sharding)
    if not explicit:
        return jax.jit(function, static_argnames=static, out_shardings=out_sharding)

    def typed(*operands: Any, **settings: Any) -> Any:
        run = functools.partial(function, **settings)
        return jax.sharding.auto_axes(run, out_sharding=out_sharding, axes=explicit)(
            *operands
        )

    return jax.jit(typed, static_argnames=static)


# A `jit` that is made anew compiles anew, even for an equal sharding.
_jit_to = functools.lru_cache(maxsize=1024)(jit_to)

# Above this size a difference in the last bit is a lesser evil than the memory.
_MOST_WHOLE = 1 << 20


def _without_unlike_parts(
    function: Callable[..., Any], out_sharding: Any
) -> Callable[..., Any]:
    """Let each device draw a whole array if its parts would differ in the last bit.

    XLA's erf_inv may give a part of an array other bits than the array, since its loop
    is another one. The values of an array must not depend on the mesh, so that each
    device computes all of it, and keeps its part.
    """

    def whole(result: Any, sharding: Any) -> Any:
        if not is_drawn_whole(result.shape, sharding):
            return result
        return _everywhere(result, sharding)

    @functools.wraps(function)
    def run(*operands: Any, **settings: Any) -> Any:
        results = function(*operands, **settings)
        if isinstance(results, tuple):
            return tuple(map(whole, results, out_sharding))
        return whole(results, out_sharding)

    return run


def is_drawn_whole(shape: tuple[int, ...], sharding: Any) -> bool:
    """Tell whether each device draws all of an array, of which it keeps a part."""
    is_placed = isinstance(sharding, NamedSharding | PartitionSpec)
    if not is_placed or math.prod(shape) > _MOST_WHOLE:
        return False
    mesh, spec = mesh_and_spec(sharding)
    return parts_depend_on_loop(shape, NamedSharding(mesh, spec).shard_shape(shape))


def _everywhere(x: Any, sharding: Any) -> Any:
    """Let each device have all of an array, whatever is done with it afterwards."""
    mesh, _ = mesh_and_spec(sharding)
    everywhere: Any = PartitionSpec()
    if isinstance(mesh, jax.sharding.Mesh):
        # Explicit axes would make the constraint a part of the result's type.
        automatic = jax.sharding.Mesh(mesh.devices, mesh.axis_names)
        everywhere = NamedSharding(automatic, everywhere)
    x = jax.lax.with_sharding_constraint(x, everywhere)
    x = jax.lax.optimization_barrier(x)
    return jax.lax.with_sharding_constraint(x, everywhere)
