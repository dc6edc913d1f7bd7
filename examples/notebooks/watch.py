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
# # Watching a training
#
# The rate of this training rises from step to step: a warm-up without an end.
# `jinit.watch` names the tensor, the number and the cure before the loss rises for
# good. With a bounded rate it finds nothing.

# %%
import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import load_digits

import jinit

images, labels = load_digits(return_X_y=True)
x = jnp.asarray((images - images.mean()) / images.std(), jnp.float32)
y = jnp.asarray(labels)


class Perceptron(nn.Module):
    @nn.compact
    def __call__(self, x):
        for number in range(3):
            layer = nn.Dense(64, kernel_init=jinit.he(), name=f"hidden_{number}")
            x = nn.relu(layer(x))
        return nn.Dense(10, kernel_init=jinit.lecun(), name="classes")(x)


model = Perceptron()
params = jinit.materialize(model.init)(jax.random.key(0), x[:1])["params"]

# %% [markdown]
# ## Wrap the optimizer
#
# `jinit.watch(tx)` is the same optimizer: its updates are equal bit for bit. It keeps a
# few numbers for each tensor in its state.

# %%
STEPS = 300


def train(rate):
    """Return the losses, the first finding with its step, and the last report."""
    tx = jinit.watch(optax.adam(rate))

    @jax.jit
    def ten_steps(carry, keys):
        def step(carry, key):
            params, state = carry
            rows = jax.random.randint(key, (64,), 0, len(x))

            def loss(params):
                logits = model.apply({"params": params}, x[rows])
                return optax.softmax_cross_entropy_with_integer_labels(
                    logits, y[rows]
                ).mean()

            value, gradient = jax.value_and_grad(loss)(params)
            updates, state = tx.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), value

        return jax.lax.scan(step, carry, keys)

    keys = jax.random.split(jax.random.key(1), STEPS).reshape(-1, 10)
    carry, losses, first = (params, tx.init(params)), [], None
    for number, some in enumerate(keys, 1):
        carry, values = ten_steps(carry, some)
        losses.extend(np.asarray(values))
        report = jinit.watched(carry[1])
        if first is None and report.findings:
            first = 10 * number, report
    return losses, first, report


# %% [markdown]
# ## The rate rises without an end

# %%
rising = optax.linear_schedule(0.0, 0.1, STEPS)
losses, first, _ = train(rising)
step, report = first
report

# %%
report.plot()

# %% [markdown]
# ## The rate is bounded

# %%
bounded_losses, nothing, report = train(lambda step: jnp.minimum(rising(step), 3e-3))
report

# %%
figure, axes = plt.subplots()
axes.plot(losses, label="the rate rises")
axes.plot(bounded_losses, label="the rate is bounded")
axes.axvline(step, linestyle="--", color="gray", label=f"finding at step {step}")
axes.set(yscale="log", xlabel="step", ylabel="loss, nats (log)")
axes.set_title("The finding comes before the loss rises for good")
_ = axes.legend()

# %% [markdown]
# [The guide](../guides/watching.md) lists all findings and what to do.
# `python -m examples.watch` shows a live table beside a training.
