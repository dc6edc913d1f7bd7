"""Kernels that are spread over devices, in plain JAX.

Inside of jax.shard_map a device has a part of a kernel; what is true of the parameter
is true of the whole one.
"""

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

from tests.support.zoo.truth import dense, floats, known

# Tracing needs no devices.
MESH = AbstractMesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
X = floats(8, 6)
PARAMS = {
    "first": dense(6, 8),
    "up": dense(8, 20),
    "down": dense(20, 8),
    "last": dense(8, 4),
}


def tensor_parallel(params, x):
    """Megatron: columns of one kernel, rows of the next, and a sum over devices."""

    def branch(p, x):
        h = jax.nn.gelu(x @ p["up"])
        return jax.lax.psum(h @ p["down"], "model")

    kernels = {"up": P(None, "model"), "down": P("model", None)}
    rows = P("data", None)
    run = jax.shard_map(branch, mesh=MESH, in_specs=(kernels, rows), out_specs=rows)
    x = x @ params["first"]
    x = x + run({"up": params["up"], "down": params["down"]}, x)
    return x @ params["last"]


TENSOR = """
first  io   6   8  input
up     io   8  20                  # each device has 5 of 20 columns
down   io  20   8  residual_output # each device has 5 of 20 rows
last   io   8   4  readout
"""


def gathered(params, x):
    """FSDP: each device keeps a part of a kernel, and gathers it to use it."""

    def run(p, x):
        for name in ("first", "up", "down", "last"):
            kernel = jax.lax.all_gather(p[name], "data", axis=0, tiled=True)
            x = jnp.tanh(x @ kernel)
        return x

    rows = P("data", None)
    specs = dict.fromkeys(params, rows)
    run = jax.shard_map(
        run, mesh=MESH, in_specs=(specs, rows), out_specs=rows, check_vma=False
    )
    return run(params, x)


GATHERED = """
first  io   6   8  input
up     io   8  20
down   io  20   8
last   io   8   4  readout
"""


def expert_parallel(params, x):
    """Each device has its experts; tokens are summed over devices."""

    def run(p, router, x):
        weights = jax.nn.softmax(x @ router, axis=-1)
        first = jax.lax.axis_index("model") * 1
        own = jax.lax.dynamic_slice_in_dim(weights, first, 1, axis=1)
        h = jax.nn.relu(jnp.einsum("bd,edm->bem", x, p["up"]))
        y = jnp.einsum("bem,emd,be->bd", h, p["down"], own)
        return jax.lax.psum(y, "model")

    experts, rows = P("model"), P("data", None)
    run = jax.shard_map(run, mesh=MESH, in_specs=(experts, P(), rows), out_specs=rows)
    x = x @ params["first"]
    p = {"up": params["up"], "down": params["down"]}
    return (x + run(p, params["router"], x)) @ params["last"]


EXPERTS = """
first   io   6   8  input
router  io   8   4  router?
up      .    8  12  expert?
down    .   12   8  expert? residual_output
last    io   8   4  readout
"""
EXPERT_PARAMS = {
    "first": dense(6, 8),
    "router": dense(8, 4),
    "up": dense(4, 8, 12),
    "down": dense(4, 12, 8),
    "last": dense(8, 4),
}

MODELS = {
    "tensor parallel": lambda: known(tensor_parallel, PARAMS, X, table=TENSOR, depth=1),
    "fully sharded": lambda: known(gathered, PARAMS, X, table=GATHERED, depth=0),
    "expert parallel": lambda: known(
        expert_parallel, EXPERT_PARAMS, X, table=EXPERTS, depth=1
    ),
}
