"""Sweep over rates at each size by `jinit.mup.transfer_check`, and judge the moves."""

from typing import Any, NamedTuple

import jax
import optax

from benchmarks.mup._studies import Study
from jinit import mup


class Outcome(NamedTuple):
    """An outcome has the reports on both parametrizations, the study's rule first."""

    reports: dict[str, mup.TransferReport]
    checks: dict[str, bool]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        reports = {name: report.to_dict() for name, report in self.reports.items()}
        return {"checks": self.checks, "measured": reports}


def run(study: Study) -> Outcome:
    """Sweep with the parametrization and without it, and compare the best rates."""
    settings = study.sizes, study.rates, study.batches
    options: Any = {"loss": _loss, "seeds": study.seeds, "score": "mean"}
    ours = mup.transfer_check(
        study.model, *settings, lambda rate, p: p.optimizer(optax.adam(rate)),
        parametrize=study.parametrize, **options,
    )  # fmt: skip
    standard = mup.transfer_check(
        study.standard, *settings, lambda rate, p: optax.adam(rate), **options
    )
    reports = {study.rule: ours, "standard": standard}
    return Outcome(reports, checks(study, ours, standard))


def _loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def transferred(report: mup.TransferReport) -> list[float]:
    """Return the score of each size at the smallest size's best rate of the grid."""
    sweeps = [[row for row in report.rows if row["width"] == size]
              for size in report.widths]  # fmt: skip
    scores = [[row["score"] for row in rows] for rows in sweeps]
    place = scores[0].index(min(scores[0]))
    return [one[place] for one in scores]


def checks(
    study: Study, ours: mup.TransferReport, standard: mup.TransferReport
) -> dict[str, bool]:
    """Return the checks that decide the claim."""
    return {
        f"{study.rule}: the best rate transfers": ours.verdict.startswith("transfers"),
        "standard: the best rate moves": standard.verdict.startswith("moves"),
        f"at the smallest model's rate the largest is better under {study.rule}": (
            transferred(ours)[-1] < transferred(standard)[-1]
        ),
    }
