"""A decay rule says how the weight decay of a tensor depends on the width.

With the rate eta, the decay lambda and the factor f of a tensor's rate, an optimizer
such as AdamW, w <- w - eta (u + lambda w), becomes

    independent:  w <- w - f eta u - eta lambda w
    per_width:    w <- w - f eta (u + lambda w)

With "independent" a weight forgets its start after 1 / (eta lambda) steps at every
width; in terms of parameter groups it is the decay lambda / f. With "per_width" the
hidden weights of a model that is n times as wide forget their start after n times as
many steps.

Wang and Aitchison (2024) and Kosson et al. (2025) find that rates transfer with
"independent", and Dey et al. (2025) derive this rule.
"""

from typing import Any, NamedTuple

from .._core import checks
from ._optimizer_trial import Answer

RULES = ("independent", "per_width")
# The older argument `weight_decay` has these names for the rules.
_FIRST_NAMES = {"independent": "independent", "scaled": "per_width"}


class DecayRule(NamedTuple):
    """A decay rule has a name, and says whether a user named it."""

    name: str
    is_named: bool = False

    @property
    def is_independent(self) -> bool:
        """Tell whether the factor of the rate is to be taken out of the decay."""
        return self.name == "independent"

    def check(self, answer: Answer | str) -> None:
        """Raise if a user named the rule, and a trial shows that nothing decays.

        Raises:
          ValueError: if the trial changes no parameter at gradients of 0.
        """
        if not self.is_named or isinstance(answer, str):
            return
        trials = [response.trial for response in answer.responses]
        shown = [trial for trial in trials if trial is not None]
        # A rate of 0, as at the start of a long warm-up, shows nothing.
        if len(shown) < len(trials) or not any(map(any, shown)):
            return
        if not any(trial.still for trial in shown):
            raise ValueError(
                f"`decay` is {self.name!r}, and `tx` has no weight decay: with "
                "gradients of 0 it changes no parameter. Pass an optimizer that "
                "decays, such as optax.adamw(rate, weight_decay=0.1), or with "
                "optax.add_decayed_weights in its chain, or leave `decay` out. A "
                "decay that is chained behind p.optimizer(tx) is no part of `tx`, and "
                "is the same at every width."
            )


def decay_rule(decay: Any, weight_decay: Any) -> DecayRule:
    """Return the rule of the arguments `decay` and `weight_decay`.

    Raises:
      ValueError: if one of them is unknown, or they name different rules.
    """
    checks.choice("weight_decay", weight_decay, tuple(_FIRST_NAMES))
    if decay is None:
        return DecayRule(_FIRST_NAMES[weight_decay])
    checks.choice("decay", decay, RULES)
    if weight_decay == "scaled" and decay != "per_width":
        raise ValueError(
            f"`decay` is {decay!r} and `weight_decay` is 'scaled', which is "
            "'per_width'; pass `decay` alone."
        )
    return DecayRule(decay, is_named=True)
