"""Write the page of the transfer of learning rates, with a figure of each study."""

import math
import pathlib

import numpy as np
from matplotlib.figure import Figure

from benchmarks import _page
from benchmarks.mup._studies import STUDIES, Study
from benchmarks.mup._transfer import Outcome, transferred
from jinit import mup

# fmt: off
_HEAD = ("study", "parametrization", "sizes", "best rate, octaves per doubling",
         "verdict", "loss at the smallest's rate", "loss at its own best rate")
# fmt: on
_ABOUT = """\
Adam's learning rate is swept in steps of a factor 2 at several sizes of a model, by
`jinit.mup.transfer_check`, with the parametrization of `jinit.mup` and without it.
Data, batches, steps and seeds are the same for all. The score is the mean log loss over
all steps of a run, since the late loss is near zero at many rates.

The slope says by how many octaves (factors of 2) the best rate moves where the size
doubles, with its standard error; the verdict is that of `jinit.mup.transfer_check`,
whose limits are measured. The last two columns are mean losses of the largest model: at
the rate that is best for the smallest one, and at the best rate of a full sweep. The
standard parametrization may end lower there: muP saves the sweep of the large model,
and does not promise a lower loss.

`perceptron` learns scikit-learn's digits, `transformer` the characters of Python's help
pages, and `depth` is a residual perceptron that deepens by CompleteP's rule. Rates and
steps were chosen in trial runs. A study takes minutes; names behind the command choose
some."""


def write(
    place: pathlib.Path, name: str, study: Study, outcome: Outcome, data: str
) -> None:
    """Write the two rows of a study, and its figure."""
    suffix = "" if data == "digits" else f", {data}"
    rows = [
        (f"`{name}`{suffix}", rule, *_cells(study, report))
        for rule, report in outcome.reports.items()
    ]
    order = [(f"`{one}`", rule) for one in STUDIES
             for rule in ("muP", "CompleteP", "standard")]  # fmt: skip
    table = _page.merged(
        place, "transfer", "transfer", _HEAD, rows, keys=2, order=order, left=5
    )
    with _page.style():
        _page.image(place, f"transfer-{name}", figure(study, outcome), "")
    images = [
        f"![{_alt(one)}](transfer-{one}.svg){{ .drawn }}"
        for one in STUDIES
        if (place / f"transfer-{one}.svg").is_file()
    ]
    part = _page.Part(
        "transfer", "transfer", "Best rates of small and large models",
        "python -m benchmarks.mup", _ABOUT, [table.text, *images],
    )  # fmt: skip
    _page.write(place, part)


def _alt(name: str) -> str:
    return (
        f"The best rate at each size of the study {name}, under both parametrizations"
    )


def _cells(study: Study, report: mup.TransferReport) -> list[str]:
    largest = [r["score"] for r in report.rows if r["width"] == report.widths[-1]]
    verdict, _, _ = report.verdict.partition(":")
    return [
        f"{study.grows} {study.sizes[0]} to {study.sizes[-1]}",
        f"{report.octaves_per_doubling:+.2f} +- {report.uncertainty:.2f}",
        verdict,
        _loss(transferred(report)[-1]),
        _loss(min(largest)),
    ]


def _loss(score: float) -> str:
    """Return the loss of a score, which is the mean of its logarithm."""
    return f"{math.exp(score):.3g}" if math.isfinite(score) else "diverged"


def figure(study: Study, outcome: Outcome) -> Figure:
    """Draw the best rate over the size; a level line is a rate that transfers."""
    result = Figure(figsize=(7.6, 3.4), layout="constrained")
    axes = result.add_subplot()
    for number, (rule, report) in enumerate(outcome.reports.items()):
        sizes = list(report.best)
        octaves = np.log2(list(report.best.values()))
        axes.errorbar(
            sizes, octaves - octaves[0], list(report.errors.values()), capsize=4,
            marker="os"[number], color=f"C{number}", label=rule,
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_xticks(study.sizes, list(map(str, study.sizes)))
    axes.set_xlabel(study.grows)
    axes.set_ylabel("octaves from the smallest's")
    axes.grid()
    axes.legend()
    slopes = [one.octaves_per_doubling for one in outcome.reports.values()]
    axes.set_title(
        f"{study.title}: where the {study.grows} doubles, the best rate moves by\n"
        f"{slopes[0]:+.2f} octaves under {study.rule}, and by {slopes[1]:+.2f} without",
        fontsize=10.5,
    )
    return result
