"""The methods that set a model from data are made for NNX models.

Each method is made from the function for Linen with the same name: it takes the model
apart, calls that function, and puts a new model together.
"""

import inspect
import re
import textwrap
from typing import Any, Protocol, TypeVar

from .._from_data import autoinit as _autoinit
from .._from_data import first_layer, history, unit_statistics, weight_norm
from .._from_data import gradinit as _gradinit
from .._from_data import lsuv as _lsuv
from .._from_data import metainit as _metainit
from .._network.network import inputs_of
from .._network.nnx import called as called_nnx

Model = TypeVar("Model")


class FromData(Protocol):
    """A method takes an NNX model, its inputs and settings; it returns a new model."""

    def __call__(
        self, model: Model, *arguments: Any, **settings: Any
    ) -> tuple[Model, history.History]:
        """Set a model from data."""
        ...


def _for_nnx(function: Any, example: str) -> FromData:
    """Return a method for NNX models, made from the one for Linen.

    Args:
      function: the function for Linen. It takes the model, variables and inputs apart,
        where an NNX model holds its variables, and is called on the inputs.
      example: the example of the docstring, from a model and a batch `x` on.
    """
    name = function.__name__
    signature = _signature(inspect.signature(function))
    needed = ", ".join(
        f"{p.name}={p.name}" if p.kind is p.KEYWORD_ONLY else p.name
        for p in signature.parameters.values()
        if p.default is p.empty and p.kind is not p.VAR_KEYWORD
    )

    def method(*args: Any, **settings: Any) -> Any:
        try:
            arguments = signature.bind(*args, **settings).arguments
        except TypeError as error:
            raise TypeError(
                f"jinit.nnx.{name}: {error}. Call jinit.nnx.{name}({needed})."
            ) from None
        model, inputs = arguments.pop("model"), inputs_of(arguments.pop("batch", ()))
        options = arguments.pop("options", {})
        called, rebuild = called_nnx(model, inputs, options, name)
        params, history = function(called, called.variables, batch=inputs, **arguments)
        return rebuild(params), history

    method.__name__ = method.__qualname__ = name
    by_name = signature.parameters["batch"].kind is inspect.Parameter.KEYWORD_ONLY
    # Python drops docstrings under -OO.
    text = inspect.getdoc(function)
    method.__doc__ = text and _docstring(text, example, by_name)
    method.__signature__ = signature  # type: ignore[attr-defined]
    return method


def _signature(linen: inspect.Signature) -> inspect.Signature:
    """Return (model, *batch, settings), or with a batch by keyword where it has one."""
    parameters = dict(linen.parameters)
    del parameters["variables"], parameters["rngs"]
    model, batch = parameters.pop("model"), parameters.pop("batch")
    by_name = batch.kind is inspect.Parameter.KEYWORD_ONLY
    kind: Any = batch.kind if by_name else inspect.Parameter.VAR_POSITIONAL
    batch = inspect.Parameter("batch", kind, annotation=Any)
    # A stable sort puts the batch before the settings that are like it.
    ordered = sorted([batch, *parameters.values()], key=lambda p: p.kind)
    return linen.replace(parameters=[model.replace(annotation=Any), *ordered])


# The entries of "Args" that differ; None where NNX has no such argument.
_ENTRIES = {
    "model": "model: an NNX module, which stays as it is.",
    "variables": None,
    "batch": "*batch: the arguments of the call.",
    "rngs": None,
}
_START = """>>> import jax, jinit
>>> from flax import nnx
>>> x = jax.random.normal(jax.random.key(0), (64, 8))
>>> model = nnx.Sequential(nnx.Linear(8, 8, rngs=nnx.Rngs(0)), nnx.relu)"""


def _docstring(linen: str, example: str, batch_by_name: bool) -> str:
    """Return a docstring for NNX: the one for Linen, with other Args and example."""
    sections = re.split(r"\n\n(?=(?:Args|Returns|Raises|Example|References):\n)", linen)
    law, *others = sections
    texts = {text.partition(":")[0]: text for text in others}
    entries = re.findall(r"^  \*{0,2}(\w+): (.*(?:\n    .*)*)", texts["Args"], re.M)
    args = []
    for name, text in entries:
        stars = "**" if name == "options" else ""
        entry = _ENTRIES.get(name, f"{stars}{name}: {text}")
        if name == "batch" and batch_by_name:
            # An NNX model is called once, so there is no search for a shape that fits.
            entry = f"batch: {text.partition(' By default')[0]}"
        args += [entry] if entry else []
    return "\n\n".join(
        [
            law,
            "\n  ".join(["Args:", *args]),
            texts["Returns"].replace("New variables", "A new model"),
            re.sub(
                "TypeError: .*",
                "TypeError: if `model` is not an NNX module.",
                texts["Raises"],
            ),
            "Example:\n" + textwrap.indent(f"{_START}\n{example.strip()}", "  "),
            texts["References"],
        ]
    )


lsuv = _for_nnx(
    _lsuv.lsuv,
    """
>>> model, history = jinit.nnx.lsuv(model, x, target_std=2.0)
>>> round(jinit.nnx.probe(model, x).rows[0]["std"], 3)
2.0
""",
)
data_dependent = _for_nnx(
    unit_statistics.data_dependent,
    """
>>> model, history = jinit.nnx.data_dependent(model, x)
>>> y = model.layers[0](x)
>>> bool((abs(y.mean(0)) < 0.01).all() and (abs(y.std(0) - 1) < 0.01).all())
True
""",
)
weight_norm_init = _for_nnx(
    weight_norm.weight_norm_init,
    """
>>> model, history = jinit.nnx.weight_norm_init(model, x)
>>> bool((abs(model.layers[0](x).std(0) - 1) < 0.01).all())
True
""",
)
whiten_first_layer = _for_nnx(
    first_layer.whiten_first_layer,
    """
>>> model, history = jinit.nnx.whiten_first_layer(model, x, signs=False)
>>> y = model.layers[0](x)
>>> abs(float(y.T[0] @ y.T[1] / 64)) < 1e-3
True
""",
)
autoinit = _for_nnx(
    _autoinit.autoinit,
    """
>>> model, history = jinit.nnx.autoinit(model, (0.0, 1.0), batch=x)
>>> round(history.rows[0]["weight_std"], 4)  # 1 / sqrt(8)
0.3536
""",
)
gradinit = _for_nnx(
    _gradinit.gradinit,
    """
>>> loss = lambda y: ((y - x) ** 2).mean()
>>> model, history = jinit.nnx.gradinit(model, x, loss=loss, steps=20)
>>> history.rows[-1]["loss_after_a_step"] < history.rows[0]["loss_after_a_step"]
True
""",
)
metainit = _for_nnx(
    _metainit.metainit,
    """
>>> model, history = jinit.nnx.metainit(model, x, steps=20)
>>> quotients = [row["gradient_quotient"] for row in history.rows]
>>> min(quotients) <= quotients[0]
True
""",
)
