"""State-space layers in plain JAX: Mamba's selective scan, and S5, which is complex."""

import jax
import jax.numpy as jnp

from tests.support.zoo.truth import dense, floats, known

FEATURES, WIDTH, INNER, STATES, RANK, WINDOW, OUTPUTS = 5, 12, 24, 4, 2, 4, 3
BATCH, LENGTH, MODES = 2, 7, 6


def rms_norm(scale, x):
    return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6) * scale


def causal_window(p, x):
    y = jax.lax.conv_general_dilated(
        x, p["weight"], (1,), [(WINDOW - 1, 0)],
        dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=INNER,
    )  # fmt: skip
    return y + p["bias"]


def selective_scan(x, dt, a, b, c):
    """h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t;  y_t = C_t h_t."""

    def step(h, now):
        x, dt, b, c = now
        decay = jnp.exp(dt[..., None] * a)
        h = decay * h + (dt * x)[..., None] * b[:, None, :]
        return h, jnp.einsum("bdn,bn->bd", h, c)

    times = [jnp.swapaxes(value, 0, 1) for value in (x, dt, b, c)]
    _, y = jax.lax.scan(step, jnp.zeros((*x[:, 0].shape, STATES)), times)
    return jnp.swapaxes(y, 0, 1)


def mixer(p, x):
    x, z = jnp.split(x @ p["in_proj"], 2, axis=-1)
    x = jax.nn.silu(causal_window(p["conv1d"], x))
    dt, b, c = jnp.split(x @ p["x_proj"], [RANK, RANK + STATES], axis=-1)
    dt = jax.nn.softplus(dt @ p["dt_proj"]["weight"] + p["dt_proj"]["bias"])
    y = selective_scan(x, dt, -jnp.exp(p["A_log"]), b, c) + x * p["D"]
    return (y * jax.nn.silu(z)) @ p["out_proj"]


def mamba(params, x):
    x = x @ params["embed"]
    for p in params["layers"]:
        x = x + mixer(p["mixer"], rms_norm(p["norm"], x))
    return rms_norm(params["norm_f"], x) @ params["head"]


MAMBA_PARAMS = {
    "embed": dense(FEATURES, WIDTH),
    "layers": [
        {
            "norm": dense(WIDTH),
            "mixer": {
                "in_proj": dense(WIDTH, 2 * INNER),
                "conv1d": {"weight": dense(WINDOW, 1, INNER), "bias": dense(INNER)},
                "x_proj": dense(INNER, RANK + 2 * STATES),
                "dt_proj": {"weight": dense(RANK, INNER), "bias": dense(INNER)},
                "A_log": dense(INNER, STATES),
                "D": dense(INNER),
                "out_proj": dense(INNER, WIDTH),
            },
        }
    ]
    * 2,
    "norm_f": dense(WIDTH),
    "head": dense(WIDTH, OUTPUTS),
}

# D x + y is a residual addition by its form, so nothing is claimed of the inner
# branches and of depth. Whether y silu(z) is a gated unit is a matter of taste.
MAMBA = """
embed       io    5  12  input
layers/{0,1}/norm                none .   .  scale
layers/{0,1}/mixer/in_proj       io  12  48  gate? up?
layers/{0,1}/mixer/conv1d/weight kio  4   4  convolution gate? up?  # one channel
layers/{0,1}/mixer/conv1d/bias   none .   .  bias
layers/{0,1}/mixer/x_proj        io  24  10  gate? up? residual_output?
layers/{0,1}/mixer/dt_proj/weight io  2  24  gate? up? residual_output?
layers/{0,1}/mixer/dt_proj/bias  none .   .  bias
layers/{0,1}/mixer/A_log         none .   .  other|scale|recurrent
layers/{0,1}/mixer/D             none .   .  other|scale
layers/{0,1}/mixer/out_proj      io  24  12  residual_output
norm_f      none  .   .  scale
head        io   12   3  readout
"""


def diagonal_scan(decays, inputs):
    """x_t = a x_{t-1} + u_t, by an associative scan."""

    def combine(one, other):
        (a, x), (b, y) = one, other
        return a * b, b * x + y

    decays = jnp.broadcast_to(decays, inputs.shape)
    return jax.lax.associative_scan(combine, (decays, inputs))[1]


def s5_layer(p, u):
    """Run one sequence (length, features) through a diagonal complex system."""
    rates = p["Lambda_re"] + 1j * p["Lambda_im"]
    step = jnp.exp(p["log_step"])
    decays = jnp.exp(rates * step)
    b = ((decays - 1) / rates)[:, None] * (p["B_re"] + 1j * p["B_im"])
    c = p["C_re"] + 1j * p["C_im"]
    inputs = jax.vmap(lambda now: b @ now)(u.astype(b.dtype))
    states = diagonal_scan(decays[None, :], inputs)
    return jax.vmap(lambda state: (c @ state).real)(states) + p["D"] * u


def s5(params, x):
    x = x @ params["encoder"]
    for p in params["layers"]:
        y = jax.vmap(s5_layer, (None, 0))(p["ssm"], rms_norm(p["norm"], x))
        y = jax.nn.gelu(y)
        x = x + y * jax.nn.sigmoid(y @ p["gate"])
    return x.mean(axis=1) @ params["decoder"]


S5_PARAMS = {
    "encoder": dense(FEATURES, WIDTH),
    "layers": [
        {
            "norm": dense(WIDTH),
            "ssm": {
                **{
                    name: dense(MODES)
                    for name in ("Lambda_re", "Lambda_im", "log_step")
                },
                **{name: dense(MODES, WIDTH) for name in ("B_re", "B_im")},
                **{name: dense(WIDTH, MODES) for name in ("C_re", "C_im")},
                "D": dense(WIDTH),
            },
            "gate": dense(WIDTH, WIDTH),
        }
    ]
    * 2,
    "decoder": dense(WIDTH, OUTPUTS),
}

S5 = """
encoder    io   5  12  input
layers/{0,1}/norm     none .  .  scale
layers/{0,1}/ssm/Lambda_{re,im}  none . . other|scale|recurrent
layers/{0,1}/ssm/log_step        none . . other|scale|recurrent
layers/{0,1}/ssm/B_{re,im}  oi  12   6                  # B u contracts axis 1
layers/{0,1}/ssm/C_{re,im}  oi   6  12  residual_output?  # C x, with D u beside it
layers/{0,1}/ssm/D    none .  .  other|scale
layers/{0,1}/gate     io  12  12  gate? residual_output
decoder    io  12   3  readout
"""

X = floats(BATCH, LENGTH, FEATURES)
MODELS = {
    "mamba": lambda: known(mamba, MAMBA_PARAMS, X, table=MAMBA, depth=None),
    "s5": lambda: known(s5, S5_PARAMS, X, table=S5, depth=None),
}
