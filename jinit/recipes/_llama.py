"""The recipes `llama3` and `deepseek_v3` start models as torchtitan does."""

from typing import Unpack

from .._core import checks
from .._initializer.base import Initializer
from .._plan.rules import FromTree, Rule
from .._schemes.distributions import normal
from ._depth import Depth
from ._ends import last_layers
from ._index import Index, by_index
from ._language import (
    by_width,
    needs,
    no_fused_units,
    only_networks,
    truncated,
    truncated_at_2,
)
from ._recipe import NORMS_AND_BIASES, Law, Recipe, Source, recipe
from ._roles import (
    ATTENTION,
    WHOLE,
    Roles,
    Rules,
    in_role,
    kernels,
    others,
    role,
    the_rest,
)

_ROLES = (*ATTENTION, *WHOLE, "up")
_STD = 0.02
_BY_DEPTH = "TN(0, 0.02^2 / (2 (l + 1))), |w| <= 2"


@recipe(
    use="Llama 3, and models in its style, as torchtitan starts them",
    law=(
        "TN(0, 0.02^2); o, down and up / sqrt(2 (l + 1)); embeddings N(0, 1); "
        "readout TN(0, 1 / d), cut at 3 sigma"
    ),
    sources=(
        Source("pytorch/torchtitan", "torchtitan/models/llama3/__init__.py", "b5bcd76"),
        Source(
            "pytorch/torchtitan", "torchtitan/models/common/param_init.py", "b5bcd76"
        ),
    ),
    roles=_ROLES,
)
def llama3(
    num_layers: int | None = None, *, stacked: bool = False, **roles: Unpack[Roles]
) -> Recipe:
    """Return torchtitan's rules of Llama 3: std 0.02, scaled by the layer's index.

    In layer l, from 0, the ends of both branches and the up projection (w3) have std
    0.02 / sqrt(2 (l + 1)). Queries, keys, values and the gate (w1) have std 0.02. All
    are truncated at the numbers -2 and 2. Embeddings are N(0, 1), and the readout has
    std 1 / sqrt(d), truncated at 3 sigma, also where it is the table of tokens.

    Args:
      num_layers: the number of layers. In the plan of a network None stands for the
        number that its residual branches show.
      stacked: whether kernels have an axis that counts layers, the first or the
        second. In the plan of a network this is read, and each layer has its own std.
      **roles: patterns of residual_outputs, up, embeddings, readout and others.

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.
      ValueError: when the plan is made, if the model has no gated units, or does not
        show the indices of its layers.

    Example:
      >>> import jax, jinit
      >>> def layer(p, x):
      ...     q, k, v = x @ p["q"], x @ p["k"], x @ p["v"]
      ...     x = x + jax.nn.softmax(q @ k.mT) @ v @ p["o"]
      ...     return x + (jax.nn.silu(x @ p["w1"]) * (x @ p["w3"])) @ p["w2"]
      >>> model = lambda p, x: layer(p[1], layer(p[0], x))
      >>> square = dict.fromkeys(("q", "k", "v", "o"), jax.numpy.ones((16, 16)))
      >>> up, down = jax.numpy.ones((16, 64)), jax.numpy.ones((64, 16))
      >>> params = [square | {"w1": up, "w3": up, "w2": down}] * 2
      >>> net = jinit.network(model, params, jax.numpy.ones((2, 5, 16)))
      >>> rows = jinit.plan(net, jinit.recipes.llama3()).rows
      >>> [(r["path"], round(r["std"], 4)) for r in rows if r["path"][2:] == "w2"]
      [('0/w2', 0.0141), ('1/w2', 0.01)]
    """
    laws = [
        Law("residual outputs", _BY_DEPTH, "wo and w2"),
        Law("up", _BY_DEPTH, "w3"),
        Law("kernels", "TN(0, 0.02^2), |w| <= 2", "wq, wk, wv and w1"),
        *_OUTER_LAWS,
    ]
    rules = _of_torchtitan("llama3", num_layers, stacked, roles, [])
    return Recipe([*needs("llama3", "residual_output", "up"), *rules], laws)


@recipe(
    use="DeepSeek-V3, with a mixture of experts",
    law=(
        "torchtitan: as `llama3`, routers / sqrt(2 (l + 1)); report: N(0, 0.006^2) "
        "everywhere"
    ),
    sources=(
        Source(
            "pytorch/torchtitan", "torchtitan/models/deepseek_v3/__init__.py", "b5bcd76"
        ),
    ),
    roles=_ROLES,
)
def deepseek_v3(
    num_layers: int | None = None,
    *,
    flavour: str = "torchtitan",
    **roles: Unpack[Roles],
) -> Recipe:
    """Return the rules of DeepSeek-V3, as torchtitan or as its report has them.

    torchtitan starts attention and dense layers as those of `llama3`. In experts, also
    in shared ones, w1 has std 0.02, and w2 and w3 have 0.02 / sqrt(2 (l + 1)), as the
    router has. The report says that all parameters have std 0.006.

    Args:
      num_layers: the number of layers. In the plan of a network None stands for the
        number that its residual branches show.
      flavour: "torchtitan", or "report" for DeepSeek's technical report of 2024,
        section 4.2.
      **roles: patterns of residual_outputs, up, embeddings, readout and others.

    Returns:
      A `Recipe`, whose rules `jinit.plan` takes.

    Raises:
      TypeError: if a role is passed that the recipe has no use for.
      ValueError: if `flavour` is unknown; when the plan is made, if the model has no
        gated units, or does not show the indices of its layers.

    Example:
      >>> import jinit
      >>> [law.law for law in jinit.recipes.deepseek_v3(flavour="report").laws[:2]]
      ['N(0, 0.006^2)', 'N(0, 0.006^2)']
    """
    checks.choice("flavour", flavour, ("torchtitan", "report"))
    if flavour == "report":
        return Recipe(_of_report(roles), _REPORT_LAWS)
    laws = [
        Law("residual outputs", _BY_DEPTH, "wo, and w2 of experts"),
        Law("up", _BY_DEPTH, "w3, also of experts"),
        Law("routers", _BY_DEPTH, "the gate of a mixture"),
        Law("kernels", "TN(0, 0.02^2), |w| <= 2", "attention, and w1 of experts"),
        *_OUTER_LAWS,
    ]
    index = Index("deepseek_v3", num_layers, False)
    routers = [Rule(in_role("routers"), _by_depth(index), optional=True)]
    return Recipe(
        [
            *only_networks("deepseek_v3", "has a special law for routers"),
            *needs("deepseek_v3", "residual_output", "up"),
            *_of_torchtitan("deepseek_v3", num_layers, False, roles, routers),
        ],
        laws,
    )


_OUTER_LAWS = (
    Law("embeddings", "N(0, 1)", "tok_embeddings"),
    Law("readout", "TN(0, 1 / d), cut at 3 sigma", "lm_head, tied or not"),
    *NORMS_AND_BIASES,
)
_REPORT_LAWS = (
    Law("kernels", "N(0, 0.006^2)", "all"),
    Law("embeddings", "N(0, 0.006^2)", "the table of tokens"),
    *NORMS_AND_BIASES,
)


def _by_depth(index: Index) -> FromTree:
    return by_index(index, truncated_at_2(_STD))


def _of_torchtitan(
    name: str,
    num_layers: int | None,
    stacked: bool,
    roles: Roles,
    routers: Rules,
) -> Rules:
    index, plain = Index(name, num_layers, stacked), truncated_at_2(_STD)
    depth = Depth(name, num_layers)
    return [
        *last_layers(roles, _by_depth(index), depth),
        *no_fused_units(),
        *role(roles, "up", _by_depth(index)),
        *routers,
        # torchtitan draws a table that is tied to the readout by the readout's law.
        *role(roles, "readout", by_width(truncated)),
        *others(roles, ("positions",), normal(1.0)),
        *role(roles, "embeddings", normal(1.0)),
        *others(roles, ATTENTION, plain),
        *kernels(plain),
        *the_rest(),
    ]


def _of_report(roles: Roles) -> Rules:
    plain: Initializer = normal(0.006)
    return [
        *others(roles, (*_ROLES,), plain),
        Rule(in_role("embeddings"), plain, optional=True),
        *kernels(plain),
        *the_rest(),
    ]
