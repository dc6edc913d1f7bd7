"""`siglip` and `clip` start the numbers that make logits of two towers' embeddings."""

import math
from typing import Any, Unpack

import jax.numpy as jnp

from .._core import checks, numbers
from .._core.papers import RADFORD_2021, ZHAI_2023
from .._plan import network_roles as in_networks
from .._schemes.constant import constant
from ._needs import Need, needs
from ._recipe import Law, Recipe, Source, recipe, symbol
from ._roles import Roles, role

_TEMPERATURE = Need(
    "temperature (a number whose exponential multiplies products of two embeddings)",
    in_networks.has("temperature"),
    "temperatures",
)
_BIAS = Need(
    "bias of the logits (a number that is added to them)",
    in_networks.has("logit_bias"),
    "logit_biases",
)


@recipe(
    use="the head of SigLIP: a sigmoid for every pair of image and text",
    law="t' = log 10, b = -10",
    sources=(
        Source(
            "google-research/big_vision",
            "big_vision/models/proj/image_text/two_towers.py",
            "0127fb6",
        ),
        ZHAI_2023,
    ),
    roles=("temperatures", "logit_biases"),
)
def siglip(
    num_layers: int | None = None,
    *,
    temperature: float = 10.0,
    bias: float = -10.0,
    **roles: Unpack[Roles],
) -> Recipe:
    """Return the rules of SigLIP's head: t' = log 10 and b = -10.

    The logits are exp(t') x . y + b. Nearly all pairs of a batch are no match, and
    with b = -10 the first loss says so: for embeddings at right angles it is
    log(1 + e^10) + (n - 1) log(1 + e^-10) for each of n images, close to 10, where
    b = 0 would give n log 2.

    These are the rules of the two numbers alone. Put them before the recipe of the
    towers, such as `big_vision_vit()`.

    Args:
      num_layers: the number of layers, which all recipes take. It changes nothing here.
      temperature: the factor exp(t') of the logits.
      bias: the bias b of the logits.
      **roles: patterns of temperatures (t') and logit_biases (b), for a model that
        hands both out to a loss function, so that the network does not show them.

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      ValueError: if `temperature` is not positive; in `plan`, if the network has no
        temperature or no bias of logits.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> def model(p, x, y):
      ...     return jnp.exp(p["t"]) * (x @ p["image"]) @ (y @ p["text"]).T + p["b"]
      >>> params = {"image": jnp.ones((8, 4)), "text": jnp.ones((6, 4))}
      >>> params |= {"t": jnp.ones(()), "b": jnp.ones(())}
      >>> net = jinit.network(model, params, jnp.ones((3, 8)), jnp.ones((3, 6)))
      >>> plan = jinit.plan(net, [*jinit.recipes.siglip(), ("**", jinit.lecun())])
      >>> start = plan.init(jax.random.key(0))
      >>> round(float(jnp.exp(start["t"])), 4), float(start["b"])
      (10.0, -10.0)

    References:
      Zhai, Mustafa, Kolesnikov and Beyer, "Sigmoid loss for language image
        pre-training", ICCV 2023.
    """
    temperature = checks.number("temperature", temperature, positive=True)
    bias = checks.number("bias", bias)
    laws = [
        Law(
            "temperatures", f"log {temperature:g}", "t', whose exponential is a factor"
        ),
        Law("logit biases", f"{bias:g}", "b, which is added to the logits"),
    ]
    rules = [
        *needs("siglip", roles, _TEMPERATURE, _BIAS, hint=_hint("siglip")),
        *role(roles, "temperatures", constant(_log(temperature))),
        *role(roles, "logit_biases", constant(bias)),
    ]
    return Recipe(rules, laws)


@recipe(
    use="the head of CLIP: a softmax over the pairs of a batch",
    law="the logit scale log(1 / 0.07)",
    sources=(Source("openai/CLIP", "clip/model.py", "d05afc4"), RADFORD_2021),
    roles=("temperatures",),
)
def clip(
    num_layers: int | None = None,
    *,
    temperature: float = 0.07,
    **roles: Unpack[Roles],
) -> Recipe:
    """Return the rules of CLIP's head: the logit scale is log(1 / 0.07).

    The logits are exp(logit_scale) x . y, so that the first factor is 1 / 0.07, about
    14.3. This is the rule of one number alone. Put it before the recipes of the towers.

    Args:
      num_layers: the number of layers, which all recipes take. It changes nothing here.
      temperature: the temperature tau; the logits are x . y / tau.
      **roles: patterns of temperatures (the logit scale), for a model that hands it out
        to a loss function, so that the network does not show it.

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      ValueError: if `temperature` is not positive; in `plan`, if the network has no
        temperature.

    Example:
      >>> import jax, jax.numpy as jnp, jinit
      >>> def model(p, x, y):
      ...     return jnp.exp(p["scale"]) * (x @ p["image"]) @ (y @ p["text"]).T
      >>> params = {"image": jnp.ones((8, 4)), "text": jnp.ones((6, 4))}
      >>> params |= {"scale": jnp.ones(())}
      >>> net = jinit.network(model, params, jnp.ones((3, 8)), jnp.ones((3, 6)))
      >>> plan = jinit.plan(net, [*jinit.recipes.clip(), ("**", jinit.lecun())])
      >>> round(float(jnp.exp(plan.init(jax.random.key(0))["scale"])), 3)
      14.286

    References:
      Radford et al., "Learning transferable visual models from natural language
        supervision", ICML 2021.
    """
    temperature = checks.number("temperature", temperature, positive=True)
    law = Law("temperatures", f"log(1 / {symbol(temperature)})", "the logit scale")
    rules = [
        *needs("clip", roles, _TEMPERATURE, hint=_hint("clip")),
        *role(roles, "temperatures", constant(-_log(temperature))),
    ]
    return Recipe(rules, [law])


def _hint(name: str) -> str:
    return (
        f"recipes.{name} is for the numbers of the logits alone: put `{name}` before "
        f"the recipe of the towers, such as [*recipes.{name}(), *recipes.vit()]."
    )


def _log(number: Any) -> Any:
    """Return the logarithm of a number, also of one that is traced."""
    return jnp.log(number) if numbers.is_traced(number) else math.log(number)
