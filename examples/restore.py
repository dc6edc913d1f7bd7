"""Start fine-tuning: restore a body from a checkpoint, and draw a head of another size.

    python -m examples.restore                # eight devices of one host
    python -m examples.restore --devices 1

A small classifier takes a few steps of AdamW and is saved with Orbax. The next run has
another number of classes. `jinit.materialize(..., skip=)` makes its state: structs with
shardings for the leaves that the checkpoint brings, and fresh draws for the new head
and its part of the optimizer's state. Orbax restores each array to its devices.
"""

import dataclasses
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from rich.table import Table

if __package__ in (None, ""):  # run by its path
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from examples import _cli
from examples._cli import option, parse


@dataclasses.dataclass(frozen=True)
class Options:
    """Restore a body from a checkpoint, and draw a new head."""

    devices: int = option(8, "devices of the mesh")
    layers: int = option(4, "layers of the model")
    width: int = option(256, "width of the model")
    classes: int = option(10, "classes of the checkpoint's head")
    new_classes: int = option(24, "classes of the new head")
    out: str | None = option(
        None, "the folder of the checkpoint; by default a temporary one"
    )


def is_in_checkpoint(path: str, leaf: Any) -> bool:
    """Tell whether the checkpoint has a leaf; `skip` gets this function as a pattern.

    The new head has another shape, and so have its moments in the optimizer's state.
    """
    return "head" not in path.split("/")


def main(argv: list[str] | None = None) -> int:
    """Save and restore; print where each leaf comes from; return 1 if values differ."""
    options = parse(Options, argv)
    _prepare(options)
    try:
        import orbax.checkpoint  # noqa: F401
    except ImportError:
        print("this example needs Orbax: pip install orbax-checkpoint", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(options.out or temporary).resolve() / "checkpoint"
        return _run(options, folder)


def _prepare(options: Options) -> None:
    """Apply the settings that JAX reads when it starts: the number of its devices."""
    flag = f"--xla_force_host_platform_device_count={options.devices}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}"


def _run(options: Options, folder: pathlib.Path) -> int:
    import jax

    import jinit

    saved = _pretrained(options)
    _save(folder, saved)
    start = time.perf_counter()
    initial = _maker(options, options.new_classes)
    state = jinit.materialize(
        initial, shardings=_placement(), skip=is_in_checkpoint, progress=True
    )(jax.random.key(1))
    drawn = time.perf_counter()
    whole = jax.block_until_ready(_restored(folder, state))
    restored = time.perf_counter()
    _report(state, whole)
    print(
        f"{drawn - start:.2f} s to start the state with its new head, "
        f"{restored - drawn:.2f} s to restore the rest"
    )
    equal = _is_right(whole, saved, initial(jax.random.key(1)))
    print(f"restored and drawn leaves have the values that they should have: {equal}")
    return 0 if equal else 1


def _maker(options: Options, classes: int) -> Callable[[Any], Any]:
    """Return the function that makes the whole state: parameters and optimizer."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    import optax
    from flax.training.train_state import TrainState

    class Classifier(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            for layer in range(options.layers):
                y = nn.gelu(nn.Dense(4 * options.width, name=f"up_{layer}")(x))
                x = x + nn.Dense(options.width, name=f"down_{layer}")(y)
            return nn.Dense(classes, name="head")(x)

    model, tx = Classifier(), optax.adamw(1e-3)
    x = jnp.ones((1, options.width))

    def make(key: jax.Array) -> TrainState:
        params = model.init(key, x)["params"]
        return TrainState.create(apply_fn=model.apply, params=params, tx=tx)

    return make


def _placement() -> Callable[[str, Any], Any]:
    """Return a function that shards the last axis that the devices divide."""
    import jax
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P

    mesh = jax.make_mesh((jax.device_count(),), ("model",))

    def sharding(path: str, leaf: Any) -> NamedSharding:
        axes = [i for i, n in enumerate(leaf.shape) if n % mesh.size == 0]
        return NamedSharding(mesh, P(*[None] * axes[-1], "model") if axes else P())

    return sharding


def _pretrained(options: Options) -> Any:
    """Return a state after three steps, whose moments are no longer zero."""
    import jax
    import jax.numpy as jnp

    import jinit

    state = jinit.materialize(_maker(options, options.classes))(jax.random.key(0))
    x = jax.random.normal(jax.random.key(2), (32, options.width))
    y = jnp.arange(32) % options.classes

    @jax.jit
    def step(state: Any) -> Any:
        def loss(params: Any) -> jax.Array:
            logits = state.apply_fn({"params": params}, x)
            picked = jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1)
            return -picked.mean()

        return state.apply_gradients(grads=jax.grad(loss)(state.params))

    for _ in range(3):
        state = step(state)
    return state


def _save(folder: pathlib.Path, state: Any) -> None:
    import orbax.checkpoint as ocp

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, state, force=True)


def _restored(folder: pathlib.Path, state: Any) -> Any:
    """Return a state whose structs are the checkpoint's arrays, on their devices."""
    import jax
    import orbax.checkpoint as ocp

    # Orbax does not read the leaves that are drawn.
    target = jax.tree.map(
        lambda x: x if isinstance(x, jax.ShapeDtypeStruct) else ocp.PLACEHOLDER, state
    )
    how = ocp.args.PyTreeRestore(
        item=target,
        restore_args=ocp.checkpoint_utils.construct_restore_args(target),
    )
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        arrays = checkpointer.restore(folder, args=how)
    return jax.tree.map(
        lambda x, array: array if isinstance(x, jax.ShapeDtypeStruct) else x,
        state,
        arrays,
    )


def _report(state: Any, whole: Any) -> None:
    """Print one row for each leaf."""
    import jax

    table = Table("leaf", "shape", "on one device", "from", title_justify="left")
    rows = zip(
        jax.tree_util.tree_leaves_with_path(whole), jax.tree.leaves(state), strict=True
    )
    for (path, leaf), before in rows:
        is_restored = isinstance(before, jax.ShapeDtypeStruct)
        table.add_row(
            _path(path),
            str(leaf.shape),
            str(leaf.sharding.shard_shape(leaf.shape)),
            "the checkpoint" if is_restored else "a draw",
        )
    console = _cli.console()
    console.print(table)


def _is_right(whole: Any, saved: Any, fresh: Any) -> bool:
    """Tell whether the head is the fresh one, and all else is as it was saved."""
    import jax
    import numpy as np

    rows = zip(
        jax.tree_util.tree_leaves_with_path(whole),
        jax.tree.leaves(saved),
        jax.tree.leaves(fresh),
        strict=True,
    )
    return all(
        np.array_equal(leaf, old if is_in_checkpoint(_path(path), leaf) else new)
        for (path, leaf), old, new in rows
    )


def _path(path: Any) -> str:
    import jax

    return jax.tree_util.keystr(path, simple=True, separator="/")


if __name__ == "__main__":
    sys.exit(main())
