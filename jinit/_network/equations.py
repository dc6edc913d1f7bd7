"""This file holds everything that jinit needs of JAX beyond its documented interface.

JAX changes these parts without notice. So each part is looked up by what it can do, and
never by a version number. A primitive is looked up as the object that JAX exports,
since its printed name changes too ("closed_call" became "eval_jaxpr"). If a release
takes a part away, tests/network/test_internals.py fails and names the part.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import jax
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, primitives
from jax.interpreters import partial_eval

Rule = TypeVar("Rule")

# The exported primitives that were looked for and are not there.
MISSING: list[str] = []


def _primitives(names: str) -> frozenset[Any]:
    """Look up primitives by the names under which JAX exports them."""
    exported = {}
    for name in names.split():
        attribute = f"{name}_p"
        exported[name] = getattr(primitives, attribute, getattr(lax, attribute, None))
    MISSING.extend(name for name, primitive in exported.items() if primitive is None)
    return frozenset(exported.values()) - {None}


def _primitive(name: str) -> Any:
    """Look up one primitive; return an object that equals no other if it is gone.

    Code that compares with a primitive that is gone finds no such equation.
    """
    return next(iter(_primitives(name)), object())


def by_primitive(rules: dict[str, Rule]) -> dict[Any, Rule]:
    """Key rules by the primitives of their names; no release of JAX has all of them."""
    homes = (primitives, lax)
    pairs = [
        (getattr(home, f"{name}_p", None), rule)
        for name, rule in rules.items()
        for home in homes
    ]
    return {primitive: rule for primitive, rule in pairs if primitive is not None}


JIT = _primitive("jit")
SCAN = _primitive("scan")
COND = _primitive("cond")
WHILE = _primitive("while")
CUSTOM_JVP = _primitive("custom_jvp_call")
CUSTOM_VJP = _primitive("custom_vjp_call")
# The mark that `jax.ad_checkpoint.checkpoint_name` leaves in the equations.
NAME = _primitive("name")
RANDOM_BITS = _primitive("random_bits")
FOLD_IN = _primitive("random_fold_in")
MULTIPLY = _primitive("mul")
INVERSE_ERF = _primitive("erf_inv")
BROADCAST = _primitive("broadcast_in_dim")
CONVERT = _primitive("convert_element_type")
SPLIT = _primitive("split")

# Calls that every interpreter looks through: they do what their body does.
LOOKED_THROUGH = _primitives(
    "jit remat closed_call call custom_jvp_call custom_vjp_call"
)
# Outside of a `jit` these calls run their body operation by operation.
TRANSPARENT = LOOKED_THROUGH - {JIT}

# Operations that only move and cast entries, or change their sign.
_MOVING = _primitives(
    "reshape transpose convert_element_type broadcast_in_dim squeeze rev copy "
    "sharding_constraint"
)
NEGATE = _primitive("neg")
# JAX exports no objects for these two primitives, so they are told by their names.
_MOVING_BY_NAME = {"reshard", "pvary"}
# The same holds for products of rows with the kernels of groups.
_RAGGED_BY_NAME = {"ragged_dot_general", "ragged_dot"}
IDENTITIES = _primitives("reduce_precision stop_gradient") | {NAME}
# Operations that keep the order of the entries wherever they keep their number.
_IN_ORDER = _primitives("reshape squeeze broadcast_in_dim copy")
_RESHAPE = _primitive("reshape")
IOTA = _primitive("iota")
ADD = _primitive("add")

# Operations on each entry by itself. Those that no sampler of the normal, the uniform
# and the truncated normal law uses are left out.
ELEMENTWISE = _primitives(
    "add sub mul div max min neg abs sign sqrt square not and or xor shift_left "
    "shift_right_logical eq ne lt le gt ge select_n clamp convert_element_type "
    "bitcast_convert_type reduce_precision erf erf_inv nextafter integer_pow"
)

PARTS = _primitives("slice dynamic_slice gather")
SUMS = _primitives("reduce_sum reduce_window_sum")
MAXIMUM = _primitive("reduce_max")
MAXIMA = _primitives("reduce_max reduce_window_max")
MINIMUM = _primitive("reduce_min")
CONCATENATE = _primitive("concatenate")
# JAX has these two since its version 0.10.
STACK = getattr(lax, "stack_p", object())
UNSTACK = getattr(lax, "unstack_p", object())
PAD = _primitive("pad")
SELECT = _primitive("select_n")
PRODUCT = _primitive("dot_general")
CONVOLUTION = _primitive("conv_general_dilated")
SINGULAR_VALUES = _primitive("svd")

# Operations that add or compare many entries to get one.
_CUMULATIVE = _primitives("cumsum cumprod cummax cummin cumlogsumexp")
REDUCING = (
    SUMS
    | MAXIMA
    | {MINIMUM, PRODUCT, CONVOLUTION}
    | _CUMULATIVE
    | _primitives("reduce_prod reduce_and reduce_or reduce_xor reduce reduce_window")
    | _primitives("reduce_window_min")
)
# Operations whose results have the shape of an operand, although an entry of a result
# depends on several entries.
MIXING = _CUMULATIVE | _primitives(
    "sort fft while cond top_k scatter scatter_add dynamic_update_slice "
    "triangular_solve cholesky svd eigh qr lu"
)


def platform_index(eqn: JaxprEqn, platform: str) -> int | None:
    """Return what `jax.lax.platform_dependent` asks: which branch a platform takes.

    The result is None for any other equation.
    """
    # JAX exports no object for this primitive either.
    if eqn.primitive.name != "platform_index":
        return None
    platforms = eqn.params["platforms"]
    named = (i for i, p in enumerate(platforms) if p is None or platform in p)
    return next(named, None)


def has_own_vmap(eqn: JaxprEqn) -> bool:
    """Tell whether an equation calls a function that has its own rule for `vmap`."""
    # JAX exports no object for this primitive either.
    return eqn.primitive.name == "custom_vmap_call"


def moves(eqn: JaxprEqn) -> bool:
    """Tell whether an equation only moves or casts the entries of its operand."""
    return eqn.primitive in _MOVING or eqn.primitive.name in _MOVING_BY_NAME


def multiplies(eqn: JaxprEqn) -> bool:
    """Tell whether an equation is a product, linear in each of its first two operands.

    Further operands are the sizes of groups.
    """
    is_plain = eqn.primitive in (PRODUCT, CONVOLUTION)
    return is_plain or eqn.primitive.name in _RAGGED_BY_NAME


def keeps_order(eqn: JaxprEqn) -> bool:
    """Tell whether an equation of equal sizes leaves all entries as they are."""
    # `lax.reshape` can transpose before it reshapes.
    is_plain = eqn.primitive is not _RESHAPE or eqn.params.get("dimensions") is None
    return eqn.primitive in _IN_ORDER and is_plain


def body_of(eqn: JaxprEqn) -> ClosedJaxpr:
    """Return the jaxpr that a call executes."""
    names = ("jaxpr", "call_jaxpr", "call")
    body: Any = next((eqn.params[n] for n in names if n in eqn.params), None)
    return body if isinstance(body, ClosedJaxpr) else ClosedJaxpr(body, ())


class Scan(NamedTuple):
    """A scan has a body, and counts that say which operand is which.

    The operands are the constants, the first carry, and the stacked inputs. The results
    are the last carry and the stacked outputs.
    """

    body: ClosedJaxpr
    num_consts: int
    num_carry: int
    length: int
    reverse: bool
    # How many steps one round of the compiled loop takes.
    unroll: int

    def parts(self, values: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Split the operands: the constants, the first carry, the stacked inputs."""
        first, last = self.num_consts, self.num_consts + self.num_carry
        return list(values[:first]), list(values[first:last]), list(values[last:])


def scan_of(eqn: JaxprEqn) -> Scan:
    """Take a scan's equation apart.

    The counts are read from the shapes, since JAX has named the counts in different
    ways: a stacked operand has one axis more than the operand of one step.
    """
    body = body_of(eqn)
    stacked_in = _more_axes(eqn.invars, body.jaxpr.invars)
    num_carry = len(eqn.outvars) - _more_axes(eqn.outvars, body.jaxpr.outvars)
    num_consts = len(eqn.invars) - num_carry - stacked_in
    settings = (eqn.params[name] for name in ("length", "reverse", "unroll"))
    return Scan(body, num_consts, num_carry, *settings)


def branches_of(eqn: JaxprEqn) -> Sequence[ClosedJaxpr]:
    """Return the branches of a `cond`, in the order of their numbers."""
    branches: Sequence[ClosedJaxpr] = eqn.params["branches"]
    return branches


class While(NamedTuple):
    """A `while` has a test and a body, and the numbers of constants of the two."""

    test: ClosedJaxpr
    body: ClosedJaxpr
    num_test: int
    num_body: int

    def parts(self, values: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Split the operands: the test's constants, the body's, the first carry."""
        first, last = self.num_test, self.num_test + self.num_body
        return list(values[:first]), list(values[first:last]), list(values[last:])


def while_of(eqn: JaxprEqn) -> While:
    """Take the equation of a `while` apart."""
    names = ("cond_jaxpr", "body_jaxpr", "cond_nconsts", "body_nconsts")
    return While(*(eqn.params[name] for name in names))


def _more_axes(outside: Sequence[Any], inside: Sequence[Any]) -> int:
    """Count the variables that have more axes outside of a scan than inside."""
    pairs = zip(outside, inside, strict=True)
    return sum(o.aval.ndim > i.aval.ndim for o, i in pairs)


def bind(eqn: JaxprEqn, values: Sequence[Any]) -> list[Any]:
    """Return the results of an equation for other operands.

    The equation's context has settings of its trace, such as those of `compute_on`.
    """
    params = eqn.primitive.get_bind_params(eqn.params)
    # Before jax 0.10 the parameters come in a pair, behind the functions.
    functions, params = params if isinstance(params, tuple) else ((), params)
    with eqn.ctx.manager:
        results = eqn.primitive.bind(*functions, *values, **params)
    return list(results) if eqn.primitive.multiple_results else [results]


def without_dead_code(
    jaxpr: Jaxpr, *, keep_arguments: bool = False, first: int | None = None
) -> tuple[Jaxpr, list[bool]]:
    """Drop the equations that no result needs; tell which arguments are still used.

    With `keep_arguments` all arguments count as used. With `first` only so many results
    are kept.
    """
    seeing = jaxpr.replace(eqns=[e for e in jaxpr.eqns if not _only_looks_on(e)])
    number = len(jaxpr.outvars)
    kept = [first is None or place < first for place in range(number)]
    return partial_eval.dce_jaxpr(seeing, kept, keep_arguments)


def _only_looks_on(eqn: JaxprEqn) -> bool:
    """Tell whether an equation is a print, or another callback of `jax.debug`."""
    effects = {type(effect) for effect in eqn.effects}
    return bool(effects) and effects <= _debug_effects() and not eqn.outvars


@functools.cache
def _debug_effects() -> frozenset[type]:
    """Return the effects of `jax.debug`, which change no value."""

    def look(x: Any) -> None:
        jax.debug.callback(lambda x: None, x)
        jax.debug.callback(lambda x: None, x, ordered=True)

    return frozenset(map(type, jax.make_jaxpr(look)(0.0).effects))


def consts_of(jaxpr: Any) -> Sequence[Any]:
    """Return the arrays that a jaxpr brings along; some versions keep them inside."""
    return getattr(jaxpr, "consts", ())
