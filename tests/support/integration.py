"""Checks of jinit on models of other packages, which test classes inherit.

A test file of `tests/integrations` names the packages that it needs by `library`, and
has a class for each model:

    eqx = library("equinox")

    class TestPerceptron(Checks):
        case = Case(draw=..., call=..., table=..., depth=0, spoiled="layers/1/weight")

Each check is a test, so a failure says what does not hold. A class overrides a check
where the package does something else by nature, and says why in a comment.
"""

import dataclasses
import fnmatch
import functools
import importlib
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jinit
from jinit import mup
from tests.support.zoo import truth

KEY = jax.random.key(14)


def library(name: str, package: str | None = None) -> Any:
    """Import a module, or skip the whole test file where its package is missing.

    `package` is the name that pip knows, where it is another one. Warnings of other
    packages at their import are theirs to mend.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reason = f"{package or name} is of the extra: jinit[integrations]"
        pytest.importorskip(name.partition(".")[0], reason=reason)
        return importlib.import_module(name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Widths:
    """A model at several widths, and the muP classes that the paper gives it.

    `make` is `make_model` of `jinit.mup.coordinate_check`: a function of the width that
    returns a Linen module or a pair (init(key, x), apply(params, x)), or one of the
    width and of `rngs`. The models need no factor in their readouts, since `infer`
    takes it into the weights. A readout that is an embedding too cannot take it: with
    readout="multiplier" the model multiplies its logits by sizes[0] / width.
    """

    make: Callable[..., Any]
    sizes: Sequence[int]
    x: Any
    target: Any
    # Paths of tensors, and their classes: "input", "hidden", "output", "vector", ...
    classes: Mapping[str, str]
    loss: Callable[[Any, Any], Any] = lambda y, target: jnp.mean((y - target) ** 2)
    # Adam's rate at the first width.
    rate: float = 1e-2
    overrides: Any = ()
    readout: str = "weights"
    seeds: int = 4
    tolerance: float = 0.2
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def of_equinox(
    draw: Callable[[jax.Array, int], Any], call: Callable[[Any, Any], Any]
) -> Callable[[int], tuple[Callable[..., Any], Callable[..., Any]]]:
    """Return `Widths.make` of a module of Equinox: draw(key, width), call(model, x).

    The parameters are the module without functions and masks, which are no parameters.
    """
    eqx = importlib.import_module("equinox")

    def make(width: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
        rest = eqx.filter(draw(KEY, width), eqx.is_inexact_array, inverse=True)
        return (
            lambda key, _: eqx.filter(draw(key, width), eqx.is_inexact_array),
            lambda params, x: call(eqx.combine(params, rest), x),
        )

    return make


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A model of another package, at small size, with what its paper says about it.

    `draw(key)` is how the package draws parameters by default, and `call(drawn)` has
    the arguments of `jinit.network`: (model, *arguments). `table` is written by hand
    from the published architecture, in the form of `tests.support.zoo.truth`; it needs
    the key tensors alone.
    """

    draw: Callable[[jax.Array], Any]
    call: Callable[[Any], tuple[Any, ...]]
    table: str
    # The number of residual additions; None where it is a matter of definition.
    depth: int | None
    # The path of the weight that is multiplied by 30. A finding names its layer, or one
    # of `named`.
    spoiled: str
    named: Sequence[str] = ()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    rngs: Any = None
    # The checks that take long, by their names without "test_".
    slow: Sequence[str] = ()
    # The loss that `probe` and `audit` look at, if any.
    loss: Callable[[Any], Any] | None = None
    # The categories of findings of `probe` that are right about the package's own
    # start; a comment has the arithmetic.
    verdict: Sequence[str] = ()
    # Layers that lsuv leaves out (a comment says why), and globs of all weights that
    # stay as they are: those of these layers, and those that belong to no layer.
    skip: Sequence[str] = ()
    left: Sequence[str] = ()
    # Layers that autoinit is asked to skip.
    autoinit_skip: Sequence[str] = ()
    # The first rules of the plan, for parameters that need another law than he().
    rules: Sequence[tuple[str, Any]] = ()
    # Limits of the stds of the layers' outputs, relative to their median, after he(),
    # and limits of these stds after autoinit.
    spread: tuple[float, float] = (0.1, 10.0)
    autoinit_std: tuple[float, float] = (0.25, 4.0)
    # Findings of `audit` that are right, as (category, path); a comment has the
    # arithmetic.
    findings: Sequence[tuple[str, str]] = ()
    # None where the model has no width to grow; a comment says so.
    widths: Widths | None = None


class Start:
    """The start of a case's model: what its package draws, read and probed once."""

    def __init__(self, case: Case) -> None:
        self.case = case

    @functools.cached_property
    def drawn(self) -> Any:
        """Return what the package draws, eagerly."""
        return self.case.draw(KEY)

    @functools.cached_property
    def net(self) -> jinit.Network:
        """Return the network of what the package draws."""
        return self.network(self.drawn)

    @functools.cached_property
    def layers(self) -> dict[str, str]:
        """Return the name of each layer that can be set, by the path of its weight."""
        adjustable = self.net._read.reading.adjustable
        return {self.net.paths[one.kernel.number]: one.path for one in adjustable}

    @functools.cached_property
    def growth(self) -> "Growth":
        """Return the model at its widths."""
        return Growth(self.case.widths)

    def network(self, drawn: Any) -> jinit.Network:
        """Return the network of what was drawn, or of what lsuv or autoinit gave."""
        case = self.case
        return jinit.network(*case.call(drawn), rngs=case.rngs, **case.options)

    def spoiled(self, factor: float = 30.0) -> jinit.Network:
        """Return the network with one weight multiplied."""
        leaves, tree = jax.tree.flatten(self.net.params)
        assert self.case.spoiled in self.net.paths, self.net.paths
        pairs = zip(self.net.paths, leaves, strict=True)
        changed = [w * factor if path == self.case.spoiled else w for path, w in pairs]
        return self.net.replace(tree.unflatten(changed))

    def stds(self, net: jinit.Network) -> dict[str, float]:
        """Return the std of the output of each layer of `net`, at its first use.

        Steps of a scan that share their weights, as in a recurrent cell, are uses of
        one layer, and the first state may be 0.
        """
        adjustable = self.net._read.reading.adjustable
        is_shared = {one.path: one.is_shared for one in adjustable}
        stds: dict[str, float] = {}
        for row in jinit.probe(net).rows:
            name = row["path"].partition("[")[0]
            if name in is_shared:
                path = name if is_shared[name] else row["path"]
                stds[path] = stds.get(path, 0) or row["std"]
        return stds


def with_he(case: Case, net: jinit.Network) -> jinit.Network:
    """Return the network with its matrices and convolutions drawn by he()."""

    def is_multiplied(_: str, leaf: Any) -> bool:
        is_weight = bool(leaf.roles & {"matrix", "convolution"})
        return is_weight and "embedding" not in leaf.roles and leaf.fans is not None

    rules = [*case.rules, (is_multiplied, jinit.he()), ("**", jinit.keep)]
    plan = jinit.plan(net, rules, allow_unused=True)
    return net.replace(jinit.materialize(plan.init)(jax.random.fold_in(KEY, 1)))


class Growth:
    """The parametrizations of a case with widths, from models that are drawn."""

    def __init__(self, widths: Widths) -> None:
        self.widths = widths

    @functools.cached_property
    def nets(self) -> dict[int, jinit.Network]:
        """Return the network of each width."""
        return {width: self.network(width) for width in self.widths.sizes}

    def network(self, width: int) -> jinit.Network:
        """Return the network at one width."""
        widths, make = self.widths, self.widths.make
        if "rngs" in inspect.signature(make).parameters:
            model = make(width, rngs=nnx.Rngs(KEY))
            return jinit.network(model, widths.x, **widths.options)
        model = make(width)
        if not isinstance(model, tuple):
            model = functools.partial(model.init, **widths.options), model
        params = model[0](KEY, widths.x)
        return jinit.network(model[1], params, widths.x, **widths.options)

    def infer(self, base: Any, target: Any) -> mup.Parametrization:
        """Infer a parametrization from two trees of the sizes of two widths.

        Drawn arrays tell how the std of each tensor of the package grows.
        """
        pair = (self._drawn(tree) for tree in (base, target))
        widths = self.widths
        return mup.infer(*pair, overrides=widths.overrides, readout=widths.readout)

    def _drawn(self, tree: Any) -> jinit.Network:
        """Return the network whose arrays have the shapes of a tree."""
        nets = self.nets.values()
        return next(net for net in nets if _shapes(net.params) == _shapes(tree))


def _shapes(tree: Any) -> list[tuple[int, ...]]:
    return [leaf.shape for leaf in jax.tree.leaves(tree)]


@pytest.mark.integrations
@pytest.mark.usefixtures("quick_compilation")
class Checks:
    """The checks of one case. A subclass has the case."""

    case: Case
    start: Start

    def __init_subclass__(cls) -> None:
        cls.start = Start(cls.case)

    @pytest.fixture(autouse=True)
    def _as_the_field_writes(self):
        """Many packages add biases of lower rank."""
        with jax.numpy_rank_promotion("allow"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield

    def test_the_table_is_read(self):
        assert not truth.differences(self.start.net, truth.facts(self.case.table))
        assert self.case.depth in (None, self.start.net.depth)

    def test_materialize_gives_the_eager_bits(self):
        # Some packages have functions in their trees, which no two models share.
        drawn = jax.tree.leaves_with_path(jinit.materialize(self.case.draw)(KEY))
        eager = jax.tree.leaves_with_path(self.start.drawn)
        assert [path for path, _ in drawn] == [path for path, _ in eager]
        for (path, one), (_, other) in zip(drawn, eager, strict=True):
            if isinstance(other, jax.Array):
                assert one.dtype == other.dtype, path
                assert np.asarray(one).tobytes() == np.asarray(other).tobytes(), path

    def test_he_keeps_the_signal(self):
        stds = self.start.stds(with_he(self.case, self.start.net))
        low, high = self.case.spread
        middle = np.median(list(stds.values()))
        wrong = {p: s for p, s in stds.items() if not low < s / middle < high}
        assert stds and not wrong, (middle, stds)

    def test_probe_is_silent_on_the_start_of_the_package(self):
        verdict = jinit.probe(self.start.net, loss=self.case.loss).verdict
        categories = {finding.category for finding in verdict}
        assert categories == set(self.case.verdict), verdict

    def test_probe_names_the_layer_that_is_spoiled(self):
        verdict = jinit.probe(self.start.spoiled(), loss=self.case.loss).verdict
        named = {finding.path.partition("[")[0] for finding in verdict}
        assert named & {*self.case.named, self.start.layers[self.case.spoiled]}, verdict

    def test_lsuv_sets_every_layer(self):
        model, history = jinit.lsuv(self.start.net, skip=self.case.skip)
        stds = self.start.stds(self.start.network(model))
        for path in _layers_of(history):
            assert stds[path] == pytest.approx(1, abs=0.05), path
        left = [p for p in history.left if not _matches(p, self.case.left)]
        assert not left
        for pattern in self.case.left:
            assert fnmatch.filter(history.left, pattern), pattern

    def test_autoinit_sets_every_layer(self):
        model, history = jinit.autoinit(self.start.net, skip=self.case.autoinit_skip)
        stds = self.start.stds(self.start.network(model))
        low, high = self.case.autoinit_std
        set_by = _layers_of(history)
        wrong = {p: stds[p] for p in set_by if not low < stds[p] < high}
        assert set_by and not wrong

    def test_mup_has_the_classes_of_the_paper(self):
        growth = self._growth()
        base, target, *_ = growth.nets.values()
        rows = {
            row["path"]: row["class"]
            for row in growth.infer(base.params, target.params).rows
        }
        for path, mup_class in growth.widths.classes.items():
            assert rows[path] == mup_class, path

    def test_coordinate_check_is_flat(self):
        self.coordinates().check()

    def coordinates(self) -> mup.CoordinateReport:
        """Return how activations grow with the width under muP."""
        growth = self._growth()
        widths = growth.widths
        return mup.coordinate_check(
            widths.make,
            widths.sizes,
            [(widths.x, widths.target)] * 3,
            lambda p: p.optimizer(optax.adam(widths.rate)),
            loss=widths.loss,
            parametrize=growth.infer,
            seeds=widths.seeds,
            tolerance=widths.tolerance,
            **widths.options,
        )

    def test_audit_has_no_more_to_say(self):
        findings = jinit.audit(self.start.net, loss=self.case.loss).findings
        pairs = {(finding.category, finding.path) for finding in findings}
        assert pairs == set(self.case.findings), findings

    def _growth(self) -> Growth:
        if self.case.widths is None:
            pytest.skip("the model has no width that grows; see its case")
        return self.start.growth


def _layers_of(history: jinit.History) -> set[str]:
    """Return the layers of a history, in which each expert has a separate row."""
    return {row["path"].partition("[member")[0] for row in history.rows}


def _matches(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)
