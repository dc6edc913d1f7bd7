"""The network of each model in the zoo is read as its equations say."""

import math

import pytest

import jinit
from tests.support.zoo import every, truth

ZOO = every.models()


def differences(net, facts):
    """List what a network says of its parameters that the facts do not."""
    lines = [
        f"{path}: not in the network" for path in facts if path not in net.parameters
    ]
    for path, parameter in net.parameters.items():
        if path not in facts:
            lines.append(f"{path}: not in the table")
            continue
        lines += [f"{path}: {text}" for text in _of_one(parameter, facts[path])]
    return lines


def _of_one(parameter, fact):
    roles = parameter.roles & truth.TELLING
    if not fact.allows(roles):
        expected = [*sorted(fact.roles), *map(sorted, fact.either)]
        yield f"roles {sorted(roles)}, not {expected} ({parameter.reason})"
    layout = parameter.layout or "none"
    if fact.layout not in (None, layout):
        yield f"layout {layout}, not {fact.layout}"
        return
    fans = parameter.fans
    for name, number in (("fan_in", fact.fan_in), ("fan_out", fact.fan_out)):
        value = None if fans is None else getattr(fans, name)
        if number is not None and value != number:
            yield f"{name} {value}, not {number}"
    if fact.layout not in (None, "none"):
        pairs = zip(layout, parameter.shape, strict=True)
        members = math.prod(size for letter, size in pairs if letter == "b")
        if parameter.members != members:
            yield f"{parameter.members} members, not {members}"
        is_matrix = not fact.roles & {"convolution", "embedding"}
        if is_matrix and "matrix" not in parameter.roles:
            yield "no matrix"


def network(entry):
    return jinit.network(
        entry.model, *entry.arguments, rngs=entry.rngs, **entry.options
    )


@pytest.mark.parametrize("name", ZOO)
def test_every_parameter_is_read_as_its_equations_say(name):
    entry = ZOO[name]()
    net = network(entry)
    assert not differences(net, entry.facts)
    if entry.depth is not None:
        assert net.depth == entry.depth


@pytest.mark.parametrize("name", ZOO)
def test_names_are_never_asked(name):
    entry = ZOO[name]()
    net = network(entry)
    function, renamed, order = truth.scrambled(net.apply, net.params)
    again = jinit.network(function, renamed, *net.inputs)
    names = sorted(renamed)
    paths = list(dict.fromkeys(paths_of(net)))
    for name, place in zip(names, order, strict=True):
        one, other = net.parameters[paths[place]], again.parameters[name]
        assert one.roles == other.roles
        assert one.layout == other.layout
        assert one.fans == other.fans
    assert again.depth == net.depth


def paths_of(net):
    from jinit._network.adapters import adapted

    return adapted.paths_of(net.params)
