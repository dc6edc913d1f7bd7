"""Biases from a prior: the classifier's first outputs are the prior."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jinit

KEY = jax.random.key(5)


def test_a_prior_is_what_the_classifier_starts_with():
    prior = np.array([0.9, 0.09, 0.01])
    sigmoid = jinit.constant_bias_from_prior(prior)(KEY, (3,))
    np.testing.assert_allclose(jax.nn.sigmoid(sigmoid), prior, rtol=1e-5)
    softmax = jinit.constant_bias_from_prior(prior, "softmax")(KEY, (3,))
    np.testing.assert_allclose(jax.nn.softmax(softmax), prior, rtol=1e-5)
    # The first loss is the entropy of the prior.
    loss = -float(jnp.asarray(prior) @ jax.nn.log_softmax(softmax))
    assert loss == pytest.approx(stats.entropy(prior), rel=1e-5)
    for wrong in (0.0, 1.0, [0.5, 1.5], -1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            jinit.constant_bias_from_prior(wrong)
    with pytest.raises(ValueError, match="add up to 1"):
        jinit.constant_bias_from_prior([0.5, 0.3], "softmax")
    with pytest.raises(ValueError, match="broadcast"):
        jinit.constant_bias_from_prior(prior)(KEY, (4,))


@pytest.mark.parametrize("prior", ["rare", 0.5 + 1j])
def test_a_prior_is_of_real_numbers(prior):
    with pytest.raises(TypeError, match="`prior` is"):
        jinit.constant_bias_from_prior(prior)
