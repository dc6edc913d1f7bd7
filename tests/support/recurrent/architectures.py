"""Architectures of two layers are functions (parts, ids) -> logits."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.nn import gelu, sigmoid, silu, softplus

D, HEADS, STATE, WINDOW, VOCABULARY = 16, 4, 8, 4, 40
IDS = jnp.zeros((2, 6), int)


def _scan(step, first, *inputs):
    """Scan over the second axis of the inputs."""
    swapped = [jnp.moveaxis(x, 1, 0) for x in inputs]
    return jnp.moveaxis(lax.scan(step, first, tuple(swapped))[1], 0, 1)


def _language_model(layer, num_layers=2):
    def architecture(parts, ids):
        x = parts.embed("embed", ids, VOCABULARY, D)
        for number in range(num_layers):
            x = layer(parts, f"layer_{number}", x)
        return parts.dense("head", parts.norm("norm", x), VOCABULARY)

    return architecture


def _heads(x):
    return x.reshape(*x.shape[:-1], HEADS, -1)


def _flat(x):
    return x.reshape(*x.shape[:-2], -1)


def _mlp(parts, name, x):
    y = parts.norm(f"{name}_mlp_norm", x)
    gate = silu(parts.dense(f"{name}_gate", y, 2 * D))
    up = parts.dense(f"{name}_up", y, 2 * D)
    return x + parts.dense(f"{name}_down", gate * up, D)


def _mamba2(parts, name, x):
    inner = 2 * D
    y = parts.dense(f"{name}_in", parts.norm(f"{name}_norm", x), 4 * D + 16 + HEADS)
    z, mixed, dt = jnp.split(y, [inner, 2 * inner + 2 * STATE], -1)
    mixed = silu(parts.conv(f"{name}_conv", mixed, WINDOW, bias=True))
    v, b, c = jnp.split(mixed, [inner, inner + STATE], -1)
    dt = softplus(dt + parts.param(f"{name}_dt", (HEADS,)))
    a = -jnp.exp(parts.param(f"{name}_a_log", (HEADS,)))
    v, decay = _heads(v), jnp.exp(dt * a)

    def step(state, now):
        decay, dt, v, b, c = now
        state = state * decay[..., None, None]
        state += (dt[..., None] * v)[..., None] * b[:, None, None]
        return state, jnp.einsum("bhpn,bn->bhp", state, c)

    first = jnp.zeros((x.shape[0], HEADS, inner // HEADS, STATE))
    y = _scan(step, first, decay, dt, v, b, c)
    y += parts.param(f"{name}_skip", (HEADS,))[:, None] * v
    y = parts.norm(f"{name}_inner_norm", _flat(y) * silu(z))
    return x + parts.dense(f"{name}_out", y, D)


def _delta(parts, name, x, decays):
    """Apply a gated delta rule with decays of (batch, time, heads) or per channel."""
    y = parts.norm(f"{name}_norm", x)

    def short(letter):
        z = parts.dense(f"{name}_{letter}", y, D)
        return _heads(silu(parts.conv(f"{name}_{letter}_conv", z, WINDOW)))

    q, k, v = map(short, "qkv")
    q, k = (z * lax.rsqrt(jnp.sum(z * z, -1, keepdims=True) + 1e-6) for z in (q, k))
    beta = sigmoid(parts.dense(f"{name}_beta", y, HEADS))
    decay = jnp.exp(decays(parts, name, y))

    def step(state, now):
        q, k, v, beta, decay = now
        state = state * decay[..., None]
        error = v - jnp.einsum("bhk,bhkv->bhv", k, state)
        state += k[..., None] * (beta[..., None] * error)[:, :, None]
        return state, jnp.einsum("bhk,bhkv->bhv", q, state)

    first = jnp.zeros((x.shape[0], HEADS, D // HEADS, D // HEADS))
    out = _flat(_scan(step, first, q, k, v, beta, decay))
    out = parts.norm(f"{name}_inner_norm", out)
    out = out * silu(parts.dense(f"{name}_output_gate", y, D))
    x = x + parts.dense(f"{name}_out", out, D)
    return _mlp(parts, name, x)


def _per_head(parts, name, y):
    a = parts.dense(f"{name}_a", y, HEADS) + parts.param(f"{name}_dt", (HEADS,))
    rate = jnp.exp(parts.param(f"{name}_a_log", (HEADS,)))
    return (-rate * softplus(a))[..., None]


def _per_channel(parts, name, y):
    low = parts.dense(f"{name}_f_down", y, D // HEADS)
    f = parts.dense(f"{name}_f_up", low, D) + parts.param(f"{name}_dt", (D,))
    rate = jnp.exp(parts.param(f"{name}_a_log", (HEADS,)))
    return -rate[:, None] * softplus(_heads(f))


def _block_diagonal(parts, name, x):
    size = x.shape[-1] // HEADS
    kernel = parts.param(f"{name}_kernel", (HEADS, size, size))
    y = jnp.einsum("...hi,hij->...hj", _heads(x), kernel)
    return _flat(y + parts.param(f"{name}_bias", (HEADS, size)))


def _centered_norm(parts, name, x):
    scale = parts.param(f"{name}_scale", (x.shape[-1],))
    return x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * (1 + scale)


def _griffin(parts, name, x):
    y = _centered_norm(parts, f"{name}_norm", x)
    side = gelu(parts.dense(f"{name}_y", y, D, bias=True))
    z = parts.conv(f"{name}_conv", parts.dense(f"{name}_x", y, D, bias=True), 4, True)
    gate_x = sigmoid(_block_diagonal(parts, f"{name}_gate_x", z))
    gate_a = sigmoid(_block_diagonal(parts, f"{name}_gate_a", z))
    log_a = -8.0 * gate_a * softplus(parts.param(f"{name}_lambda", (D,)))
    z = z * gate_x * jnp.sqrt(1 - jnp.exp(2 * log_a))

    def step(h, now):
        a, z = now
        h = a * h + z
        return h, h

    h = _scan(step, jnp.zeros_like(z[:, 0]), jnp.exp(log_a), z)
    x = x + parts.dense(f"{name}_out", h * side, D, bias=True)
    y = _centered_norm(parts, f"{name}_mlp_norm", x)
    gate = gelu(parts.dense(f"{name}_gate", y, 3 * D, bias=True))
    up = parts.dense(f"{name}_up", y, 3 * D, bias=True)
    return x + parts.dense(f"{name}_down", gate * up, D, bias=True)


def _griffin_model(parts, ids):
    x = parts.embed("embed", ids, VOCABULARY, D)
    for number in range(2):
        x = _griffin(parts, f"layer_{number}", x)
    x = _centered_norm(parts, "norm", x)
    return parts.dense("head", x, VOCABULARY)


def _headwise(parts, name, x):
    kernel = parts.param(f"{name}_kernel", (x.shape[-1] // 4, 4, 4))
    y = jnp.einsum("...hd,hod->...ho", x.reshape(*x.shape[:-1], -1, 4), kernel)
    return _flat(y)


def _mlstm(parts, name, x):
    inner = 2 * D
    y = parts.norm(f"{name}_norm", x)
    u, z = jnp.split(parts.dense(f"{name}_up", y, 2 * inner), 2, -1)
    c = silu(parts.conv(f"{name}_conv", u, WINDOW, bias=True))
    q, k = (_headwise(parts, f"{name}_{letter}", c) for letter in "qk")
    v = _headwise(parts, f"{name}_v", u)
    all_three = jnp.concatenate([q, k, v], -1)
    i = parts.dense(f"{name}_igate", all_three, HEADS, bias=True)
    f = parts.dense(f"{name}_fgate", all_three, HEADS, bias=True)
    q, k, v = _heads(q), _heads(k) / 8**0.5, _heads(v)

    def step(carry, now):
        state, normal, m = carry
        q, k, v, i, f = now
        log_f = jax.nn.log_sigmoid(f)
        new_m = jnp.maximum(log_f + m, i)
        keep, take = jnp.exp(log_f + m - new_m), jnp.exp(i - new_m)
        state = keep[..., None, None] * state
        state += take[..., None, None] * k[..., None] * v[:, :, None]
        normal = keep[..., None] * normal + take[..., None] * k
        above = jnp.einsum("bhk,bhkv->bhv", q, state)
        below = jnp.abs(jnp.sum(q * normal, -1, keepdims=True))
        out = above / jnp.maximum(below, jnp.exp(-new_m)[..., None])
        return (state, normal, new_m), out

    size = inner // HEADS
    shapes = (HEADS, size, size), (HEADS, size), (HEADS,)
    first = tuple(jnp.zeros((x.shape[0], *shape)) for shape in shapes)
    h = parts.norm(f"{name}_inner_norm", _flat(_scan(step, first, q, k, v, i, f)))
    h = h + parts.param(f"{name}_skip", (inner,)) * c
    return x + parts.dense(f"{name}_down", h * silu(z), D)


STREAMS = 4


def _connected(parts, name, streams, branch):
    """Apply a branch to the streams of a hyper-connection: (batch, time, s, d)."""
    normed = streams * lax.rsqrt(jnp.mean(streams**2, -1, keepdims=True) + 1e-6)
    normed = normed * (1 + parts.param(f"{name}_norm", (D,)))
    alpha = jnp.tanh(normed @ parts.param(f"{name}_dynamic_alpha", (D, STREAMS + 1)))
    alpha = alpha * parts.param(f"{name}_alpha_scale", ())
    alpha += parts.param(f"{name}_static_alpha", (STREAMS, STREAMS + 1))
    beta = jnp.tanh(normed @ parts.param(f"{name}_dynamic_beta", (D,)))
    beta = beta * parts.param(f"{name}_beta_scale", ())
    beta += parts.param(f"{name}_static_beta", (STREAMS,))
    mixed = jnp.einsum("btsk,btsd->btkd", alpha, streams)
    out = branch(mixed[..., 0, :])
    return mixed[..., 1:, :] + out[:, :, None] * beta[..., None]


def _branches(parts, number):
    """Return the two branches of a layer, as functions of the stream."""

    def attention(x):
        y = parts.norm(f"attention_{number}_norm", x)
        q, k, v = (parts.dense(f"{letter}_{number}", y, D) for letter in "qkv")
        y = jax.nn.softmax(q @ k.mT / D**0.5) @ v
        return parts.dense(f"o_{number}", y, D)

    def mlp(x):
        y = gelu(
            parts.dense(f"up_{number}", parts.norm(f"mlp_{number}_norm", x), 2 * D)
        )
        return parts.dense(f"down_{number}", y, D)

    return attention, mlp


def connected_layer(parts, number, streams):
    for place, branch in enumerate(_branches(parts, number)):
        streams = _connected(parts, f"connection_{number}_{place}", streams, branch)
    return streams


def hyper_connections(parts, ids):
    x = parts.embed("embed", ids, VOCABULARY, D)
    streams = jnp.repeat(x[:, :, None], STREAMS, 2)
    for number in range(2):
        streams = connected_layer(parts, number, streams)
    return parts.dense("head", parts.norm("norm", jnp.mean(streams, 2)), VOCABULARY)


def residual(parts, ids):
    """Return the logits of the same branches on one stream, as a pre-norm network."""
    x = parts.embed("embed", ids, VOCABULARY, D)
    for number in range(2):
        for branch in _branches(parts, number):
            x = x + branch(x)
    return parts.dense("head", parts.norm("norm", x), VOCABULARY)


HEAD_SIZE = D // HEADS
LOW_RANK = 8


def _shifted(x):
    """Return the difference of each token from the one before it."""
    return jnp.pad(x[:, :-1], ((0, 0), (1, 0), (0, 0))) - x


def _layer_norm(parts, name, x):
    x = x - jnp.mean(x, -1, keepdims=True)
    x = x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-5)
    scale = parts.param(f"{name}.scale", (x.shape[-1],))
    return x * scale + parts.param(f"{name}.bias", (x.shape[-1],))


def _time_mix(parts, name, x, v_first, is_first):
    difference = _shifted(x)
    r, w, k, v, a, g = (
        x + difference * parts.param(f"{name}.x_{letter}", (1, 1, D))
        for letter in "rwkvag"
    )

    def low_rank(letter, x, between):
        down = parts.param(f"{name}.{letter}1", (D, LOW_RANK))
        return between(x @ down) @ parts.param(f"{name}.{letter}2", (LOW_RANK, D))

    def vector(part, shape=(1, 1, D)):
        return parts.param(f"{name}.{part}", shape)

    values = v
    r = parts.dense(f"{name}.receptance", r, D)
    w = jnp.exp(-jnp.exp(-softplus(-(vector("w0") + low_rank("w", w, jnp.tanh))) - 0.5))
    k, v = parts.dense(f"{name}.key", k, D), parts.dense(f"{name}.value", v, D)
    mix = sigmoid(vector("v0") + low_rank("v", values, lambda x: x))
    v_first = v if v_first is None else jnp.where(is_first, v, v_first)
    v = v + (v_first - v) * mix
    a = sigmoid(vector("a0") + low_rank("a", a, lambda x: x))
    g = low_rank("g", g, sigmoid)
    kk = _heads(k * vector("k_k"))
    kk = kk * lax.rsqrt(jnp.sum(kk * kk, -1, keepdims=True) + 1e-12)
    k = k * (1 + (a - 1) * vector("k_a"))
    r, w, k, v, a = map(_heads, (r, w, k, v, a))

    def step(state, now):
        r, w, k, v, kk, a = now
        removed = jnp.einsum("bhvk,bhk->bhv", state, -kk)
        state = state * w[:, :, None] + removed[..., None] * (kk * a)[:, :, None]
        state += v[..., None] * k[:, :, None]
        return state, jnp.einsum("bhvk,bhk->bhv", state, r)

    first = jnp.zeros((x.shape[0], HEADS, HEAD_SIZE, HEAD_SIZE))
    y = _layer_norm(parts, f"{name}.ln_x", _flat(_scan(step, first, r, w, k, v, kk, a)))
    bonus = jnp.sum(r * k * vector("r_k", (HEADS, HEAD_SIZE)), -1, keepdims=True) * v
    return parts.dense(f"{name}.output", (y + _flat(bonus)) * g, D), v_first


def _channel_mix(parts, name, x):
    x = x + _shifted(x) * parts.param(f"{name}.x_k", (1, 1, D))
    k = jnp.square(jax.nn.relu(parts.dense(f"{name}.key", x, 4 * D)))
    return parts.dense(f"{name}.value", k, D)


def rwkv7_block(parts, name, x, v_first, is_first=False):
    y = _layer_norm(parts, f"{name}.ln1", x)
    y, v_first = _time_mix(parts, f"{name}.att", y, v_first, is_first)
    x = x + y
    x = x + _channel_mix(parts, f"{name}.ffn", _layer_norm(parts, f"{name}.ln2", x))
    return x, v_first


def rwkv7(parts, ids, num_layers=2):
    x, v_first = parts.embed("emb", ids, VOCABULARY, D), None
    x = _layer_norm(parts, "ln0", x)
    for number in range(num_layers):
        x, v_first = rwkv7_block(parts, f"blocks_{number}", x, v_first)
    return parts.dense("head", _layer_norm(parts, "ln_out", x), VOCABULARY)


BLOCKS = {"mamba2": _mamba2, "griffin": _griffin, "xlstm": _mlstm}
mamba2 = _language_model(_mamba2)
gated_deltanet = _language_model(lambda *args: _delta(*args, _per_head))
kda = _language_model(lambda *args: _delta(*args, _per_channel))
griffin = _griffin_model
xlstm = _language_model(_mlstm)
