"""This file computes the bits of `jax.lax.erf_inv` in fewer operations.

XLA evaluates erf_inv(u) with the polynomials of M. Giles ("Approximating the erfinv
function", 2010) in w = -log(1 - u^2), and the logarithm with the rational function and
the polynomial of Cephes (S. Moshier, 1989). That code must be ready for every float.
A float32 draw takes only 2^23 values, all inside (-1, 1), so here the branches for
zero, infinity, subnormal numbers and |u| = 1 are left out, and with them a fifth of the
operations. Nothing else may differ: the order and the fusing of every multiplication
and addition is XLA's. Each process compares the two on 90,000 values before it uses the
short form (`is_exact`); the tests compare all 2^23 on every version of JAX.

From jax 0.12 on XLA contracts some of these operations otherwise in a loop over a last
axis of 3 to 5 elements, so that a thirtieth of JAX's own values depend on the shape of
the array, by one unit in the last place. `depends_on_loop` tells such shapes: these are
drawn by JAX's own operations, in JAX's loops.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax import lax

# The step between two neighbouring uniform numbers, and the lowest of them.
_STEP = np.float32(2.0**-22)
_LOWEST = np.nextafter(np.float32(-1), np.float32(0))

# Lengths of a last axis that some versions of XLA unroll.
_UNROLLED = (3, 4, 5)
_SHORT = 8
# Stands for a dimension of `jax.export` that has no number yet.
_SYMBOLIC = 1 << 30


def _floats(*words: int) -> tuple[np.float32, ...]:
    return tuple(np.array(words, np.uint32).view(np.float32))


# The constants are written as words, whose bits no parser of decimals can change. log 2
# comes in two summands. The higher one has so few digits that its product with an
# exponent is exact. _SMALL is sqrt(2) - 1.
_SQRT_HALF, _LOG2_HIGH, _LOG2_LOW, _SMALL = _floats(
    0x3F3504F3, 0x3F318000, 0xB95E8083, 0x3ED413CD
)
# Cephes has one polynomial of degree 8 for the logarithm. XLA evaluates it as three of
# degree 2, which are joined by powers of z^3 and do not wait for each other.
_LOG = (
    _floats(0x3D9021BB, 0xBDEBD1B8, 0x3DEF251A),
    _floats(0xBDFE5D4F, 0x3E11E9BF, 0xBE2AAE50),
    _floats(0x3E4CCEAC, 0xBE7FFFFC, 0x3EAAAAAA),
)
_LOG1P_ABOVE = (
    np.float32(4.527000e-05),
    *_floats(0x3EFF40C5, 0x40D284FA, 0x41EF4B9C, 0x4273CC76, 0x426473AD, 0x41A05101),
)
_LOG1P_BELOW = _floats(
    0x3F800000, 0x417101AD, 0x42A6185B, 0x435DC32D, 0x439A8CA3, 0x43586D8A, 0x42707982
)
# Giles's polynomials: in w - 2.5 for w < 5, and in sqrt(w) - 3 for the tail.
_CENTRE = _floats(
    0x32F16588, 0x34B84B36, 0xB66C7357, 0xB6935AC1, 0x396532DB,
    0xBAA45408, 0xBB88E4EF, 0x3E7C8F63, 0x3FC02E2F,
)  # fmt: skip
_TAIL = _floats(
    0xB951F09B, 0x38D3B56B, 0x3AB0DC72, 0xBB70BDE7, 0x3BBC127B,
    0xBBF9C5D7, 0x3C1AA57E, 0x3F8036DB, 0x40354F7E,
)  # fmt: skip

# erf(x / sqrt 2) is below 1 in float32 up to here, and w = -log(1 - u^2) below 5.
INSIDE, CENTRAL = 5.0, 2.9


def erf_inv(u: jax.Array, bound: float = np.inf) -> jax.Array:
    """Return the values of `lax.erf_inv`, where sqrt(2) times them is within `bound`.

    A bound of at most `INSIDE` promises that |u| < 1.
    """
    if u.dtype != np.float32 or not bound <= INSIDE or depends_on_loop(u.shape):
        return lax.erf_inv(u)
    fast = _central if bound <= CENTRAL else _inside
    # Other processors have other code for erf_inv, and other bits.
    on_cpu = fast if is_exact() else lax.erf_inv
    x: jax.Array = lax.platform_dependent(u, cpu=on_cpu, default=lax.erf_inv)
    return x


@functools.cache
def is_exact() -> bool:
    """Tell whether the short form gives XLA's bits on this machine."""
    if _AHEAD and threading.current_thread() not in _AHEAD:
        # Another thread is about to know.
        _AHEAD.pop().join()
        return is_exact()
    return differences(_sample()) == 0


def is_known() -> bool:
    """Tell whether `is_exact` has its answer already: to find it takes 0.1 s."""
    return is_exact.cache_info().currsize > 0


# The thread that looks for the answer of `is_exact`, from its start on.
_AHEAD: list[threading.Thread] = []


def look_ahead() -> None:
    """Begin to find the answer of `is_exact` in a thread, while this one goes on."""
    if not _AHEAD and not is_known():
        _AHEAD.append(threading.Thread(target=_look, name="jinit-erf-inv"))
        _AHEAD[0].start()


def is_known_soon() -> bool:
    """Tell whether the answer of `is_exact` is known, or a thread looks for it."""
    return is_known() or bool(_AHEAD)


def _look() -> None:
    # An error, as of a guard against transfers, is for the call that needs the answer.
    with contextlib.suppress(Exception):
        is_exact()


def differences(
    u: np.ndarray, short_form: Callable[[jax.Array], jax.Array] | None = None
) -> int:
    """Count the numbers `u` for which a short form differs from XLA's erf_inv."""
    short_form = short_form or _inside
    theirs, ours = _on_cpu(lambda u: (lax.erf_inv(u), short_form(u)), u)
    return int(np.sum(theirs != ours))


def uniforms(indices: np.ndarray) -> np.ndarray:
    """Return the uniform numbers that a float32 draw makes of 23-bit integers."""
    numbers: np.ndarray = indices.astype(np.float32) * _STEP + _LOWEST
    return numbers


def _sample() -> np.ndarray:
    """Return a hundredth of all uniform numbers, and all near the seams.

    The seams, where an error of the short form would show first, are 0, the ends, and
    the numbers u at which w = -log(1 - u^2) is 5 and log1p changes from one
    approximation to the other.
    """
    seams = [0.0, np.sqrt(-np.expm1(-5.0)), np.sqrt(_SMALL), 1.0]
    centres = [int((sign * u + 1) * 2**22) for u in seams for sign in (-1, 1)]
    windows = [np.arange(c - 512, c + 512) for c in centres]
    indices = np.concatenate([np.arange(0, 1 << 23, 101), *windows])
    return uniforms(np.clip(indices, 0, (1 << 23) - 1))


def depends_on_loop(shape: Sequence[int]) -> bool:
    """Tell whether the bits of JAX's erf_inv depend on `shape`."""
    last = _last_length(shape)
    return last in _UNROLLED and last in _unlike()


def parts_depend_on_loop(shape: Sequence[int], part: Sequence[int]) -> bool:
    """Tell whether XLA's erf_inv may have other bits for a part of an array.

    A part with a short last axis is doubtful, since its loop may have anything else in
    it, too.
    """
    is_short = _last_length(part) <= _SHORT and tuple(part) != tuple(shape)
    return depends_on_loop(shape) or (is_short and bool(_unlike()))


def _last_length(shape: Sequence[int]) -> int:
    """Return the length of the last axis over which a loop runs, or 1."""
    known = (n if isinstance(n, int) else _SYMBOLIC for n in reversed(shape))
    return next((n for n in known if n != 1), 1)


@functools.cache
def _unlike() -> frozenset[int]:
    """Find the lengths of a last axis for which XLA's erf_inv has other bits."""
    if jax.default_backend() != "cpu":
        return frozenset()
    # 60 is a multiple of 3, 4 and 5, so all lengths reshape the same numbers.
    u = uniforms(np.arange(0, 1 << 23, 1 << 9))[: 60 * 256]

    def by_length(u: jax.Array) -> list[jax.Array]:
        return [lax.erf_inv(u), *(lax.erf_inv(u.reshape(-1, n)) for n in _UNROLLED)]

    flat, *others = _on_cpu(by_length, u)
    pairs = zip(_UNROLLED, others, strict=True)
    return frozenset(n for n, x in pairs if np.any(x.ravel() != flat))


def _on_cpu(function: Callable[..., Any], u: np.ndarray) -> list[np.ndarray]:
    """Evaluate a compiled function of `u` now, even while something is traced.

    Another thread has no trace, no mesh, and none of the caller's settings.
    """

    def evaluate() -> list[np.ndarray]:
        cpu = jax.local_devices(backend="cpu")[0]
        with jax.default_device(cpu), jax.disable_jit(False):
            return list(map(np.asarray, jax.jit(function)(u)))

    if threading.current_thread() in _AHEAD:
        return evaluate()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(evaluate).result()


def _inside(u: jax.Array) -> jax.Array:
    w = -_log1p(u * -u)
    # The branches differ in their coefficients alone, so these are selected, and the
    # chain of products runs once.
    centre = w < np.float32(5)
    w = lax.select(centre, w - np.float32(2.5), lax.sqrt(w) - np.float32(3))
    coefficients = [_chosen(centre, c, t) for c, t in zip(_CENTRE, _TAIL, strict=True)]
    return _horner(w, coefficients) * u


def _central(u: jax.Array) -> jax.Array:
    return _horner(-_log1p(u * -u) - np.float32(2.5), _CENTRE) * u


def _log1p(y: jax.Array) -> jax.Array:
    """Return XLA's log(1 + y) for y in (-1, 0]."""
    return lax.select(lax.abs(y) < _SMALL, _log1p_small(y), _log(y + np.float32(1)))


def _log1p_small(y: jax.Array) -> jax.Array:
    square = y * y
    cubic = y * square * (_horner(y, _LOG1P_ABOVE) / _horner(y, _LOG1P_BELOW))
    # XLA rounds the cubic term before it adds; the sign-free form keeps LLVM from
    # contracting that product into the addition, which would round once less.
    return y - (lax.abs(cubic) + square * np.float32(0.5))


def _log(x: jax.Array) -> jax.Array:
    """Return log(x) for normal x in (0, 1]: x = 2^e m, and a polynomial in m - 1."""
    word = lax.bitcast_convert_type(x, np.int32)
    exponent = lax.shift_right_logical(word, lax.full_like(word, 23)) - np.int32(126)
    half = np.float32(0.5).view(np.int32)
    # The mask keeps all bits but the exponent. With the exponent of 0.5 the number m
    # lies in [0.5, 1).
    m = lax.bitcast_convert_type((word & np.int32(-0x7F800001)) | half, np.float32)
    low = m < _SQRT_HALF
    # A low m counts twice, with one power of two less. So z = x / 2^e - 1 lies between
    # sqrt(1/2) - 1 and sqrt(2) - 1, the interval of the polynomial.
    e = exponent.astype(np.float32) - _chosen(low, np.float32(1), np.float32(0))
    z = (m - np.float32(1)) + lax.select(low, m, lax.full_like(m, 0))
    square, cube = z * z, z * z * z
    p, q, r = (_horner(z, coefficients) for coefficients in _LOG)
    tail = (r + (q + p * cube) * cube) * cube + e * _LOG2_LOW
    return ((z - square * np.float32(0.5)) + tail) + e * _LOG2_HIGH


def _chosen(condition: jax.Array, yes: np.float32, no: np.float32) -> jax.Array:
    """Choose between two numbers; `jnp.where` takes ten times as long to trace."""
    return lax.select(condition, *(lax.full(condition.shape, x) for x in (yes, no)))


def _horner(x: jax.Array, coefficients: Sequence[Any]) -> jax.Array:
    first, second, *rest = coefficients
    # A leading 1 is not multiplied by: 1 * x is x.
    is_one = isinstance(first, np.float32) and first == 1
    value: jax.Array = (x if is_one else x * first) + second
    for c in rest:
        value = value * x + c
    return value
