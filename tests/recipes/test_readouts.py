"""Recipes tell embeddings of two towers, tables of modulations and latents apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from jinit import recipes
from tests.support.trees import struct

KEY = jax.random.key(0)
WIDTH = 16


@pytest.fixture(autouse=True)
def _as_the_field_writes():
    with jax.numpy_rank_promotion("allow"):
        yield


def kernel(*shape):
    return jnp.ones(shape)


def normed(x):
    return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-6)


def attended(p, queries, others):
    q, k, v = queries @ p["q"], others @ p["k"], others @ p["v"]
    return jax.nn.softmax(q @ k.mT / WIDTH**0.5) @ v @ p["o"]


def attention():
    return dict.fromkeys("qkvo", kernel(WIDTH, WIDTH))


def tower(p, x):
    x = x @ p["first"]
    x = x + jax.nn.gelu(normed(x) @ p["up"]) @ p["down"]
    return normed(x).mean(1) @ p["proj"]


def embedding(p, x):
    x = tower(p, x)
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def logits(p, image, text):
    product = embedding(p["image"], image) @ embedding(p["text"], text).T
    return product * jnp.exp(p["t"]) + p["b"]


def scaled_before(p, image, text):
    image = embedding(p["image"], image) * jnp.exp(p["t"])
    return image @ embedding(p["text"], text).T


def towers(*numbers):
    one = {"first": kernel(12, WIDTH), "up": kernel(WIDTH, 64)}
    one |= {"down": kernel(64, WIDTH), "proj": kernel(WIDTH, 8)}
    return {"image": one, "text": one} | dict.fromkeys(numbers, jnp.ones(()))


@pytest.mark.parametrize(
    "model, head, params",
    [
        (logits, recipes.siglip(), towers("t", "b")),
        (scaled_before, recipes.clip(), towers("t")),
    ],
)
def test_embeddings_of_big_vision_s_towers_are_no_zeros(model, head, params):
    """siglip_lit_coco.py of big_vision at 0127fb6 has head_zeroinit=False."""
    inputs = jax.random.normal(KEY, (2, 3, 5, 12))
    net = jinit.network(model, params, *inputs)
    plan = jinit.plan(net, [*head, *recipes.big_vision_vit()])
    rows = {row["path"]: row["std"] for row in plan.rows}
    assert rows["image/proj"] == rows["text/proj"] == pytest.approx(WIDTH**-0.5)
    assert jnp.isfinite(model(plan.init(KEY), *inputs)).all()


def test_the_head_of_a_classifier_stays_zero():
    net = jinit.network(tower, towers()["image"], struct(3, 5, 12))
    rows = jinit.plan(net, recipes.big_vision_vit()).rows
    assert {row["path"]: row["std"] for row in rows}["proj"] == 0


def block(p, x, modulation):
    """The blocks of PixArt: a table of each block is added to one modulation."""
    entries = modulation.reshape(-1, 4, WIDTH) + p["table"]
    scale1, gate1, scale2, gate2 = jnp.moveaxis(entries, 1, 0)[:, :, None]
    y = normed(x) * (1 + scale1)
    x = x + gate1 * attended(p, y, y)
    y = normed(x) * (1 + scale2)
    return x + gate2 * (jax.nn.gelu(y @ p["up"]) @ p["down"])


def pixart(is_scanned):
    def model(p, x, time):
        x = x @ p["patches"] + p["positions"]
        condition = jax.nn.silu(jax.nn.silu(time @ p["time1"]) @ p["time2"])
        modulation = condition @ p["ada"]
        if is_scanned:
            step = lambda x, one: (block(one, x, modulation), None)  # noqa: E731
            x, _ = jax.lax.scan(step, x, p["blocks"])
        else:
            for one in p["blocks"]:
                x = block(one, x, modulation)
        return normed(x) @ p["last"]

    one = attention() | {"table": kernel(4, WIDTH)}
    one |= {"up": kernel(WIDTH, 64), "down": kernel(64, WIDTH)}
    blocks = [one, one]
    params = {"patches": kernel(12, WIDTH), "positions": kernel(9, WIDTH)}
    params |= {"time1": kernel(8, WIDTH), "time2": kernel(WIDTH, WIDTH)}
    params |= {"ada": kernel(WIDTH, 4 * WIDTH), "last": kernel(WIDTH, 12)}
    params["blocks"] = (
        jax.tree.map(lambda *x: jnp.stack(x), *blocks) if is_scanned else blocks
    )
    return jinit.network(model, params, struct(2, 9, 12), struct(2, 8))


@pytest.mark.parametrize("is_scanned", [False, True])
def test_the_table_that_shifts_a_modulation_is_a_part_of_it(is_scanned):
    start = jinit.plan(pixart(is_scanned), recipes.dit()).init(KEY)
    blocks = [start["blocks"]] if is_scanned else start["blocks"]
    assert all((one["table"] == 0).all() for one in blocks)
    assert float(jnp.abs(start["positions"]).max()) > 0.5


def pooled(p, x):
    x = x @ p["patches"]
    x = x + jax.nn.gelu(normed(x) @ p["up"]) @ p["down"]
    latent = jnp.broadcast_to(p["latent"], (len(x), 1, WIDTH))
    return attended(p, latent, x)[:, 0] @ p["head"]


def with_token(p, x):
    """A class attention, whose keys read the token too."""
    x = x @ p["patches"]
    x = x + jax.nn.gelu(normed(x) @ p["up"]) @ p["down"]
    latent = jnp.broadcast_to(p["latent"], (len(x), 1, WIDTH))
    both = jnp.concatenate([latent, x], axis=1)
    return attended(p, both[:, :1], both)[:, 0] @ p["head"]


@pytest.mark.parametrize("model, is_latent", [(pooled, True), (with_token, False)])
def test_the_latent_of_an_attention_pooling_is_no_class_token(model, is_latent):
    """trunc_normal_tf_(self.latent, std=latent_dim**-0.5), attention_pool.py, 47dd100.

    The function cuts a standard normal at +-2 and multiplies it by the std.
    """
    params = attention() | {"patches": kernel(12, WIDTH), "head": kernel(WIDTH, 10)}
    params |= {"up": kernel(WIDTH, 64), "down": kernel(64, WIDTH)}
    params["latent"] = kernel(1, 1, WIDTH)
    net = jinit.network(model, params, struct(2, 9, 12))
    plan = jinit.plan(net, recipes.vit())
    std = {row["path"]: row["std"] for row in plan.rows}["latent"]
    assert std == pytest.approx(0.8796 * WIDTH**-0.5 if is_latent else 1e-6, rel=1e-4)
    largest = max(
        float(np.abs(plan.init(jax.random.key(i))["latent"]).max()) for i in range(20)
    )
    assert largest <= (2 * WIDTH**-0.5 if is_latent else 1e-5)
