"""`sweep`: the seeds that `jax.random.split` gives, whatever the chunks and devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

import jinit
from jinit import _sweep
from tests.support.split import slow_unless

KEY = jax.random.key(12)
INIT = jinit.he()


def trained(key):
    """A few steps of gradient descent, and what was drawn."""
    w_key, x_key = jax.random.split(key)
    w, x = INIT(w_key, (6, 6)), jax.random.normal(x_key, (4, 6))

    def loss(w):
        return jnp.mean((jnp.tanh(x @ w) - x) ** 2)

    def step(w, _):
        return w - 0.1 * jax.grad(loss)(w), loss(w)

    _, losses = jax.lax.scan(step, w, None, length=3)
    return {"losses": losses, "drawn": w, "key": key}


def test_results_are_those_of_vmap_over_split_keys():
    found = jinit.sweep(trained, KEY, 5)
    wanted = jax.vmap(trained)(jax.random.split(KEY, 5))
    assert found["losses"].shape == (5, 3) and found["drawn"].shape == (5, 6, 6)
    assert (found["drawn"] == wanted["drawn"]).all()
    assert (found["key"] == wanted["key"]).all()
    assert np.allclose(found["losses"], wanted["losses"], rtol=1e-5)


@pytest.fixture(scope="module")
def on_one_device():
    return jinit.sweep(trained, KEY, 10, devices=jax.devices()[:1])


@pytest.mark.parametrize(
    ("batch_size", "devices"),
    slow_unless([(3, 1), (64, 3)], [(1, 1), (3, 1), (4, 8), (64, 3), (None, 8)]),
)
def test_a_seed_does_not_depend_on_chunks_and_devices(
    batch_size, devices, on_one_device
):
    chosen = jax.devices()[:devices]
    found = jinit.sweep(trained, KEY, 10, batch_size=batch_size, devices=chosen)
    wanted = on_one_device
    assert found["losses"].shape == (10, 3)
    assert np.array_equal(found["drawn"], wanted["drawn"])
    assert np.allclose(found["losses"], wanted["losses"], rtol=1e-5)
    shorter = jinit.sweep(trained, KEY, 4, batch_size=batch_size, devices=chosen)
    assert np.array_equal(shorter["drawn"], found["drawn"][:4])


def test_a_mesh_is_used_whole():
    mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("a", "b"))
    found = jinit.sweep(trained, KEY, 16, devices=mesh)
    assert len(found["drawn"].sharding.device_set) == 8
    # With fewer seeds than devices the others stay idle.
    legacy = jinit.sweep(trained, jax.random.PRNGKey(3), 2, devices=mesh)
    assert len(legacy["drawn"].sharding.device_set) == 2
    assert legacy["key"].shape == (2, 2)


def test_all_chunks_and_later_sweeps_run_one_program():
    traces = []

    def counted(key):
        traces.append(key)
        return jax.random.normal(key)

    one = jax.devices()[:1]
    jinit.sweep(counted, KEY, 10, batch_size=4, devices=one)
    assert len(traces) == 1
    jinit.sweep(counted, KEY, 8, batch_size=4, devices=one)
    assert len(traces) == 1


def test_chunks_are_what_memory_holds(monkeypatch):
    sizes = []

    def wide(key):
        return jax.random.normal(key, (1000,)).sum()

    programs = _sweep._programs(wide, tuple(jax.devices()[:1]))
    needed = programs.bytes(100, KEY)
    assert needed > 0
    for free in (100 * needed, needed, needed / 10, 1):
        monkeypatch.setattr(_sweep, "_memory", lambda free=free: free)
        sizes.append(_sweep._size(programs, KEY, 100, None))
    assert sizes == [100, 50, 5, 1]
    monkeypatch.undo()
    assert _sweep._memory() > 2**20


@pytest.mark.parametrize(
    ("devices", "batch_size", "size"),
    # 4, 4, 2 of 4 in the first, and not 6 and 4 of 6 in the second.
    [(1, 4, 4), (1, 6, 5), (8, 4, 8), (3, 64, 12)],
)
def test_chunks_are_of_one_size_and_spread_evenly(devices, batch_size, size):
    programs = _sweep._programs(trained, tuple(jax.devices()[:devices]))
    assert _sweep._size(programs, KEY, 10, batch_size) == size


def test_a_sweep_that_fits_into_memory_is_one_call(monkeypatch):
    calls = []
    whole = _sweep._Programs.whole

    def counted(programs, num):
        calls.append(num)
        return whole(programs, num)

    def drawn(key):
        return jax.random.normal(key)

    jinit.sweep(drawn, KEY, 6)
    monkeypatch.setattr(_sweep._Programs, "whole", counted)
    # Nothing else may run for each sweep: a split, a slice, an analysis of the memory.
    monkeypatch.setattr(jax.random, "split", None)
    monkeypatch.setattr(jax.stages.Compiled, "memory_analysis", None)
    found = jinit.sweep(drawn, KEY, 6)
    monkeypatch.undo()
    assert calls == [6]
    wanted = jax.vmap(drawn)(jax.random.split(KEY, 6))
    assert np.array_equal(found, wanted)


def test_inside_a_jit():
    def drawn(key):
        return jax.random.normal(key)

    found = jax.jit(lambda key: jinit.sweep(drawn, key, 6))(KEY)
    assert np.array_equal(found, jax.vmap(drawn)(jax.random.split(KEY, 6)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: jinit.sweep(3, KEY, 2), TypeError, "`fn` is 3"),
        (lambda: jinit.sweep(trained, 3, 2), TypeError, "`key` is 3"),
        (lambda: jinit.sweep(trained, KEY, 0), ValueError, "`num` is 0"),
        (lambda: jinit.sweep(trained, KEY, 2.5), TypeError, "`num` is 2.5"),
        (
            lambda: jinit.sweep(trained, KEY, 2, batch_size=0),
            ValueError,
            "`batch_size`",
        ),
        (lambda: jinit.sweep(trained, KEY, 2, devices=[]), ValueError, "`devices`"),
        (lambda: jinit.sweep(trained, KEY, 2, devices="cpu"), ValueError, "`devices`"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_sweep_follows_what_its_function_closes_over(monkeypatch):
    table = np.ones(2, np.float32)

    def drawn(key):
        return jax.random.uniform(key) * jnp.asarray(table).sum() * SCALE

    def sums():
        return float(jnp.sum(jinit.sweep(drawn, KEY, 3)))

    first = sums()
    assert sums() == first
    table[1] = 3
    np.testing.assert_allclose(sums(), 2 * first, rtol=1e-6)
    monkeypatch.setitem(globals(), "SCALE", 10.0)
    np.testing.assert_allclose(sums(), 20 * first, rtol=1e-6)
    table[1] = 1
    monkeypatch.undo()
    assert sums() == first


SCALE = 1.0


def test_a_later_sweep_reads_its_function_no_second_time(monkeypatch):
    def drawn(key):
        return jax.random.normal(key)

    jinit.sweep(drawn, KEY, 3)
    # To make a key of the function takes as long as a small sweep.
    monkeypatch.setattr(_sweep, "identity", None)
    jinit.sweep(drawn, KEY, 3)
