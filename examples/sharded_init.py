"""Draw a model where it will live: on a mesh of devices, over one process or several.

    python -m examples.sharded_init                  # eight devices of one host
    python -m examples.sharded_init --processes 2    # four devices in each of two

On a cluster, start the program on every machine, with the number of the machine:

    python -m examples.sharded_init --processes 2 --process-id 0 --coordinator host:1234

Each device draws its part of each parameter. No device holds more, no data are sent,
and the values are those of a model that is drawn on one device.
"""

import dataclasses
import os
import pathlib
import socket
import subprocess
import sys
from typing import Any

if __package__ in (None, ""):  # run by its path
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from examples._cli import option, parse


@dataclasses.dataclass(frozen=True)
class Options:
    """Draw a model on a mesh of devices."""

    devices: int = option(8, "devices over all processes")
    layers: int = option(4, "layers of the model")
    width: int = option(256, "width of the model")
    processes: int = option(1, "processes that share the mesh")
    process_id: int | None = option(
        None, "number of this process; by default all start here", least=0
    )
    coordinator: str = option("localhost:9911", "address of process 0")


def main(argv: list[str] | None = None) -> int:
    """Draw a model on a mesh; print each device's share; return 1 if values differ."""
    options = parse(Options, argv)
    if options.processes > 1 and options.process_id is None:
        return _start_all(options)
    _prepare(options)
    return _draw(options)


def _start_all(options: Options) -> int:
    """Start a process for each part of the mesh, all on this machine."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    settings = {
        "devices": options.devices,
        "layers": options.layers,
        "width": options.width,
        "processes": options.processes,
        "coordinator": coordinator,
    }
    words = [
        word for name, value in settings.items() for word in (f"--{name}", str(value))
    ]
    started = [
        subprocess.Popen([sys.executable, __file__, *words, "--process-id", str(index)])
        for index in range(options.processes)
    ]
    return max(abs(process.wait()) for process in started)


def _prepare(options: Options) -> None:
    """Apply settings that JAX reads when it starts: its devices and other processes."""
    local = options.devices // options.processes
    flag = f"--xla_force_host_platform_device_count={local}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"
    if options.processes > 1:
        import jax

        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(
            options.coordinator, options.processes, options.process_id
        )


def _draw(options: Options) -> int:
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P

    import jinit

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            for _ in range(options.layers):
                x = x + nn.MultiHeadDotProductAttention(8)(nn.LayerNorm()(x))
                y = nn.gelu(nn.Dense(4 * options.width)(nn.LayerNorm()(x)))
                x = x + nn.Dense(options.width)(y)
            return x

    mesh = jax.make_mesh((jax.device_count(),), ("model",))

    def sharding(path: str, leaf: Any) -> NamedSharding:
        """Shard the last axis that the devices divide, or replicate the leaf."""
        axes = [i for i, n in enumerate(leaf.shape) if n % mesh.size == 0]
        return NamedSharding(mesh, P(*[None] * axes[-1], "model") if axes else P())

    x = jax.ShapeDtypeStruct((1, 16, options.width), jnp.float32)
    key = jax.random.key(0)
    variables = jinit.materialize(Model().init, shardings=sharding)(key, x)
    shapes = jax.eval_shape(Model().init, key, x)
    plan = jinit.plan(shapes, jinit.recipes.gpt2(options.layers))
    planned = plan.init(key, sharding)

    alone = jinit.materialize(Model().init)(key, x)
    equal = _equal(variables, alone) and _equal(planned, plan.init(key))
    _report(variables, equal)
    return 0 if equal else 1


def _equal(parts: Any, whole: Any) -> bool:
    """Tell whether the parts that this process holds are those of the whole arrays."""
    import jax
    import numpy as np

    return all(
        bool((np.asarray(shard.data) == np.asarray(one)[shard.index]).all())
        for leaf, one in zip(
            jax.tree.leaves(parts), jax.tree.leaves(whole), strict=True
        )
        for shard in leaf.addressable_shards
    )


def _report(variables: Any, equal: bool) -> None:
    import jax

    leaves = jax.tree.leaves(variables)
    total = sum(leaf.nbytes for leaf in leaves) / 2**20
    which = f"process {jax.process_index()} of {jax.process_count()}"
    print(f"{which}: {total:.2f} MiB in all")
    for device in jax.local_devices():
        held = sum(
            shard.data.nbytes
            for leaf in leaves
            for shard in leaf.addressable_shards
            if shard.device == device
        )
        print(f"  {device}: {held / 2**20:.2f} MiB")
    print(f"  equal to the model drawn on one device: {equal}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
