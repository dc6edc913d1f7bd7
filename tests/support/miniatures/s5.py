"""S5 (Smith et al. 2023) has diagonal state-space layers: a function of parameters.

The rates are those of HiPPO's normal part, -1/2 + i pi n; steps are log-uniform on
[1e-3, 1e-1]; B and C have the std of LeCun, with the two halves of a complex number.
"""

import jax
import jax.numpy as jnp

FEATURES, STATES, OUTPUTS, LAYERS = 5, 8, 3, 2


def normal(key, *shape, fan_in, parts=1):
    return jax.random.normal(key, shape) / jnp.sqrt(parts * fan_in)


def layer(key, width):
    keys = iter(jax.random.split(key, 7))
    low, high = jnp.log(1e-3), jnp.log(1e-1)
    return {
        "norm": jnp.ones(width),
        "Lambda_re": jnp.full(STATES, -0.5),
        "Lambda_im": jnp.pi * jnp.arange(STATES),
        "log_step": jax.random.uniform(next(keys), (STATES,), minval=low, maxval=high),
        "B_re": normal(next(keys), STATES, width, fan_in=width, parts=2),
        "B_im": normal(next(keys), STATES, width, fan_in=width, parts=2),
        "C_re": normal(next(keys), width, STATES, fan_in=STATES, parts=2),
        "C_im": normal(next(keys), width, STATES, fan_in=STATES, parts=2),
        "D": jax.random.normal(next(keys), (width,)),
        "gate": normal(next(keys), width, width, fan_in=width),
    }


def draw(key, width=16):
    keys = jax.random.split(key, LAYERS + 2)
    return {
        "encoder": normal(keys[0], FEATURES, width, fan_in=FEATURES),
        "layers": [layer(key, width) for key in keys[2:]],
        "decoder": normal(keys[1], width, OUTPUTS, fan_in=width),
    }


def system(p, u):
    """Run one sequence (length, features) through a diagonal complex system."""
    rates = p["Lambda_re"] + 1j * p["Lambda_im"]
    decays = jnp.exp(rates * jnp.exp(p["log_step"]))
    b = ((decays - 1) / rates)[:, None] * (p["B_re"] + 1j * p["B_im"])
    c = p["C_re"] + 1j * p["C_im"]
    inputs = u.astype(b.dtype) @ b.T

    def combine(one, other):
        (a, x), (b, y) = one, other
        return a * b, b * x + y

    decays = jnp.broadcast_to(decays[None, :], inputs.shape)
    states = jax.lax.associative_scan(combine, (decays, inputs))[1]
    return (states @ c.T).real + p["D"] * u


def rms_norm(scale, x):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * scale


def apply(params, x):
    x = x @ params["encoder"]
    for p in params["layers"]:
        y = jax.vmap(system, (None, 0))(p, rms_norm(p["norm"], x))
        y = jax.nn.gelu(y)
        x = x + y * jax.nn.sigmoid(y @ p["gate"])
    return x.mean(axis=1) @ params["decoder"]


TABLE = """
encoder    io   5  16  input
layers/{0,1}/norm     none .  .  scale
layers/{0,1}/Lambda_{re,im}  none . . other|scale|recurrent
layers/{0,1}/log_step        none . . other|scale|recurrent
layers/{0,1}/B_{re,im}  oi  16   8                      # B u contracts axis 1
layers/{0,1}/C_{re,im}  oi   8  16  residual_output?    # C x, with D u beside it
layers/{0,1}/D        none .  .  other|scale
layers/{0,1}/gate     io  16  16  gate? residual_output
decoder    io  16   3  readout
"""
