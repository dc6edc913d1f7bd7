"""Find the layers that condition a network, and the numbers that scale logits.

A modulation is a product with a parameter whose output scales and shifts other values,
or scales what a residual branch adds, without coming from these values: FiLM, and the
adaptive norms of diffusion models. A gated unit has no modulation, since its two
products read one value.

Contrastive logits are a product of two values of data, times the exponential of a
number, plus a number. Logits of an attention are such a product too. They are known
at the end, since a later product reads them.
"""

from .uses import Log, Use
from .values import Data, Meeting, View, is_real


def reads_same(log: Log, one: Data, other: Data) -> bool:
    """Tell whether two products read the same values, if computed twice."""
    if one.ancestors == other.ancestors:
        return True
    names = [
        {use.main.parameter for use in log.members(data.sources) if use.view.terms}
        for data in (one, other)
    ]
    return bool(names[0]) and names[0] == names[1]


def scaled_and_shifted(log: Log, product: Data, shift: Data) -> None:
    """Note the layers of a sum x f + g, where f and g are outputs of modulations."""
    if product.factors is None:
        return
    by_shift = _layer(log, shift)
    for value, factor in (product.factors, product.factors[::-1]):
        by_factor = _layer(log, factor)
        if by_factor is None or by_shift is None:
            continue
        # Scale and shift are two parts of one output, or outputs of sister layers.
        if by_factor is by_shift:
            is_pair = factor.is_part and shift.is_part
        else:
            is_pair = _read_one_value(log, by_factor, by_shift)
        if is_pair and _conditions(log, by_factor, factor, value):
            by_factor.roles.add("modulation")
            by_shift.roles.add("modulation")


def gated(log: Log, start: Data, branch: Data, inside: int) -> None:
    """Note the layer that scales what a residual branch adds, from outside of it."""
    if branch.factors is None:
        return
    # The layers before the branch make its input.
    other = inside | start.layers
    for value, factor in (branch.factors, branch.factors[::-1]):
        layer = _layer(log, factor)
        if layer is not None and not layer.bit & other and value.layers & inside:
            layer.roles.add("modulation")


def _layer(log: Log, data: Data) -> Use | None:
    """Return the one product that a value is a linear function of, entry by entry."""
    layers = log.members(data.last)
    bends = data.scalar is not None and data.scalar.bends
    if len(layers) != 1 or bends or data.attention or data.meeting or data.gated:
        return None
    return layers[0]


def _conditions(log: Log, layer: Use, factor: Data, value: Data) -> bool:
    """Tell whether a factor and the value that it scales have separate origins."""
    comes_from_it = value.stream & factor.ancestors or value.layers & layer.bit
    if comes_from_it or not value.layers:
        return False
    # On a stream that was gated before, some of the last products read the same too.
    last = log.members(value.last)
    return not last or not all(_read_one_value(log, layer, other) for other in last)


def _read_one_value(log: Log, one: Use, other: Use) -> bool:
    if one.data is None or other.data is None:
        return False
    # A product with constants reads nothing.
    if not (one.data.ancestors and other.data.ancestors):
        return False
    return reads_same(log, one.data, other.data)


def multiplied(log: Log, use: Use, data: Data, new: Data) -> None:
    """Note a number whose exponential multiplies logits, or one of their operands."""
    if not all(term.is_exponential for term in use.view.terms) or _varies(use.view):
        return
    new.multiplied |= use.bit
    if data.meeting is not None:
        log.numbers.append((use, data.meeting))


def shifted(log: Log, use: Use, data: Data) -> None:
    """Note a number that is added to logits."""
    if data.meeting is not None and not _varies(use.view):
        log.numbers.append((use, data.meeting))


def met(log: Log, left: Data, right: Data, meeting: Meeting) -> None:
    """Note a product of two values. A product that it reads has no logits."""
    for use in log.members(left.multiplied | right.multiplied):
        log.numbers.append((use, meeting))
    for one, other in ((left, right), (right, left)):
        if one.meeting is not None and other.layers:
            one.meeting.is_read = True


def give_roles(log: Log) -> None:
    """Give the roles of the numbers of logits, once everything has been read."""
    for use, meeting in log.numbers:
        if not meeting.is_read:
            use.roles.add("temperature" if use.kind == "multiply" else "logit_bias")


def _varies(view: View) -> bool:
    factors = [f for term in view.terms for axis in term.axes for f in axis]
    return any(is_real(f) and f[1] > 1 for f in factors)
