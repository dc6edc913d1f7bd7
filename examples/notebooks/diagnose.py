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
# # Diagnosing a network that does not train
#
# The loss of a perceptron of thirty relu layers stays at ln 10, that of guessing.
# `jinit.probe` says why before any training, `jinit.audit` says what the kernels were
# drawn from, and one changed argument mends it.

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
    kernel_init: object = nn.initializers.lecun_normal()  # Flax's default

    @nn.compact
    def __call__(self, x):
        for _ in range(30):
            x = nn.relu(nn.Dense(64, kernel_init=self.kernel_init)(x))
        return nn.Dense(10, kernel_init=jinit.xavier())(x)


def loss(logits, labels=y[:256]):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


# %% [markdown]
# ## The layer that is sick
#
# The probe runs one batch through the network, forward and backward. A row with `!` is
# the layer that its finding names.

# %%
model = Perceptron()
sick = jinit.materialize(model.init)(jax.random.key(0), x[:1])
report = jinit.probe(model, sick, x[:256], loss=loss)
report

# %%
report.plot()

# %% [markdown]
# ## The law of the kernels
#
# The audit reads the network, so it knows the fans of each kernel and what it reads. It
# recognizes the law of the numbers, and names the one that keeps the signal.

# %%
jinit.audit(model, sick, x[:256])

# %% [markdown]
# ## The cure
#
# Only the initializer changes, and the verdict has no finding any more.

# %%
cured_model = Perceptron(kernel_init=jinit.he())
cured = jinit.materialize(cured_model.init)(jax.random.key(0), x[:1])
jinit.probe(cured_model, cured, x[:256], loss=loss).verdict

# %%
tx = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.02, momentum=0.9))


@jax.jit
def train(params):
    def step(carry, key):
        params, state = carry
        rows = jax.random.randint(key, (64,), 0, len(x))
        value, gradient = jax.value_and_grad(
            lambda params: loss(model.apply(params, x[rows]), y[rows])
        )(params)
        updates, state = tx.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    steps = jax.random.split(jax.random.key(1), 300)
    return jax.lax.scan(step, (params, tx.init(params)), steps)[1]


figure, axes = plt.subplots()
for name, params in {"Flax's default": sick, "jinit.he()": cured}.items():
    losses = np.asarray(train(params)).reshape(-1, 10).mean(1)
    axes.plot(np.arange(5, 300, 10), losses, label=f"{name}: {losses[-1]:.2f}")
axes.set(xlabel="step", ylabel="loss, nats", title="One argument decides")
_ = axes.legend()

# %% [markdown]
# `report.check()` and `audit.check()` raise if there is a finding: a test of your model
# is one line. See [the guide](../guides/diagnosing.md) for more, and
# `python -m examples.diagnose --help` for this example with other sizes.
