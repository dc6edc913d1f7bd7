"""The pages of docs/results, with the order of their parts."""

from typing import NamedTuple


class Page(NamedTuple):
    """A page has a title, an opening, and the names of its parts in their order."""

    title: str
    about: str
    parts: tuple[str, ...]


_WRITTEN = """\
Each part of this page is written by the command that stands in it, with the date, the
machine and the versions of the run."""

PAGES = {
    "speed": Page(
        "Speed: draws, seeds, imports",
        f"""\
This page says how long jinit takes, beside `jax.nn.initializers`, `torch.nn.init` and
NumPy. {_WRITTEN}

The calls that are compared take turns in one process: each round calls all of them, one
after the other, so that a load on the machine slows all alike. The numbers are medians
of the rounds. "Times faster" is the other library's median divided by that of jinit:
above 1 jinit is faster, and below 1, in **bold** type, it is slower.

Only CPUs are measured. jinit runs on GPUs and TPUs with the same operations, and no
claim is made about its speed there.""",
        (
            "draws",
            "small",
            "seeds",
            "compile",
            "sweep",
            "network",
            "importing",
            "tables",
        ),
    ),
    "models": Page(
        "Starts of whole models",
        f"""\
This page says how long a model takes from nothing to its first parameters.
{_WRITTEN}""",
        ("starts",),
    ),
    "papers": Page(
        "Published results",
        f"""\
This page compares what papers claim about initialization with what jinit measures.
{_WRITTEN}""",
        ("papers",),
    ),
    "transfer": Page(
        "muP: transfer of learning rates",
        f"""\
This page says whether the best learning rate of a small model is that of a large one.
{_WRITTEN}""",
        ("transfer",),
    ),
    "diagnosis": Page(
        "Diagnosis: how far to trust it, and its cost",
        f"""\
This page counts the false alarms and the misses of `jinit.probe`, and times the
functions that look at a model. {_WRITTEN}""",
        ("verdicts", "activations", "probe", "watch"),
    ),
}
