"""Run one of several processes that share a mesh; test_processes.py starts them.

python -m tests.support.processes PROCESS_ID NUM_PROCESSES COORDINATOR
"""

import os
import sys

LOCAL = 2


def start(process_id, processes, coordinator):
    """Join the other processes, with `LOCAL` devices of this host in each process."""
    flag = f" --xla_force_host_platform_device_count={LOCAL}"
    # XLA takes the last of several flags with one name.
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + flag
    import jax

    jax.config.update("jax_enable_compilation_cache", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, processes, process_id)
    assert jax.device_count() == LOCAL * processes
    assert jax.local_device_count() == LOCAL


def check(arrays, expected):
    """Check that this process holds parts of the expected arrays, bit for bit.

    From jax 0.12 on the last bit of XLA's erf_inv may depend on the program around it,
    so that JAX's initializers may differ in that bit between meshes.
    """
    import jax
    import numpy as np

    divided = False
    for (path, leaf), whole in zip(
        jax.tree_util.tree_leaves_with_path(arrays),
        jax.tree.leaves(expected),
        strict=True,
    ):
        assert len(leaf.sharding.device_set) == jax.device_count(), path
        assert len(leaf.addressable_shards) == jax.local_device_count(), path
        for shard in leaf.addressable_shards:
            part = np.asarray(whole)[shard.index]
            if getattr(path[0], "key", None) == ERF_INV_OF_XLA:
                np.testing.assert_array_max_ulp(np.asarray(shard.data), part, 4)
            else:
                assert np.asarray(shard.data).tobytes() == part.tobytes(), path
            divided |= part.size < whole.size
    assert divided


# An initializer of JAX draws this part of the plan.
ERF_INV_OF_XLA = "b"


def keys():
    """Return keys as users hold them: a key, a legacy key, a key on all processes."""
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    mesh = jax.make_mesh((jax.device_count(),), ("all",))
    everywhere = NamedSharding(mesh, PartitionSpec())
    return [
        jax.random.key(3),
        jax.random.PRNGKey(3),
        jax.jit(lambda: jax.random.key(3), out_shardings=everywhere)(),
    ]


def model():
    import flax.linen as nn
    import jax.numpy as jnp

    import jinit

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.DenseGeneral((2, 4))(x)
            x = nn.Dense(12, kernel_init=jinit.he(), param_dtype=jnp.bfloat16)(x)
            return nn.Dense(8, kernel_init=nn.initializers.normal(0.02))(x)

    return Model()


def materialize(meshes, sharding_of):
    import jax
    import jax.numpy as jnp

    import jinit

    expected = model().init(jax.random.key(3), jnp.ones((1, 2, 8)))
    x = jax.ShapeDtypeStruct((1, 2, 8), jnp.float32)
    for mesh, key in zip(meshes, keys(), strict=True):
        init = jinit.materialize(model().init, shardings=sharding_of(mesh))
        check(init(key, x), expected)


def plan(meshes, sharding_of):
    import jax

    import jinit

    shapes = {
        name: {"kernel": jax.ShapeDtypeStruct((16, 24), kind)}
        for name, kind in [("a", "float32"), ("b", "float32"), ("c", "bfloat16")]
    }
    init = jax.nn.initializers.lecun_normal()
    rules = [("b/**", init), ("**", jinit.he())]
    made = jinit.plan(shapes, rules)
    expected, other = (made.init(jax.random.key(seed)) for seed in (3, 4))
    for mesh, key in zip(meshes, keys(), strict=True):
        params = made.init(key, sharding_of(mesh))
        check(params, expected)
        again = made.reinit(jax.random.key(4), params, only="b/**")
        assert again["a"]["kernel"] is params["a"]["kernel"]
        check({"b": again["b"]}, {"b": other["b"]})


CASES = {"materialize": materialize, "plan": plan}


def main(process_id, processes, coordinator):
    start(int(process_id), int(processes), coordinator)
    import jax
    from jax.sharding import AxisType

    from tests.support.meshes import divided, make_mesh

    n = jax.device_count()
    meshes = [make_mesh((n,)), make_mesh((n,), AxisType.Explicit), make_mesh((2, 2))]
    for case, run in CASES.items():
        run(meshes, divided)
        print(f"process {process_id}: {case} is equal", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
