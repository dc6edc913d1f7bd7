"""`whiten_first_layer`: the first layer whitens vectors and patches."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jinit
from tests.support.classification import KEY, X, call, mlp
from tests.support.trees import same

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_the_first_layer_whitens_vectors_and_patches():
    mixing = jax.random.normal(KEY, (12, 12))
    x = X @ mixing
    model = mlp(widths=(28, 4))
    variables = model.init(KEY, x)
    new, history = jinit.whiten_first_layer(model, variables, x, eps=0.0)
    layer = new["params"]["Dense_0"]
    y = np.asarray(x @ layer["kernel"])
    assert np.allclose(y[:, :12].T @ y[:, :12] / 64, np.eye(12), atol=2e-3)
    assert np.allclose(y[:, 12:24], -y[:, :12], atol=1e-4)
    old = variables["params"]
    chex.assert_trees_all_equal(
        layer["kernel"][:, 24:], old["Dense_0"]["kernel"][:, 24:]
    )
    assert same(new["params"]["Dense_1"], old["Dense_1"]) and not layer["bias"].any()
    chex.assert_trees_all_equal(
        new, jinit.whiten_first_layer(model, new, x, eps=0.0)[0]
    )
    assert len(history.rows) == 12

    class Image(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Conv(24, (2, 2), padding="VALID")(x - 0.5)

    images = jax.random.uniform(KEY, (40, 8, 8, 3))
    net = nn.Sequential([Image()])
    new, _ = jinit.whiten_first_layer(net, net.init(KEY, images), images)
    y = np.asarray(net.apply(new, images)).reshape(-1, 24)[:, :12]
    # Up to eps = 5e-4 beside eigenvalues of about 1/12.
    assert np.allclose(y.T @ y / len(y), np.eye(12), atol=0.02)


UP = nn.Sequential([nn.ConvTranspose(4, (2, 2), strides=(2, 2))])
IMAGES = jnp.zeros((2, 4, 4, 1))


class Dilated(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = jnp.broadcast_to(x[:, :, None, None], (*x.shape, 12, 1))
        return nn.Conv(4, (2, 2), kernel_dilation=2)(x)


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda: call("whiten_first_layer", x=X[:5]), ValueError, "at least 12"),
        (lambda: call("whiten_first_layer", eps=-1), ValueError, "`eps`"),
        (lambda: call("whiten_first_layer", x=X * jnp.nan), ValueError, "not finite"),
        (lambda: call("whiten_first_layer", Dilated()), ValueError, "without dilation"),
        (
            lambda: jinit.whiten_first_layer(UP, UP.init(KEY, IMAGES), IMAGES),
            ValueError,
            "not transposed",
        ),
    ],
)  # fmt: skip
def test_errors(run, error, message):
    with pytest.raises(error, match=message):
        run()
