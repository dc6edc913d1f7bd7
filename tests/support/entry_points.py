"""Call every public entry point once on something small, for tests of modes."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jinit
from tests.support.cases import CASES


def key(seed: int = 0) -> jax.Array:
    """Return a key that nobody has used yet."""
    return jax.random.key(seed)


@functools.cache
def inputs() -> np.ndarray:
    return np.random.default_rng(0).normal(1.0, 1.0, (16, 4)).astype(np.float32)


@functools.cache
def images() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(4, 4, 4, 2)).astype(np.float32)


def linen(kernel_init: Any = None) -> nn.Module:
    init = jinit.he() if kernel_init is None else kernel_init
    return nn.Sequential([nn.Dense(4, kernel_init=init), nn.relu, nn.Dense(2)])


def make_nnx(rngs: nnx.Rngs) -> nnx.Module:
    return nnx.Sequential(nnx.Linear(4, 4, rngs=rngs), nnx.relu)


def make_nnx_of(init: Any, rngs: nnx.Rngs) -> nnx.Module:
    return nnx.Sequential(nnx.Linear(4, 4, kernel_init=init, rngs=rngs), nnx.relu)


def params() -> dict[str, Any]:
    values = np.random.default_rng(2).normal(size=(4, 6)).astype(np.float32)
    return {"up": {"kernel": jnp.asarray(values), "bias": jnp.full(6, 0.5, "float32")}}


RULES = [("**/kernel", jinit.he()), ("**", jinit.zeros)]


def plan() -> jinit.Plan:
    return jinit.plan(params(), RULES)


def variables() -> Any:
    return {
        "params": {
            f"layers_{index}": {
                "kernel": 0.5 * jnp.ones((4, width)) + jnp.eye(4, width),
                "bias": jnp.zeros(width),
            }
            for index, width in ((0, 4), (2, 2))
        }
    }


def squares(outputs: jax.Array) -> jax.Array:
    return (outputs**2).mean()


def set_from_data(method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Return the parameters and the history of a method that sets them from data."""
    start = jax.tree.map(lambda x: x.astype("float32"), variables())
    changed, history = method(linen(), start, *arguments, **options)
    return changed, history.rows


def set_from_data_in_nnx(
    method: Callable[..., Any], *arguments: Any, **options: Any
) -> Any:
    model, history = method(make_nnx(nnx.Rngs(0)), *arguments, **options)
    return nnx.to_pure_dict(nnx.state(model)), history.rows


class WeightNormed(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.WeightNorm(nn.Dense(3))(x)


def weight_norm() -> Any:
    model = WeightNormed()
    start = jinit.materialize(model.init)(key(), inputs())
    changed, history = jinit.weight_norm_init(model, start, inputs())
    return changed, history.rows


def probe_of_everything() -> Any:
    start = jax.tree.map(lambda x: x.astype("float32"), variables())
    report = jinit.probe(linen(), start, inputs(), jacobian=True)
    return report.rows, report.jacobian


def audit() -> Any:
    start = jax.tree.map(lambda x: x.astype("float32"), variables())
    model, loss = linen(), lambda y: jnp.mean(y**2)
    return jinit.audit(model, start, inputs(), loss=loss).rows


def attention() -> Any:
    kernels = {name: {"kernel": jnp.ones((8, 2, 4), "float32")} for name in
               ("query", "key", "value")}  # fmt: skip
    start = {"a": {**kernels, "out": {"kernel": jnp.ones((2, 4, 8), "float32")}}}
    return jinit.place_mimetic_attention(start, key())


def widths(width: int) -> Any:
    shapes = {"in": (4, width), "mid": (width, width), "out": (width, 2)}
    return {
        k: {"kernel": jax.ShapeDtypeStruct(s, np.float32)} for k, s in shapes.items()
    }


def widened() -> Any:
    """Return parameters of the wide model, and gradients."""
    return jax.tree.map(lambda s: jnp.full(s.shape, 0.5, s.dtype), widths(8))


def parametrization() -> Any:
    p = jinit.mup.infer(widths(4), widths(8))
    start = widened()
    tx = p.optimizer(optax.lion(1e-2, weight_decay=0.1))
    updates, _ = tx.update(start, tx.init(start), start)
    rules = p.rules([("**", jinit.lecun())])
    drawn = jinit.plan(widths(8), rules).init(key())
    return updates, p.init(start), drawn, p.readout_scale, p.rows


def other_parametrizations() -> Any:
    rules = [("in/**", "input"), ("mid/**", "hidden"), ("out/**", "output")]
    parametrizations = (
        jinit.mup.from_rules(widths(8), rules, width=(4, 8)),
        jinit.mup.unit_scaling(widths(4), widths(8)),
        jinit.mup.spectral(widened()),
    )
    rows = [p.rows for p in parametrizations]
    return rows, parametrizations[2].init(widened())


def coordinate_check() -> Any:
    def model(width: int) -> Any:
        def init(key: Any, x: Any) -> Any:
            return jinit.lecun()(key, (x.shape[-1], width))

        return init, lambda w, x: x @ w

    batches = [(np.eye(4, dtype=np.float32), np.float32(0.0))] * 2
    loss = lambda y, _: squares(y)  # noqa: E731
    sgd = optax.sgd(1e-2)
    return jinit.mup.coordinate_check(model, [4, 8], batches, sgd, loss=loss).rows


def transfer_check() -> Any:
    def model(width: int) -> Any:
        return lambda key, x: jnp.zeros((width,)), lambda w, x: jnp.sum(w * x)

    batches = [(np.float32(1.0), np.float32(1.0))] * 2
    loss = lambda y, target: squares(y - target)  # noqa: E731
    settings: Any = ([4, 8], [0.01, 0.02, 0.04], batches)
    tx = lambda rate, p: optax.sgd(rate)  # noqa: E731
    return jinit.mup.transfer_check(model, *settings, tx, loss=loss).rows


def recipes() -> Any:
    """Draw a small transformer's block by every recipe."""
    block = {
        "attn": {"query": {"kernel": jnp.ones((4, 2, 2), "float32")}},
        "mlp": {"up": {"kernel": jnp.ones((4, 6), "float32")}},
    }
    made = {name: getattr(jinit.recipes, name) for name in
            ("gpt2", "small_init", "deepnorm", "t_fixup")}  # fmt: skip
    rules = {name: maker(4) for name, maker in made.items()}
    rules["t5"] = jinit.recipes.t5()
    return {
        name: jinit.plan(block, rule, allow_unused=True).init(key())
        for name, rule in rules.items()
    }


def recurrent() -> Any:
    cell = {"cell": {"hf": {"bias": jnp.ones(4, "float32")}}}
    rules = (jinit.recurrent.chrono_rules(20.0), jinit.recurrent.unit_forget_rules())
    return [jinit.plan(cell, [*r, ("**", jinit.zeros)], allow_unused=True).init(key())
            for r in rules]  # fmt: skip


def from_arrays() -> Any:
    w = params()["up"]["kernel"]
    a, b = jinit.lora()
    return (
        jinit.pissa(w, 2), jinit.olora(w, 2), a(key(), (4, 2)), b(key(), (2, 6)),
        jinit.whitening_conv(images(), window=(2, 2))(key(), (2, 2, 2, 16)),
    )  # fmt: skip


def updated() -> Any:
    full = jinit.fill_missing({"up": {"bias": jnp.ones(6, "float32")}}, params(),
                              plan(), key())  # fmt: skip
    noise = jinit.plan(params(), [("**/bias", jinit.zeros), ("**", 0.1 * jinit.he())])
    return full, jinit.perturb(params(), key(), 0.5, noise)


def random() -> Any:
    return (
        jinit.random.bits(key(), (3,)),
        jinit.random.normal(key(), (3, 4)),
        jinit.random.normal(key(), (3,), "bfloat16"),
        jinit.random.uniform(key(), (3,), minval=-1.0, maxval=2.0),
        jinit.random.truncated_normal(key(), -1.0, 2.0, (3,)),
        jinit.random.truncated_normal(key(), 6.0, np.inf, (3,)),
    )


def names_and_configs() -> Any:
    init = jinit.from_config(jinit.to_config(0.5 * jinit.he()))
    return (
        init(key(), (4, 6)), jinit.get("he_normal")(key(), (4, 6)),
        jinit.fans((3, 4, 6)), jinit.fans_from_einsum("bi,io->bo", (4, 6)),
        jinit.residual_scale("gpt2", 4),
    )  # fmt: skip


def gains() -> Any:
    kernel, bias = jinit.critical("tanh")
    return (
        jinit.gain("relu"), jinit.gain("gelu"), jinit.gain(lambda x: x * jnp.tanh(x)),
        jinit.slope_at_zero(jax.nn.silu), kernel(key(), (4, 6)), bias(key(), (6,)),
    )  # fmt: skip


def theory() -> Any:
    t = jinit.theory
    return (
        t.variance_map("tanh", 1.3, 0.05, 1.0),
        t.correlation_map("relu", 2.0, 0.0, 1.0, 0.5),
        t.fixed_point("tanh", 1.3, 0.05),
        t.depth_scales("tanh", 1.3, 0.05),
        t.critical("erf"),
        t.jacobian_spectrum("relu", 2.0, 0.0, 10),
        t.finite_width(500, 100),
        t.fixed_point(lambda x: jnp.maximum(x, 0) + 0.1 * jnp.tanh(x), 1.0, 0.1),
    )


def sweep() -> Any:
    fn, devices = lambda k: jinit.he()(k, (4, 4)).std(), jax.devices()[:2]
    return jinit.sweep(fn, key(), 3, devices=devices, progress=False)


def compare() -> Any:
    keys = jax.random.split(key(), 1)
    return {
        name: [report.rows for report in reports]
        for name, reports in jinit.compare(
            linen, ["he", "xavier"], inputs(), keys
        ).reports.items()
    }


def nnx_compare() -> Any:
    keys = jax.random.split(key(), 1)
    comparison = jinit.nnx.compare(make_nnx_of, ["he"], inputs(), keys)
    return [report.rows for report in comparison.reports["he"]]


def nnx_materialize() -> Any:
    return nnx.to_pure_dict(nnx.state(jinit.nnx.materialize(make_nnx, 0)))


# Each of these compiles at most a few small programs.
QUICK: dict[str, Callable[[], Any]] = {
    "random": random,
    "names": names_and_configs,
    "gains": gains,
    "theory": theory,
    "plan.init": lambda: plan().init(key()),
    "plan.reinit": lambda: plan().reinit(key(), params(), only="**/kernel"),
    "plan of jax's": lambda: jinit.plan(
        params(), [("**/kernel", jax.nn.initializers.he_normal()),
                   ("**", jax.nn.initializers.zeros)]).init(key()),
    "fill_missing, perturb": updated,
    "materialize": lambda: jinit.materialize(linen().init)(key(), inputs()),
    "nnx.materialize": nnx_materialize,
    "recipes": recipes,
    "recurrent rules": recurrent,
    "place_mimetic_attention": attention,
    "lora, whitening": from_arrays,
    "mup.infer": parametrization,
    "mup, others": other_parametrizations,
    "sweep": sweep,
}  # fmt: skip

# Each of these compiles the passes of a model.
MODEL_FUNCTIONS: dict[str, Callable[[], Any]] = {
    "audit": audit,
    "probe": probe_of_everything,
    "nnx.probe": lambda: jinit.nnx.probe(make_nnx(nnx.Rngs(0)), inputs()).rows,
    "compare": compare,
    "nnx.compare": nnx_compare,
    "lsuv": lambda: set_from_data(jinit.lsuv, inputs()),
    "nnx.lsuv": lambda: set_from_data_in_nnx(jinit.nnx.lsuv, inputs()),
    "data_dependent": lambda: set_from_data(jinit.data_dependent, inputs()),
    "nnx.data_dependent": lambda: set_from_data_in_nnx(
        jinit.nnx.data_dependent, inputs()
    ),
    "weight_norm_init": weight_norm,
    "whiten_first_layer": lambda: set_from_data(
        jinit.whiten_first_layer, inputs(), signs=False, eps=1e-3
    ),
    "autoinit": lambda: set_from_data(jinit.autoinit, batch=inputs()),
    "gradinit": lambda: set_from_data(jinit.gradinit, inputs(), loss=squares, steps=2),
    "metainit": lambda: set_from_data(jinit.metainit, inputs(), steps=2),
    "coordinate_check": coordinate_check,
    "transfer_check": transfer_check,
}

NNX_TWINS = {"nnx.probe", "nnx.compare", "nnx.data_dependent"}

DRAWS: dict[str, Callable[[], Any]] = {
    f"draw {name}": functools.partial(
        lambda case: case.init(key(), case.shape), CASES[name]
    )
    for name in sorted(CASES)
}
