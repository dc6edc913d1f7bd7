"""In a network the roles of parameters are read from equations, and not from names."""

import math
from collections.abc import Callable, Iterable
from typing import Any

from .._network.reader.factors import MULTIPLIES_DATA
from .._network.reader.moves import BESIDE_DATA
from .._network.reader.records import Branch, Parameter
from .._network.record import Network
from .model import Model

Test = Callable[[Parameter], bool]

_ATTENDING = frozenset(("query", "key", "value", "attention_output"))


def has(*roles: str) -> Callable[[Network], Test]:
    """Return a function of a network that returns the test for one of some roles."""
    return lambda _net: lambda parameter: not parameter.roles.isdisjoint(roles)


def embeddings(net: Network) -> Test:
    """Tell which tables are looked up by data."""
    others = positions(net), relative_positions(net)
    return lambda p: "embedding" in p.roles and not any(test(p) for test in others)


def positions(net: Network) -> Test:
    """Tell which tables have a row for each position: no data looks them up.

    They are looked up by constants, or added to what a layer returns.
    """
    relative = relative_positions(net)

    def is_table(p: Parameter) -> bool:
        if "embedding" in p.roles:
            return "data" not in p.inputs and not relative(p)
        return "bias" in p.roles and _outnumbers_outputs(net, p)

    return is_table


def relative_positions(net: Network) -> Test:
    """Tell which tables are added to the logits of an attention."""

    def is_table(p: Parameter) -> bool:
        roles = [_roles(net, path) for path in p.inputs]
        return "embedding" in p.roles and any("key" in known for known in roles)

    return is_table


def _outnumbers_outputs(net: Network, p: Parameter) -> bool:
    """Tell whether an added table has more entries than its layer has outputs.

    What is added to a modulation's output belongs to the modulation: with a table for
    each block, which a scan stacks, blocks share one layer that reads the condition.
    """
    if _shifts_modulation(net, p):
        return False
    layers = [net.parameters[path] for path in p.inputs if path in net.parameters]
    outputs = [_outputs(layer) for layer in layers if layer.layout]
    return bool(outputs) and p.size > max(outputs)


def _shifts_modulation(net: Network, p: Parameter) -> bool:
    """Tell whether a parameter is added to what modulations return, and to no more."""
    return bool(p.inputs) and all("modulation" in _roles(net, x) for x in p.inputs)


def _outputs(p: Parameter) -> int:
    pairs = zip(p.shape, p.layout or "", strict=True)
    return math.prod(size for size, letter in pairs if letter in "ob")


def _roles(net: Network, path: str) -> frozenset[str]:
    parameter = net.parameters.get(path)
    return frozenset() if parameter is None else parameter.roles


def kernels(net: Network) -> Test:
    """Tell which parameters are multiplied with data."""
    return lambda p: bool(p.roles & {"matrix", "convolution"})


def biases_of_layers(net: Network) -> Test:
    """Tell which parameters are added, but are no tables of positions."""
    is_position = positions(net)
    return lambda p: "bias" in p.roles and not is_position(p)


def in_branches(net: Network) -> Test:
    """Tell which kernels lie in residual branches.

    The keys and values of a cross-attention read another stream than the one that the
    branch is added to, and belong to the branch all the same.
    """
    paths = {path for branch in net.branches for path in branch.layers}
    kernel = kernels(net)
    return lambda p: (
        kernel(p) and (p.path in paths or not p.roles.isdisjoint(("key", "value")))
    )


def outside_branches(net: Network) -> Test:
    """Tell which kernels lie before, after or beside the residual branches."""
    inside, kernel = in_branches(net), kernels(net)
    return lambda p: kernel(p) and not inside(p)


def alone(role: str) -> Callable[[Network], Test]:
    """Return a test for the kernels of queries, or of keys, that hold no values."""
    return lambda _net: lambda p: role in p.roles and not _is_fused(p)


def only_weighs(net: Network) -> Test:
    """Tell which kernels decide weights alone: those of queries, keys and routers."""
    return lambda p: bool(p.roles & {"query", "key", "router"}) and not _is_fused(p)


def alone_in_unit(role: str) -> Callable[[Network], Test]:
    """Return a test for the kernels of one of the two halves of a gated unit."""
    return lambda _net: lambda p: role in p.roles and not _is_fused_unit(p)


def is_fused_unit(net: Network) -> Test:
    """Tell which kernels hold both halves of a gated unit."""
    return _is_fused_unit


def _is_fused_unit(p: Parameter) -> bool:
    return {"gate", "up"} <= p.roles


def is_fused(net: Network) -> Test:
    """Tell which kernels hold values beside queries or keys."""
    return _is_fused


def _is_fused(p: Parameter) -> bool:
    return "value" in p.roles and bool(p.roles & {"query", "key"})


def scaled(net: Network) -> Test:
    """Tell which kernels of branches bear on the size of what is added."""
    inside, weighs = in_branches(net), only_weighs(net)
    return lambda p: inside(p) and not weighs(p)


def learned_vectors(net: Network) -> Test:
    """Tell which parameters are single vectors that are read like data."""
    return lambda p: (
        p.roles == {"other"} and p.ndim > 1 and p.size == p.shape[-1] and p.uses > 0
    )


def probes(net: Network) -> Test:
    """Tell which learned vectors the queries of an attention pooling read."""
    is_vector = learned_vectors(net)
    read_alone = {
        p.inputs[0]
        for p in net.parameters.values()
        if "query" in p.roles and len(p.inputs) == 1
    }
    return lambda p: is_vector(p) and p.path in read_alone


def latents(net: Network) -> Test:
    """Tell which learned vectors are read as a query, and as nothing else.

    A class token also stands beside the patches, where keys and values read it.
    """
    is_probe = probes(net)
    return lambda p: is_probe(p) and p.reason != BESIDE_DATA


def conditioning(net: Network) -> Test:
    """Tell which kernels make the condition that modulations read, such as a time."""
    modulations = [p for p in net.parameters.values() if "modulation" in p.roles]
    paths = {path for p in modulations for path in p.inputs}
    left = list(paths)
    while left:
        parameter = net.parameters.get(left.pop())
        new = set(() if parameter is None else parameter.inputs) - paths
        paths |= new
        left += new
    kernel, inside = kernels(net), in_branches(net)
    return lambda p: (
        p.path in paths
        and kernel(p)
        and not inside(p)
        and p.roles.isdisjoint(("modulation", "readout"))
    )


def heads(net: Network) -> Test:
    """Tell which readouts end neither a residual branch nor an attention."""
    inside = in_branches(net)
    return lambda p: (
        "readout" in p.roles and "attention_output" not in p.roles and not inside(p)
    )


def projections(net: Network) -> Test:
    """Tell which heads make the embeddings that contrastive logits compare.

    A temperature that multiplies one tower's embedding before the product reads one
    tower alone. The other tower cannot be told then, so that all heads count.
    """
    is_head = heads(net)
    paths = {p.path for p in net.parameters.values() if is_head(p)}
    numbers = [
        p
        for p in net.parameters.values()
        if not p.roles.isdisjoint(("temperature", "logit_bias"))
    ]
    read = paths & {path for p in numbers for path in p.inputs}
    return lambda p: p.path in (paths if len(read) == 1 else read)


def attends_or_branches(net: Network) -> Test:
    """Tell which kernels are those of attention and of MLPs."""
    inside = in_branches(net)
    return lambda p: inside(p) or bool(p.roles & _ATTENDING)


def perceptrons(net: Network) -> Test:
    """Tell which kernels of residual branches are not those of attention."""
    inside = in_branches(net)
    return lambda p: inside(p) and p.roles.isdisjoint(_ATTENDING)


def branch_norms(net: Network) -> Test:
    """Tell which scales are the last of a branch: they read its end, and nothing else.

    A norm behind the sum reads the shortcut, too.
    """
    ends = [set(branch.ends) for branch in net.branches]
    return lambda p: (
        "scale" in p.roles
        and bool(p.inputs)
        and any(end.issuperset(p.inputs) for end in ends)
    )


def multipliers(net: Network) -> Test:
    """Tell which parameters multiply data that are not normalized, entry by entry."""
    return lambda p: (
        p.reason == MULTIPLIES_DATA
        or ("temperature" in p.roles and "scale" not in p.roles)
    )


def paths(model: Model, test: Callable[[Network], Test]) -> frozenset[str]:
    """Return the paths of the parameters that pass a test."""
    net: Any = model.network
    passes = test(net)
    return frozenset(p.path for p in net.parameters.values() if passes(p))


def branches(model: Model) -> list[Branch]:
    """Return the residual branches of the part of a network that a recipe is for."""
    net: Any = model.network
    within = {leaf.path for leaf in model.part()}
    return [branch for branch in net.branches if within & set(branch.layers)]


def number(several: Iterable[Branch]) -> int:
    """Count branches, with those of scanned layers as often as they are executed."""
    return sum(branch.count for branch in several)


def crosses(net: Network, branch: Branch) -> bool:
    """Tell whether a branch is a cross-attention: its keys read another stream."""
    roles = [_roles(net, path) for path in branch.layers]
    queries = any("query" in known for known in roles)
    return queries and not any("key" in known for known in roles)
