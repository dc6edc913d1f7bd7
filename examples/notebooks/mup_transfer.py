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
# # muP: tune narrow, train wide
#
# The best learning rate of a network usually falls as the network gets wider. Under
# the maximal-update parametrization (muP) it stays, so that a narrow network can be
# tuned in place of a wide one.

# %%
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

import jinit

images, labels = load_digits(return_X_y=True)
x = jnp.asarray((images - images.mean()) / images.std(), jnp.float32)
y = jnp.asarray(labels)


class Perceptron(nn.Module):
    width: int
    readout_scale: float = 1.0

    @nn.compact
    def __call__(self, x):
        for _ in range(2):
            x = nn.relu(nn.Dense(self.width, kernel_init=jinit.he())(x))
        return nn.Dense(10, name="readout")(self.readout_scale * x)


def loss(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


# %% [markdown]
# ## What changes with the width
#
# `jinit.mup.infer` compares the shapes of both networks, and says by which factors the
# std, the multiplier and the rate of each tensor change.

# %%
shapes = [
    jax.eval_shape(Perceptron(width).init, jax.random.key(0), x[:1])
    for width in (32, 512)
]
jinit.mup.infer(*shapes)

# %% [markdown]
# ## The coordinate check
#
# The check makes a few steps at two widths: no activation may grow or shrink with the
# width. In narrower models chance blurs the slopes.

# %%
rows = jax.random.randint(jax.random.key(1), (40, 64), 0, len(x))
batches = [(x[some], y[some]) for some in rows]
check = jinit.mup.coordinate_check(
    lambda width: Perceptron(width, 128 / width),
    [128, 512],
    batches[:3],
    lambda p: p.optimizer(optax.adam(3e-3)),
    loss=loss,
    seeds=2,
)
check

# %%
check.plot()

# %% [markdown]
# ## The transfer check
#
# The check trains at each width and rate, and finds where the loss is least: first by
# muP, then by the standard parametrization, whose optimizer does not use `p`.

# %%
widths = [32, 128]
rates = [2.0**exponent for exponent in range(-11, -3)]
transfer = jinit.mup.transfer_check(
    lambda width: Perceptron(width, widths[0] / width),
    widths,
    rates,
    batches,
    lambda rate, p: p.optimizer(optax.adam(rate)),
    loss=loss,
    score="mean",
)
transfer

# %%
transfer.plot()

# %%
standard = jinit.mup.transfer_check(
    Perceptron,
    widths,
    rates,
    batches,
    lambda rate, p: optax.adam(rate),
    loss=loss,
    score="mean",
)
standard.plot()

# %% [markdown]
# [The guide](../guides/mup.md) goes step by step, with depth, attention and other
# optimizers. `python -m examples.mup_transfer` tunes at width 64 and trains at 1024.
