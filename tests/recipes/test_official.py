"""Every law of every recipe against the official code, by the table of the site."""

import functools

import jax
import numpy as np
import pytest
from scipy import stats

from jinit import recipes
from jinit.recipes._recipe import RECIPES
from tests.support import laws
from tests.support.official.facts import law_of
from tests.support.official.networks import PROOFS, leaves
from tests.support.repository import ROOT

# A draw of a few numbers takes less time than its compilation.
pytestmark = pytest.mark.usefixtures("quick_compilation")
CASES = [
    (name, number)
    for name, proof in PROOFS.items()
    for number, fact in enumerate(proof.facts)
    if fact.path
]


def scipy_law(law):
    if law.family == "normal":
        return laws.normal(*law.numbers)
    if law.family == "uniform":
        return laws.uniform(*law.numbers)
    std, cut = law.numbers
    return stats.truncnorm(-cut / std, cut / std, scale=std)


@functools.cache
def drawn(name, path):
    leaf, _ = leaves(name)[path]
    with jax.numpy_rank_promotion("allow"):
        return np.asarray(leaf.init(jax.random.key(5), leaf.value.shape), np.float64)


@pytest.mark.parametrize("name, number", CASES)
def test_a_role_has_the_law_of_the_official_code(name, number):
    proof = PROOFS[name]
    fact = proof.facts[number]
    law, (_, std) = law_of(fact, proof.sizes), leaves(name)[fact.path]
    if law.family == "exact":
        # Another test, which the table names, compares the values.
        return
    # JAX and PyTorch round numbers such as the std of a truncated law.
    assert std == pytest.approx(law.std, rel=1e-6)
    x = drawn(name, fact.path)
    if law.family == "constant":
        np.testing.assert_allclose(x, law.numbers[0], rtol=1e-6)
    elif not fact.std_only:
        laws.assert_law(x, scipy_law(law))
    if law.std:
        # The bound on the std, five standard errors of a normal law.
        error = 5 * (0.5 / x.size) ** 0.5
        assert abs(np.sqrt(np.mean(x**2)) / law.std - 1) < error or x.size < 50


@pytest.mark.parametrize("name", recipes.names())
def test_every_law_of_a_recipe_has_a_fact(name):
    proof, entry = PROOFS[name], RECIPES[name]
    recipe = recipes.get(name, **proof.settings)
    assert [f.role for f in proof.facts] == [law.role for law in recipe.laws]
    for fact in proof.facts:
        source, _, lines = fact.place.partition(":")
        assert not source or 1 <= int(source) <= len(entry.sources)
        if lines:
            # Lines are those of a file; a paper has none.
            assert isinstance(entry.sources[int(source) - 1], recipes.Source)
            first, _, last = lines.partition("-")
            assert int(first) <= int(last or first)
        assert fact.path or law_of(fact, proof.sizes)


@pytest.mark.parametrize(
    "test", sorted({test for proof in PROOFS.values() for test in proof.tests})
)
def test_a_test_that_the_table_names_is_there(test):
    file, _, function = test.partition("::")
    assert f"\ndef {function}(" in (ROOT / file).read_text()


def test_a_wrong_formula_fails():
    proof = PROOFS["llama3"]
    fact = proof.facts[0]
    right, wrong = (
        law_of(fact, proof.sizes),
        law_of(fact._replace(sizes={"l": 0}), proof.sizes),
    )
    x = drawn("llama3", fact.path)
    laws.assert_law(x, scipy_law(right))
    with pytest.raises(AssertionError):
        laws.assert_law(x, scipy_law(wrong))
