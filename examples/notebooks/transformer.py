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
# # Starting a transformer
#
# A model is read from its equations, a recipe has the laws of its architecture, and a
# plan says how each tensor will be drawn, before any tensor is drawn. The task is to
# name the next character of Python's help pages, which every installation has.

# %%
from pydoc_data import topics

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import jinit

text = "".join(topics.topics.values())
alphabet = sorted(set(text))
number = {character: i for i, character in enumerate(alphabet)}
tokens = jnp.asarray([number[character] for character in text])
LAYERS, WIDTH, HEADS, LENGTH = 2, 64, 4, 32


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        mask = nn.make_causal_mask(x[..., 0])
        attention = nn.MultiHeadDotProductAttention(HEADS, name="attention")
        x = x + attention(nn.LayerNorm()(x), mask=mask)
        y = nn.gelu(nn.Dense(4 * WIDTH, name="up")(nn.LayerNorm()(x)))
        return x + nn.Dense(WIDTH, name="down")(y)


class Transformer(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(len(alphabet), WIDTH, name="characters")(tokens)
        places = jnp.arange(tokens.shape[-1])[None]
        x = x + nn.Embed(LENGTH, WIDTH, name="positions")(places)
        for layer in range(LAYERS):
            x = Block(name=f"block_{layer}")(x)
        return nn.Dense(len(alphabet), name="readout")(nn.LayerNorm()(x))


# %% [markdown]
# ## Read the model
#
# `jax.eval_shape` gives shapes without arrays. The network knows from the equations
# what each parameter does, so the names of parameters do not matter.

# %%
model, key = Transformer(), jax.random.key(0)
window = jax.ShapeDtypeStruct((1, LENGTH), jnp.int32)
shapes = jax.eval_shape(model.init, key, window)
net = jinit.network(model, shapes, window)
net

# %% [markdown]
# ## Plan its start
#
# A recipe is a list of rules with its sources. GPT-2 draws all kernels with a std of
# 0.02, and those that end a residual branch with 0.02 / sqrt(2 layers).

# %%
recipe = jinit.recipes.gpt2(LAYERS)
recipe

# %%
plan = jinit.plan(net, recipe)
plan

# %% [markdown]
# ## Draw and train

# %%
params = net.replace(plan.init(key)).model()
tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(3e-3))


@jax.jit
def train(params):
    def loss(params, key):
        starts = jax.random.randint(key, (16, 1), 0, len(tokens) - LENGTH - 1)
        batch = tokens[starts + jnp.arange(LENGTH + 1)]
        logits = model.apply(params, batch[:, :-1])
        costs = optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:])
        return costs.mean()

    def step(carry, key):
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params, key)
        updates, state = tx.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    steps = jax.random.split(jax.random.key(1), 60)
    return jax.lax.scan(step, (params, tx.init(params)), steps)[1]


losses = train(params)
figure, axes = plt.subplots()
axes.plot(losses)
axes.axhline(np.log(len(alphabet)), linestyle=":", color="gray", label="guessing")
axes.set(xlabel="step", ylabel="loss, nats per character")
axes.set_title(f"From {losses[0]:.2f} to {losses[-5:].mean():.2f} in 60 steps")
_ = axes.legend()

# %% [markdown]
# ## Or start with the model's own initializers
#
# `jinit.materialize` gives the values of `model.init`. It runs no forward pass, and it
# compiles each distinct sampler once, however many layers have it.

# %%
variables = jinit.materialize(model.init)(key, window)
f"{sum(leaf.size for leaf in jax.tree.leaves(variables)):,} numbers"

# %% [markdown]
# [Rules and roles](../guides/plans.md) and [whole models](../guides/whole-models.md)
# have the details; `python -m examples.transformer --help` trains longer, by other
# recipes.
