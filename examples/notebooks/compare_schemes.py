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
# # Comparing schemes
#
# Three perceptrons of twelve relu layers learn images of digits. They differ in the
# scheme of their kernels alone. Which of them learn can be seen before any is trained.

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
    kernel_init: jinit.Initializer

    @nn.compact
    def __call__(self, x):
        for _ in range(12):
            x = nn.relu(nn.Dense(64, kernel_init=self.kernel_init)(x))
        return nn.Dense(10, kernel_init=jinit.lecun())(x)


schemes = {
    "xavier": jinit.xavier(),
    "he": jinit.he(),
    "normal(0.01)": jinit.normal(0.01),
}

# %% [markdown]
# ## Before training
#
# `jinit.compare` draws each network from three seeds and measures the signal and the
# gradient in every layer. All of them share one compiled program.

# %%
keys = jax.random.split(jax.random.key(0), 3)
comparison = jinit.compare(Perceptron, schemes, x[:256], keys)
comparison

# %% [markdown]
# A relu drops half of the mean square. He's variance 2 / n makes up for it. Xavier's is
# half of that where a layer is square, so twelve layers leave 1 / 64 of the rms.

# %%
comparison.plot()

# %% [markdown]
# ## After training
#
# All networks train by the same steps of SGD. `jinit.materialize` draws a network with
# the values of `model.init`, and compiles nothing twice.


# %%
def loss(params, rows):
    logits = Perceptron(jinit.zeros).apply(params, x[rows])
    return optax.softmax_cross_entropy_with_integer_labels(logits, y[rows]).mean()


tx = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.02, momentum=0.9))


@jax.jit
def train(params):
    def step(carry, key):
        params, state = carry
        rows = jax.random.randint(key, (64,), 0, len(x))
        value, gradient = jax.value_and_grad(loss)(params, rows)
        updates, state = tx.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    steps = jax.random.split(jax.random.key(1), 200)
    return jax.lax.scan(step, (params, tx.init(params)), steps)[1]


figure, axes = plt.subplots()
for name, scheme in schemes.items():
    params = jinit.materialize(Perceptron(scheme).init)(keys[0], x[:1])
    losses = np.asarray(train(params)).reshape(-1, 10).mean(1)
    axes.plot(np.arange(5, 200, 10), losses, label=f"{name}: {losses[-1]:.2f}")
axes.axhline(np.log(10), linestyle=":", color="gray", label="guessing: 2.30")
axes.set(
    xlabel="step", ylabel="loss, nats", title="Where the signal dies, so does the loss"
)
_ = axes.legend()

# %% [markdown]
# `python -m examples.compare_schemes` is the whole experiment, with more schemes,
# several seeds and MNIST. [Choosing a scheme](../guides/schemes.md) says what to take
# for other architectures.
