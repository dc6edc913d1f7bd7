"""What the statistics of `jinit.probe` cost beside a plain pass forward and back.

python -m benchmarks.probe --help
"""

import argparse
import sys

import jax
import jax.numpy as jnp
from rich.console import Console

from benchmarks import _timing
from examples.transformer import Transformer
from jinit import _naming, _probe


def main(argv: list[str] | None = None) -> int:
    """Time both, compiled, in turns; print the ratio."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.probe", description=__doc__
    )
    parser.add_argument("--quick", action="store_true", help="small, for CI")
    quick = parser.parse_args(argv).quick
    layers, width, batch = (1, 16, 2) if quick else (4, 128, 16)
    model = Transformer(96, layers, width, 4)
    tokens = jnp.tile(jnp.arange(64) % 96, (batch, 1))
    variables = model.init(jax.random.key(0), tokens)

    def loss(variables: object) -> jax.Array:
        return _probe.direction(model.apply(variables, tokens))  # type: ignore[arg-type]

    plain = jax.jit(jax.grad(loss))
    probed = _probe.compiled(_naming.linen(model, None, {}), variables, (tokens,))
    calls = {
        "plain": lambda: plain(variables),
        "probe": lambda: probed(variables, (tokens,)),
    }
    timings = _timing.interleaved(calls, 1 if quick else 15)
    ratio = timings["probe"].median / timings["plain"].median
    for name, timing in timings.items():
        Console().print(f"{name}: {1e3 * timing.median:.1f} ms")
    Console().print(f"probe / plain: {ratio:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
