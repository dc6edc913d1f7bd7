"""Mamba's configurations have laws for the parameters of a selective state space.

The equations show which parameters these are: the kernel of the time steps reads a
kernel that reads a convolution; A multiplies the steps, and D the convolution's
outputs.
"""

import math
from collections.abc import Callable
from typing import Any

from .._initializer.base import Initializer
from .._network.reader.records import Parameter
from .._network.record import Network
from .._plan import network_roles as in_networks
from .._plan.rules import Rule
from .._schemes.constant import constant, ones
from .._schemes.distributions import normal
from .._schemes.scaled_uniform import scaled_uniform
from .._schemes.ssm.mamba import mamba_a_log, mamba_dt_bias
from .._schemes.variance_scaling import variance_scaling
from ._hf_config import HfConfig
from ._language import only_networks, where
from ._recipe import NORMS_AND_BIASES, Law, symbol
from ._roles import Roles, Rules, in_role, kernels, others, role, the_rest

Test = Callable[[Parameter], bool]


def rules_of_mamba(config: HfConfig, roles: Roles, names: tuple[str, ...]) -> Rules:
    """Return the rules of a model of the type "mamba"."""
    plain = normal(config.std)
    steps = config.steps
    return [
        *only_networks("from_hf_config", "has special laws for a state space"),
        *others(roles, ("residual_outputs",), _end(config)),
        Rule(where("kernels of time steps", _steps), _of_steps(config), True),
        Rule(where("biases of time steps", _bias), mamba_dt_bias(*steps), True),
        Rule(where("decays", _decays), mamba_a_log(), True),
        Rule(where("skips", _skips), ones, True),
        Rule(where("ends of mixers", _ends), _end(config), True),
        Rule(in_role("convolutions"), scaled_uniform(), optional=True),
        *role(roles, "embeddings", plain),
        *others(roles, names, plain),
        *kernels(plain),
        *the_rest(),
    ]


def laws_of_mamba(config: HfConfig) -> list[Law]:
    """Return the laws of a model of the type "mamba"."""
    law, steps = f"N(0, {symbol(config.std)}^2)", config.steps
    scale = symbol(config.step_scale)
    random = f"U(+-{scale} / sqrt(rank))"
    fixed = f"{scale} / sqrt(rank)"
    end = "U(+-1 / sqrt(fan_in))" + (" / sqrt(L)" if config.rescales else "")
    return [
        Law("kernels and embeddings", law, "in_proj, x_proj, tables and readout"),
        Law("residual outputs", end, "out_proj"),
        Law("convolutions", "U(+-1 / sqrt(window))", "conv1d"),
        Law("steps", random if config.steps_are_random else fixed, "dt_proj"),
        Law("steps' biases", f"softplus^-1, log-uniform {steps[:2]}", "dt_proj"),
        Law("decays", "log(1), ..., log(N)", "A_log"),
        Law("skips", "1", "D"),
        *NORMS_AND_BIASES,
    ]


def _of_steps(config: HfConfig) -> Any:
    if config.steps_are_random:
        # U(+-s / sqrt(rank)) has the variance s^2 / (3 rank).
        return variance_scaling(config.step_scale**2 / 3, "fan_in", "uniform")

    def law(_path: str, leaf: Any) -> Initializer:
        return constant(config.step_scale / leaf.fans.fan_in**0.5)

    return law


def _end(config: HfConfig) -> Initializer:
    if not config.rescales:
        return scaled_uniform()
    if config.num_layers is None:
        raise ValueError(
            "`config` has 'rescale_prenorm_residual' and no 'num_hidden_layers', and "
            "out_proj is divided by the root of this number. Add 'num_hidden_layers'."
        )
    return scaled_uniform() * (1 / math.sqrt(config.num_layers))


def _inputs(net: Network, p: Parameter) -> list[Parameter]:
    return [net.parameters[path] for path in p.inputs if path in net.parameters]


def _all(net: Network, p: Parameter, test: Test) -> bool:
    inputs = _inputs(net, p)
    return bool(inputs) and all(map(test, inputs))


def _is_window(p: Parameter) -> bool:
    return "convolution" in p.roles


def _reads_window(net: Network) -> Test:
    return lambda p: "matrix" in p.roles and _all(net, p, _is_window)


def _steps(net: Network) -> Test:
    reads = _reads_window(net)
    return lambda p: "matrix" in p.roles and _all(net, p, reads)


def _bias(net: Network) -> Test:
    steps = _steps(net)
    return lambda p: "bias" in p.roles and _all(net, p, steps)


def _decays(net: Network) -> Test:
    steps, multiplies = _steps(net), in_networks.multipliers(net)
    return lambda p: multiplies(p) and _all(net, p, steps)


def _skips(net: Network) -> Test:
    multiplies = in_networks.multipliers(net)
    return lambda p: multiplies(p) and _all(net, p, _is_window)


def _ends(net: Network) -> Test:
    steps = _steps(net)
    return lambda p: (
        "matrix" in p.roles and (not steps(p) and any(map(steps, _inputs(net, p))))
    )
