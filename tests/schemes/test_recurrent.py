"""Recurrent schemes: the time constants of chrono, and biases in Flax's own cells."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats

import jinit
from tests.support import laws

KEY = jax.random.key(3)
UNITS = 16


def times(forget):
    """1 / (1 - sigmoid(b)): the steps for which a gate keeps its state."""
    return 1 + np.exp(np.asarray(forget, np.float64))


@pytest.mark.parametrize("t_max", [3.0, 100.0, 5000.0])
def test_chrono_s_times_are_uniform(t_max):
    b = jinit.recurrent.chrono(t_max)(KEY, (4 * 20_000,))
    i, f, g, o = np.split(np.asarray(b), 4)
    laws.assert_law(times(f), laws.uniform(2, t_max))
    np.testing.assert_array_equal(i, -f)
    assert not g.any() and not o.any()
    # Biases with a uniform law of their own are another thing.
    wrong = np.random.default_rng(0).uniform(0, np.log(t_max - 1), 20_000)
    with pytest.raises(AssertionError):
        laws.assert_law(times(wrong), laws.uniform(2, t_max))


def test_a_gate_alone_has_the_law_and_the_std():
    gate = jinit.recurrent.chrono(50.0, gate="f")
    b = np.asarray(gate(KEY, (40_000,)), np.float64)
    laws.assert_law(times(b), laws.uniform(2, 50))
    assert gate.std((UNITS,)) == pytest.approx(b.std(), rel=0.03)
    other = jinit.recurrent.chrono(50.0, gate="i")(KEY, (40_000,))
    np.testing.assert_array_equal(other, -gate(KEY, (40_000,)))
    assert not jinit.recurrent.chrono(50.0, gate="g")(KEY, (UNITS,)).any()


def test_a_grid_spaces_the_times_evenly():
    b = jinit.recurrent.chrono(50.0, gate="f", grid=True)(KEY, (24,))
    np.testing.assert_allclose(np.diff(times(b)), 2, rtol=1e-4)


@pytest.mark.parametrize("order", ["ifgo", "fico", "rzn"])
def test_the_order_of_the_gates(order):
    if "c" in order:
        with pytest.raises(ValueError, match="name each gate of the cell once"):
            jinit.recurrent.unit_forget_bias(order=order)
        return
    b = jinit.recurrent.unit_forget_bias(order=order, value=2.0)(KEY, (3 * len(order),))
    keeps = {g: part.tolist() for g, part in zip(order, b.reshape(-1, 3), strict=True)}
    kept = "f" if "f" in order else "z"
    assert keeps.pop(kept) == [2.0] * 3 and not np.any(list(keeps.values()))


def linen(cell):
    x = jnp.ones((1, 4))
    layer = cell(UNITS)
    return jax.eval_shape(
        lambda k: layer.init(k, layer.initialize_carry(k, x.shape), x), KEY
    )


CELLS = {
    "lstm": lambda: linen(nn.LSTMCell),
    "optimized": lambda: linen(nn.OptimizedLSTMCell),
    "gru": lambda: linen(nn.GRUCell),
    "nnx": lambda: nnx.state(nnx.LSTMCell(4, UNITS, rngs=nnx.Rngs(0)), nnx.Param),
    "nnx fused": lambda: nnx.state(
        nnx.OptimizedLSTMCell(4, UNITS, rngs=nnx.Rngs(0)), nnx.Param
    ),
    "nnx gru": lambda: nnx.state(nnx.GRUCell(4, UNITS, rngs=nnx.Rngs(0)), nnx.Param),
}
KINDS = {"gru": "gru", "nnx gru": "fused_gru", "nnx fused": "fused_lstm"}


def biases(name, rules):
    """Every gate's biases after a plan, by letter."""
    tree = CELLS[name]()
    rest = [("**/kernel", jinit.lecun()), ("**", jinit.zeros)]
    drawn = jinit.plan(tree, [*rules, *rest], allow_unused=True).init(KEY)
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(drawn):
        keys = [str(getattr(part, "key", "")) for part in path]
        if "bias" not in keys:
            continue
        layer, leaf = keys[keys.index("bias") - 1], np.asarray(leaf)
        if not layer.startswith("dense"):
            found.setdefault(layer[1], np.zeros(UNITS))
            found[layer[1]] = found[layer[1]] + leaf
        elif leaf.any():
            order = "rzn" if "gru" in name else "ifgo"
            found |= dict(zip(order, leaf.reshape(-1, UNITS), strict=True))
    return found


@pytest.mark.parametrize("name", CELLS)
def test_rules_set_the_gates_of_flax_s_cells(name):
    kind = KINDS.get(name, "lstm")
    unit = biases(name, jinit.recurrent.unit_forget_rules(cell=kind))
    keeps = "z" if "gru" in name else "f"
    assert (unit.pop(keeps) == 1).all() and not any(b.any() for b in unit.values())
    chrono = biases(name, jinit.recurrent.chrono_rules(40.0, cell=kind))
    assert stats.kstest(times(chrono[keeps]), laws.uniform(2, 40).cdf).pvalue > 1e-3
    if "gru" not in name:
        np.testing.assert_array_equal(chrono["i"], -chrono["f"])


def test_a_cell_with_chrono_biases_remembers():
    """With no input an LSTM's state decays to 1/e after about its time constant."""
    cell = nn.OptimizedLSTMCell(UNITS)
    x = jnp.zeros((1, 4))
    carry = cell.initialize_carry(KEY, x.shape)
    tree = jax.eval_shape(cell.init, KEY, carry, x)
    kernels = ("**/kernel", jinit.zeros)

    def left(rules, steps=20):
        params = jinit.plan(tree, [*rules, kernels, ("**", jinit.zeros)]).init(KEY)
        state = (jnp.ones_like(carry[0]), jnp.zeros_like(carry[1]))
        for _ in range(steps):
            state, _ = cell.apply(params, state, x)
        return float(state[0].mean())

    assert left([]) < 1e-5
    assert left(jinit.recurrent.unit_forget_rules()) < 0.01
    assert left(jinit.recurrent.chrono_rules(200.0)) > 0.5


def test_irnn_is_square():
    with pytest.raises(ValueError, match=r"square, such as \(6, 6\)"):
        jinit.recurrent.identity()(KEY, (4, 6))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jinit.recurrent.chrono(2.0), "greater than 2"),
        (lambda: jinit.recurrent.chrono(9.0, gate="q"), "must be one of"),
        (lambda: jinit.recurrent.chrono(9.0)(KEY, (6,)), "4 times the units"),
        (lambda: jinit.recurrent.chrono(9.0)(KEY, ()), "no axes"),
        (lambda: jinit.recurrent.chrono_rules(9.0, cell="lstn"), "Did you mean"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_prefix_is_text():
    with pytest.raises(TypeError, match="`prefix` is 3"):
        jinit.recurrent.chrono_rules(9.0, prefix=3)
