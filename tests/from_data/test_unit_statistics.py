"""`data_dependent`: every unit has mean 0 and std 1 on the batch."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from tests.support.classification import KEY, X, call, mlp, outputs
from tests.support.trees import same

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_every_unit_has_mean_0_and_std_1_on_the_batch():
    model = mlp()
    variables = model.init(KEY, X)
    new, history = jinit.data_dependent(model, variables, X)
    for y in outputs(model, new).values():
        assert np.abs(y.mean(0)).max() < 1e-3 and np.abs(y.std(0) - 1).max() < 1e-3
    assert history.steps == 2
    again, history = jinit.data_dependent(model, new, X)
    assert same(new, again) and history.steps == 1
    assert (
        max(np.abs(y.std(0) - 1).max() for y in outputs(model, variables).values())
        > 0.2
    )


def test_convolutions_stacks_and_layers_without_biases():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(6, (3, 3), use_bias=False)(x)).mean((1, 2))
            scan = nn.scan(
                lambda layer, x, _: (nn.relu(layer(x)), None),
                variable_axes={"params": 0}, split_rngs={"params": True}, length=3,
            )  # fmt: skip
            x, _ = scan(nn.Dense(6, name="stack"), x, None)
            return nn.DenseGeneral((2, 3), name="head")(x)

    x = 1 + jax.random.normal(KEY, (64, 5, 5, 2))
    new, history = jinit.data_dependent(Net(), Net().init(KEY, x), x)
    found = outputs(Net(), new, x)
    conv, head = found["Conv_0"], found["head"]
    assert np.abs(conv.std((0, 1, 2)) - 1).max() < 1e-3
    assert np.abs(conv.mean((0, 1, 2))).max() > 0.05  # It has nothing to shift.
    assert np.abs(head.std(0) - 1).max() < 1e-3 and np.abs(head.mean(0)).max() < 1e-3
    last = [row for row in history.rows if row["step"] == history.steps]
    assert [row["path"] for row in last] == [
        "Conv_0", "stack[0]", "stack[1]", "stack[2]", "head",
    ]  # fmt: skip
    assert all(row["least_std"] == pytest.approx(1, abs=0.01) for row in last)


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (
            lambda: call("data_dependent", mlp(jinit.constant(0.0))),
            ValueError,
            "Dense_0 cannot be scaled",
        ),
        (lambda: call("data_dependent", x=X[:1]), ValueError, "does not vary"),
        (lambda: call("data_dependent", x=X * jnp.nan), ValueError, "not finite"),
        (lambda: call("data_dependent", balance=1), TypeError, "`balance`"),
        (
            lambda: call("data_dependent", loss=lambda y: 0 * y.sum()),
            ValueError,
            "gradient of Dense_0 is 0",
        ),
    ],
)  # fmt: skip
def test_errors(run, error, message):
    with pytest.raises(error, match=message):
        run()
