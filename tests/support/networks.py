"""Small networks as functions of shapes."""

import jax
import jax.numpy as jnp

import jinit


def floats(*shape):
    """Return an input, or a parameter, of real numbers."""
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def tokens(*shape):
    """Return an input of whole numbers."""
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def params(**shapes):
    """Return parameters of these shapes."""
    return {name: floats(*shape) for name, shape in shapes.items()}


def network(function, shapes, *inputs, **options):
    """Read a function of parameters of these shapes and of inputs.

    Models of other people broadcast, so this is allowed here.
    """
    with jax.numpy_rank_promotion("allow"):
        return jinit.network(function, params(**shapes), *inputs, **options)


def layouts(net):
    """Return layout, fan_in and fan_out of each parameter that is multiplied."""
    return {
        path: (p.layout, *p.fans)
        for path, p in net.parameters.items()
        if p.fans is not None
    }


def with_role(net, role):
    """Return the paths of the parameters with a role."""
    return {path for path, p in net.parameters.items() if role in p.roles}


def conv(x, kernel, **options):
    """Convolve in Flax's layout, with as many spatial axes as the input has."""
    spatial = "DHW"[-(x.ndim - 2) :]
    numbers = (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C")
    strides = options.pop("window_strides", (1,) * len(spatial))
    return jax.lax.conv_general_dilated(
        x, kernel, strides, "SAME", dimension_numbers=numbers, **options
    )


def rms(x, scale=1.0):
    """Divide by the root of the mean of squares."""
    root = jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6)
    return x * root * scale
