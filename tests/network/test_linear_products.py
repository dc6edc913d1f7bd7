"""The equation of a product, evaluated again, splits the change of its output."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jinit
from jinit._network.linear_products import linear_products, operator_norm, parts_of
from jinit._network.taps import Tapped, recorded, tapped

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(5)
X = jax.random.normal(KEY, (6, 8))
IMAGES = jax.random.normal(KEY, (2, 6, 6, 3))
GROUPS = jnp.array([1, 3, 2])


def normal(number, *shape):
    return jax.random.normal(jax.random.fold_in(KEY, number), shape)


def stack(p, x):
    def step(x, w):
        return jnp.tanh(x @ w), None

    return jax.lax.scan(step, jnp.tanh(x @ p["in"]), p["layers"])[0]


def experts(p, x):
    up = jax.nn.relu(jnp.einsum("td,efd->tef", jnp.tanh(x @ p["in"]), p["up"]))
    return jnp.einsum("tef,edf->td", up, p["down"])


def ragged(p, x):
    return jax.lax.ragged_dot(jnp.tanh(x @ p["in"]), p["experts"], GROUPS)


SQUARE = {"in": normal(0, 8, 8)}
FUNCTIONS = {
    "dense": (lambda p, x: jnp.tanh(x @ p["in"]) @ p["out"].T,
              SQUARE | {"out": normal(1, 4, 8)}, X, 2),
    "stack": (stack, SQUARE | {"layers": normal(2, 3, 8, 8) / 3}, X, 2),
    "experts": (experts,
                SQUARE | {"up": normal(3, 3, 5, 8), "down": normal(4, 3, 8, 5)}, X, 3),
    "ragged": (ragged, SQUARE | {"experts": normal(5, 3, 8, 4)}, X, 2),
}  # fmt: skip


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3))(x))
        x = nn.relu(nn.Conv(4, (3, 3), strides=2, feature_group_count=2)(x))
        return nn.Dense(2)(x.reshape(x.shape[0], -1))


def linen():
    variables = Net().init(KEY, IMAGES)
    return lambda v: jinit.network(Net(), v, IMAGES), variables, 3


def in_nnx():
    model = nnx.Sequential(nnx.Linear(8, 6, rngs=nnx.Rngs(0)), jnp.tanh,
                           nnx.Linear(6, 4, rngs=nnx.Rngs(1)))  # fmt: skip
    net = jinit.network(model, X)
    return net.replace, net.params, 2


def function(name):
    model, params, x, count = FUNCTIONS[name]
    return lambda p: jinit.network(model, p, x), params, count


CASES = {
    "linen": linen,
    "nnx": in_nnx,
    **{n: lambda n=n: function(n) for n in FUNCTIONS},
}


def run(net):
    """Return the products, the values of their operands, and the layers' outputs."""
    values, numbers = tapped(net, lambda tap: tap.kind == "layer")
    products = linear_products(net)
    operands = [tap for product in products for tap in product.operands]
    taps = Tapped(values.trace, (*values.taps, *operands))
    zeros = [jnp.zeros(tap.shape, tap.dtype) for tap in values.taps]
    arguments = net.params, net.inputs
    perturbations = [*zeros, *[()] * len(operands)]
    _, records = taps.run(taps.trace.consts, arguments, perturbations, recorded)
    named, rest = records[: len(zeros)], records[len(zeros) :]
    outputs = [named[numbers[product.output]] for product in products]
    each = [product.named([rest.pop(0) for _ in product.operands])
            for product in products]  # fmt: skip
    return products, each, outputs


def with_biases_of(tree, other):
    """Return a tree with the biases of another, so that outputs differ by products."""
    return jax.tree.map(lambda a, b: b if a.ndim == 1 else a, tree, other)


@pytest.mark.parametrize("name", CASES)
def test_the_two_parts_are_the_change(name):
    make, params, count = CASES[name]()
    moved = jax.tree.map(lambda w: w + 0.1 * normal(w.size, *w.shape), params)
    moved = with_biases_of(moved, params)
    products, before, first = run(make(params))
    _, after, last = run(make(moved))
    assert len(products) == count
    for product, one, other, start, end in zip(
        products, before, after, first, last, strict=True
    ):

        def parts(one, other, product=product):
            return parts_of(product.evaluate, one, other)

        for _ in range(product.scans):
            parts = jax.vmap(parts)
        split = parts(one, other)
        size = float(jnp.max(jnp.abs(end))) * one.kernel.size
        atol = 8 * np.finfo(np.float32).eps * size
        np.testing.assert_allclose(sum(split), end - start, atol=atol)
        assert float(jnp.max(jnp.abs(split.effective))) > 100 * atol / size


def test_each_part_is_its_formula():
    make, params, _ = function("dense")
    moved = jax.tree.map(lambda w: w + 0.1, params)
    products, before, _ = run(make(params))
    _, after, _ = run(make(moved))
    x, y = (jnp.tanh(X @ p["in"]) for p in (params, moved))
    parts = parts_of(products[1].evaluate, before[1], after[1])
    close = {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(parts.effective, y @ (0.1 * jnp.ones((8, 4))), **close)
    np.testing.assert_allclose(parts.propagated, (y - x) @ params["out"].T, **close)


def test_a_small_update_is_not_lost_in_large_outputs():
    """By outputs alone a part of 1e-7 of them would be rounding."""
    make, params, _ = function("dense")
    moved = {**params, "out": params["out"] + 1e-6 * jnp.sign(params["out"])}
    products, before, _ = run(make(params))
    _, after, _ = run(make(moved))
    parts = parts_of(products[1].evaluate, before[1], after[1])
    wide = np.asarray(moved["out"], np.float64) - np.asarray(params["out"], np.float64)
    exact = np.asarray(after[1].input, np.float64) @ wide.T
    np.testing.assert_allclose(parts.effective, exact, rtol=1e-4, atol=1e-10)


def test_a_kernel_that_data_choose_has_no_parts():
    def chosen(p, x):
        kernels = p["experts"][jnp.argmax(x @ p["router"], -1)]
        return jnp.einsum("td,tdf->tf", x, kernels)

    params = {"router": normal(6, 8, 3), "experts": normal(7, 3, 8, 5)}
    net = jinit.network(chosen, params, X)
    assert [product.weight for product in linear_products(net)] == ["router"]


def test_the_norm_of_a_kernel_is_its_largest_singular_value():
    kernels = normal(8, 3, 8, 5)
    exact = np.linalg.svd(kernels, compute_uv=False)[:, 0]
    one = operator_norm(lambda x: x @ kernels[0], X, rounds=60)
    assert float(one) == pytest.approx(exact[0], rel=1e-4)
    inputs = normal(9, 3, 4, 8)
    whole = operator_norm(lambda x: jnp.einsum("etd,edf->etf", x, kernels), inputs, 60)
    assert float(whole) == pytest.approx(exact.max(), rel=1e-4)
    zero = operator_norm(lambda x: x @ (0 * kernels[0]), X)
    assert float(zero) == 0
