"""The likeliest law of a parameter is the known formula that gives the measured std.

A formula is judged within the error of the std of n draws, and by the family of the
draws. Right formulas, over the inputs of the product or of a constant, go before wrong
formulas, which count axes that the product does not contract.
"""

import math
from typing import NamedTuple

from ..._network.reader.records import Parameter
from .law import Around, Law, gain_of
from .measured import Measured
from .right_laws import right_laws
from .wrong_laws import wrong_laws

# A right law may lie within the first number of standard errors from the std, and a
# mistake within the second. Beyond the third a right law no longer excuses a mistake.
_WITHIN, _CERTAIN, _BEYOND = 3.5, 3.0, 4.5
# Up to this penalty a law is usual, and not found by chance among many.
_USUAL = 1.0


class Judged(NamedTuple):
    """A Judged has the likeliest law of a parameter, and mistakes that explain its std.

    There are no `mistakes` where a usual law of the fans explains the std as well, and
    they are certain where no law does. `excuses` are the laws that are less usual and
    near enough to make a mistake uncertain.
    """

    text: str
    law: Law | None = None
    mistakes: tuple[Law, ...] = ()
    is_certain: bool = False
    excuses: tuple[Law, ...] = ()

    @property
    def is_usual(self) -> bool:
        """Tell whether the law is a usual one, or a mistake."""
        if self.law is None:
            return False
        return self.law.mistake is not None or self.law.penalty <= _USUAL


def right_std(parameter: Parameter) -> float | None:
    """Return the std that keeps the signal: gain(activation) / sqrt(fan_in).

    It is None if the parameter multiplies nothing, or its input has no gain. A tied
    embedding counts as a readout, which reads the features.
    """
    fans, factor = parameter.fans, gain_of(parameter.activation)
    is_lookup = "embedding" in parameter.roles
    needed = {"readout"} if is_lookup else {"matrix", "convolution"}
    if fans is None or factor is None or not parameter.roles & needed:
        return None
    return factor / math.sqrt(max(1, fans.fan_out if is_lookup else fans.fan_in))


def judged(parameter: Parameter, measured: Measured, network: Around) -> Judged:
    """Return the likeliest law of a measured parameter in a network."""
    if measured.special is not None:
        return Judged(measured.special)
    if measured.family is None:
        return Judged("-")
    innocents = _near(right_laws(parameter, network), measured)
    wrongs = _near(wrong_laws(parameter), measured)
    likely = [law for law, distance in innocents if distance <= _WITHIN]
    mistakes = tuple(law for law, distance in wrongs if distance <= _CERTAIN)
    # A constant may be near by chance, and tensors of other shapes will tell.
    if any(law.penalty < _USUAL for law, _ in innocents):
        mistakes = ()
    excuses = tuple(law for law, _ in innocents)
    plain = f"{measured.family} of std {measured.std:.3g}"
    # A mistake that an innocent law explains nearly is not named as the likeliest law.
    is_certain = bool(mistakes) and not innocents
    if not likely and not is_certain:
        return Judged(plain, None, mistakes, excuses=excuses)
    best = min(likely or mistakes, key=lambda law: _cost(law, measured))
    text = f"{best.text} ({measured.family})"
    return Judged(text, best, mistakes, is_certain, excuses)


def _near(laws: list[Law], measured: Measured) -> list[tuple[Law, float]]:
    """Return the laws of a family near the measured std, and their distances."""
    pairs = [(law, _distance(law, measured)) for law in laws]
    return [
        (law, distance)
        for law, distance in pairs
        if distance < _BEYOND and measured.family in law.families
    ]


def _cost(law: Law, measured: Measured) -> float:
    """Return the cost of a law, which is minus the logarithm of its likelihood."""
    return law.penalty + _distance(law, measured) ** 2 / 2


def _distance(law: Law, measured: Measured) -> float:
    """Return how many standard errors lie between a law's std and the measured one."""
    return abs(measured.std / law.std - 1) / measured.error
