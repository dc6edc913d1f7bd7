# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---
# %% [markdown]
# # Restoring a body, drawing a head
#
# Fine-tuning starts from a checkpoint whose head has another size. `jinit.materialize`
# draws the new head alone, with its part of the optimizer's state. Everything else
# comes from the checkpoint, and is neither drawn nor held twice.

# %%
import pathlib
import tempfile

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
from flax.training.train_state import TrainState

import jinit


class Classifier(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x):
        for layer in range(2):
            y = nn.gelu(nn.Dense(128, name=f"up_{layer}")(x))
            x = x + nn.Dense(32, name=f"down_{layer}")(y)
        return nn.Dense(self.classes, name="head")(x)


def maker(classes):
    """Return the function that makes the whole state: parameters and optimizer."""
    model, tx = Classifier(classes), optax.adamw(1e-3)

    def make(key):
        params = model.init(key, jnp.ones((1, 32)))["params"]
        return TrainState.create(apply_fn=model.apply, params=params, tx=tx)

    return make


# %% [markdown]
# ## A checkpoint of ten classes

# %%
folder = pathlib.Path(tempfile.mkdtemp()) / "checkpoint"
old = jinit.materialize(maker(10))(jax.random.key(0))
with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(folder, old)

# %% [markdown]
# ## A state for 24 classes
#
# `skip` gets the path of each leaf. A leaf that is skipped is not drawn: a
# `jax.ShapeDtypeStruct` stands in its place, into which Orbax restores.


# %%
def is_in_checkpoint(path, leaf):
    """Say no for the head, of another size, and for its moments in the optimizer."""
    return "head" not in path.split("/")


state = jinit.materialize(maker(24), skip=is_in_checkpoint)(jax.random.key(1))
print(state.params["up_0"]["kernel"])
print(state.params["head"]["kernel"].shape)

# %% [markdown]
# ## Restore the rest


# %%
def is_struct(leaf):
    return isinstance(leaf, jax.ShapeDtypeStruct)


target = jax.tree.map(lambda leaf: leaf if is_struct(leaf) else ocp.PLACEHOLDER, state)
arguments = ocp.args.PyTreeRestore(
    item=target,
    restore_args=ocp.checkpoint_utils.construct_restore_args(target),
)
with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    arrays = checkpointer.restore(folder, args=arguments)
whole = jax.tree.map(
    lambda leaf, array: array if is_struct(leaf) else leaf, state, arrays
)

# %%
body_is_old = (whole.params["up_0"]["kernel"] == old.params["up_0"]["kernel"]).all()
fresh = maker(24)(jax.random.key(1))
head_is_new = (whole.params["head"]["kernel"] == fresh.params["head"]["kernel"]).all()
print(f"the body is that of the checkpoint: {body_is_old}")
print(f"the head is that of a fresh start: {head_is_new}")

# %% [markdown]
# With `shardings=` each leaf is drawn, and restored, where it lives:
# `python -m examples.restore` does that on eight devices. [Whole
# models](../guides/whole-models.md) and [sharding](../guides/sharding.md) say more.
