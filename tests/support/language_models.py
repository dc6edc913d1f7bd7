"""Language models with more than a Llama has: experts, nanochat's extras, nGPT."""

from typing import Any

import jax
import jax.numpy as jnp

import jinit
from tests.support.networks import floats, tokens


def mixture(params: Any, x: Any) -> Any:
    """Two layers of attention and a mixture of gated experts, with a shared expert."""
    for p in params["layers"]:
        q, k, v = x @ p["wq"], x @ p["wk"], x @ p["wv"]
        x = x + jax.nn.softmax(q @ k.mT) @ v @ p["wo"]
        scores = jax.nn.softmax(x @ p["router"])
        h = jax.nn.silu(jnp.einsum("btd,edm->btem", x, p["w1"]))
        h = h * jnp.einsum("btd,edm->btem", x, p["w3"])
        routed = jnp.einsum("btem,emd,bte->btd", h, p["w2"], scores)
        shared = (jax.nn.silu(x @ p["s1"]) * (x @ p["s3"])) @ p["s2"]
        x = x + routed + shared
    return x @ params["head"]


def mixture_of_experts() -> jinit.Network:
    """Return the network of the mixture, with a width of 32."""
    size, experts, inner = 32, 4, 48
    shapes = dict.fromkeys(("wq", "wk", "wv", "wo"), (size, size))
    shapes |= {"router": (size, experts), "w1": (experts, size, inner)}
    shapes |= {"w3": (experts, size, inner), "w2": (experts, inner, size)}
    shapes |= {"s1": (size, inner), "s3": (size, inner), "s2": (inner, size)}
    layer = {name: floats(*shape) for name, shape in shapes.items()}
    params = {"layers": [layer, layer], "head": floats(size, 24)}
    return jinit.network(mixture, params, floats(2, 5, size))


def chat(params: Any, ids: Any) -> Any:
    """The extras of nanochat: smear, value tables, gates, factors, backout."""
    x = params["wte"][ids]
    smear = jax.nn.sigmoid(x[:, 1:, :6] @ params["smear_gate"])
    smear = params["smear_lambda"][None, None] * smear
    x = jnp.concatenate([x[:, :1], x[:, 1:] + smear * x[:, :-1]], 1)
    first, middle = x, x
    for number, p in enumerate(params["h"]):
        x = params["resid_lambdas"][number] * x + params["x0_lambdas"][number] * first
        q, k, v = x @ p["c_q"], x @ p["c_k"], x @ p["c_v"]
        if "ve_gate" in p:
            gate = 3 * jax.nn.sigmoid(x[..., :4] @ p["ve_gate"])
            v = v + gate * params["value_embed"][ids]
        x = x + jax.nn.softmax(q @ k.mT) @ v @ p["a_proj"]
        x = x + jax.nn.relu(x @ p["c_fc"]) ** 2 @ p["m_proj"]
        middle = x if number == 1 else middle
    x = x - params["backout_lambda"][None, None] * middle
    return x @ params["lm_head"]


def chat_params(size: int = 32, vocabulary: int = 50, layers: int = 3) -> Any:
    """Return the shapes of nanochat's parameters."""
    square = {name: floats(size, size) for name in ("c_q", "c_k", "c_v", "a_proj")}
    layer = square | {"c_fc": floats(size, 4 * size), "m_proj": floats(4 * size, size)}
    return {
        "wte": floats(vocabulary, size),
        "smear_gate": floats(6, 1),
        "smear_lambda": floats(1),
        "h": [layer, layer | {"ve_gate": floats(4, 1)}, layer][:layers],
        "resid_lambdas": floats(layers),
        "x0_lambdas": floats(layers),
        "value_embed": floats(vocabulary, size),
        "backout_lambda": floats(1),
        "lm_head": floats(size, vocabulary),
    }


def unit(x: Any) -> Any:
    """Return vectors of norm 1."""
    return x / jnp.sqrt(jnp.sum(x * x, -1, keepdims=True))


def normalized(params: Any, ids: Any) -> Any:
    """The equations of NVIDIA/ngpt, model.py, ed19eb2, with one head."""
    x = params["wte"][ids]
    size = x.shape[-1]
    scale = size**-0.5
    for p in params["h"]:
        sqk = (p["sqk"] / scale)[None, None]
        q, k = (sqk * unit(x @ p[name]) for name in ("query", "key"))
        y = jax.nn.softmax(size**0.5 * q @ k.mT) @ (x @ p["value"]) @ p["att_proj"]
        step = jnp.abs(p["attn_alpha"] * (0.05 / scale))[None, None]
        x = unit(unit(x) + step * (unit(y) - unit(x)))
        uv = (p["suv"] * size**0.5)[None, None] * (x @ p["c_fc"])
        u, v = jnp.split(uv, 2, -1)
        y = (u * jax.nn.silu(v)) @ p["mlp_proj"]
        step = jnp.abs(p["mlp_alpha"] * (0.05 / scale))[None, None]
        x = unit(unit(x) + step * (unit(y) - unit(x)))
    return (params["sz"] / scale)[None, None] * (x @ params["lm_head"])


def normalized_network(size: int = 32, vocabulary: int = 50) -> jinit.Network:
    """Return the network of nGPT's equations, with two layers."""
    layer = dict.fromkeys(("query", "key", "value", "att_proj"), floats(size, size))
    layer |= {"c_fc": floats(size, 8 * size), "mlp_proj": floats(4 * size, size)}
    layer |= dict.fromkeys(("sqk", "attn_alpha", "mlp_alpha"), floats(size))
    layer |= {"suv": floats(8 * size)}
    shapes = {"wte": floats(vocabulary, size), "h": [layer, layer]}
    shapes |= {"sz": floats(vocabulary), "lm_head": floats(size, vocabulary)}
    return jinit.network(normalized, shapes, tokens(2, 5))
