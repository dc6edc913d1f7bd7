"""Hugging Face 2026: heads of a state-space layer are born dead in bfloat16.

Gated DeltaNet's decay is exp(-exp(A_log) softplus(x)), with A_log = log(U(0, 16)).
Drawn in bfloat16, a uniform number of 8 random bits is 0 in one of 256 cases
(huggingface/transformers#47831; in jax.random, which draws 7 bits, in one of 128).
Then A_log is -inf: the head never forgets, and the derivative exp(A_log) is 0 for good.
Where the draw and the logarithm are in float32 and the result is rounded, a head is
dead with the probability 2^-23 at most, 1 in 8 million.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import jinit
from benchmarks.papers._result import Result, panels
from examples._data import Images

HIGH = 16.0
# The hybrid of the issue has 30 such layers with 32 heads each.
HEADS = 960
TORCH, JAX, OURS = "torch's draw", "jax.random's draw", "float32 first"
SHARES = {TORCH: 1 / 256, JAX: 1 / 128, OURS: 2.0**-23}

Draw = Callable[[jax.Array, tuple[int, ...]], jax.Array]


def run(quick: bool, images: Images) -> Result:
    """Count dead heads in many starts of a model, and the gradients that are 0."""
    del images
    starts = 100 if quick else 1000
    key, shape = jax.random.key(0), (starts, HEADS)
    logs = {name: draw(key, shape) for name, draw in DRAWS.items()}
    dead = {name: np.asarray(jnp.isneginf(a).sum(axis=1)) for name, a in logs.items()}
    frozen = {name: int((_gradients(a[0]) == 0).sum()) for name, a in logs.items()}
    shares = {name: float(counts.mean()) / HEADS for name, counts in dead.items()}
    return Result(
        "Hugging Face 2026",
        "the logarithm of a uniform draw in bfloat16 is -inf for 0.4 % of the heads, "
        "3 to 6 of 960 in every start, and their gradient is 0 for good; drawn in "
        "float32 first, none is",
        f"dead of {starts * HEADS:,} heads: torch's draw {shares[TORCH]:.2%}, "
        f"{dead[TORCH].mean():.1f} in a start of {HEADS} (one or more in "
        f"{(dead[TORCH] > 0).mean():.0%} of the starts); jax.random's "
        f"{shares[JAX]:.2%}; float32 first {dead[OURS].sum():.0f}; in the "
        f"first start {frozen[TORCH]} gradients of "
        f"{dead[TORCH][0]} dead heads are 0",
        {"share": shares, "law": SHARES, "dead": dead, "gradients of 0": frozen},
        {
            f"{name}: one head in {1 / share:,.0f}": _agrees(
                int(dead[name].sum()), share, starts
            )
            for name, share in SHARES.items()
        }
        | {
            "a gradient is 0 where the head is dead, and nowhere else": all(
                frozen[name] == dead[name][0] for name in DRAWS
            ),
        },
        _figure(dead),
    )


def _agrees(count: int, share: float, starts: int) -> bool:
    """Tell whether a count is within four stds, and one head, of its mean."""
    mean = share * starts * HEADS
    return bool(abs(count - mean) < 4 * np.sqrt(mean) + 1)


def _torch(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return log(U(0, 16)) as torch draws it: its 16-bit laws take 8 random bits."""
    bits = jax.random.randint(key, shape, 0, 256)
    uniform = (bits / 256 * HIGH).astype(jnp.bfloat16)
    return jnp.log(uniform)


def _jax(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.log(jax.random.uniform(key, shape, jnp.bfloat16, maxval=HIGH))


def _ours(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.log(jinit.random.uniform(key, shape, jnp.float32, 0, HIGH)).astype(
        jnp.bfloat16
    )


DRAWS: dict[str, Draw] = {TORCH: _torch, JAX: _jax, OURS: _ours}


@jax.jit
def _gradients(a_log: jax.Array) -> jax.Array:
    """Return the gradient of a loss to A_log, of heads that carry a state."""
    inputs = jax.random.normal(jax.random.key(1), (2, 16, *a_log.shape))

    def loss(a_log: jax.Array) -> jax.Array:
        # The models compute their decay in float32, whatever their parameters are.
        rate = jnp.exp(a_log.astype(jnp.float32))

        def step(state: jax.Array, parts: jax.Array) -> tuple[jax.Array, None]:
            x, gate = parts
            return state * jnp.exp(-rate * jax.nn.softplus(gate)) + x, None

        state, _ = jax.lax.scan(step, jnp.zeros(a_log.shape), inputs.swapaxes(0, 1))
        return jnp.sum(state**2)

    return jax.grad(loss)(a_log)


def _figure(dead: dict[str, np.ndarray]) -> Figure:
    figure, (axes,) = panels(
        [f"dead heads in a start of {HEADS}"], ["heads"], ["starts"]
    )
    bins = np.arange(-0.5, max(counts.max() for counts in dead.values()) + 1)
    for name, counts in dead.items():
        axes.hist(counts, bins=bins, alpha=0.6, label=name)
    axes.legend()
    return figure
