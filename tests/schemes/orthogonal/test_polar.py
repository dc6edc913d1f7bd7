"""method="polar": Haar matrices by matrix products, cut over the devices."""

import re

import jax
import jax.nn.initializers as jax_initializers
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jinit
from jinit._schemes.orthogonal import polar
from tests.support.matrices import orthogonality_error
from tests.support.meshes import COLLECTIVES, make_mesh
from tests.support.split import slow_unless

POLAR = jinit.orthogonal(method="polar")


def factor_by_svd(key, rows, columns):
    x = np.asarray(jinit.random.normal(key, (rows, columns)), np.float64)
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    return u @ vt, s[0] / s[-1]


@pytest.mark.parametrize("rows, columns", [(1, 1), (5, 1), (7, 7), (60, 60), (300, 50)])
def test_it_is_the_polar_factor_of_the_gaussian_matrix(rows, columns, key):
    expected, condition = factor_by_svd(key, rows, columns)
    q = POLAR(key, (rows, columns))
    # Rounding is amplified by how near to singular the matrix is.
    np.testing.assert_allclose(q, expected, atol=1e-6 + 3e-7 * condition)
    assert orthogonality_error(q) < 2e-6


def test_nearly_as_exact_as_jax(key):
    """Products round more than reflections do: up to three times JAX's error."""
    for shape in ((256, 256), (64, 512), (512, 500)):
        theirs = orthogonality_error(jax_initializers.orthogonal()(key, shape))
        assert orthogonality_error(POLAR(key, shape)) <= 3 * theirs


@pytest.mark.parametrize("seed", range(20))
def test_orthogonal_however_near_to_singular(seed):
    # Of 2 x 2 matrices one in a hundred has a least singular value below 0.01.
    keys = jax.random.split(jax.random.key(seed), 500)
    q = np.asarray(jax.vmap(lambda k: POLAR(k, (2, 2)))(keys))
    assert abs(q.mT @ q - np.eye(2)).max() < 2e-6


def test_float64_and_complex(key, x64):
    assert orthogonality_error(POLAR(key, (40, 30), "float64")) < 1e-14
    q = np.asarray(POLAR(key, (40, 40), "complex128"))
    assert abs(q.conj().T @ q - np.eye(40)).max() < 1e-14


@pytest.mark.parametrize("shape", [(40, 40), (1000, 10), (4096, 4096), (4096, 2048)])
def test_the_schedule_takes_every_singular_value_to_one(shape):
    steps = polar.schedule(*shape, np.dtype("float32"))
    low = (np.sqrt(shape[0]) - np.sqrt(shape[1]) - 8) / polar._bound(*shape)
    x = np.geomspace(max(low, 1e-9), 1, 10_000)
    for scale in steps:
        x = scale * x * (3 - scale**2 * x**2) / 2
    assert abs(x - 1).max() < 1e-6
    # Without the scales it takes many more steps.
    y = np.geomspace(1e-9, 1, 100)
    for _ in steps:
        y = y * (3 - y * y) / 2
    assert shape == (1000, 10) or abs(y - 1).max() > 0.1


MESHES = [((8,), P("x")), ((2, 4), P("x", "y")), ((4, 2), P("y", "x")), ((3,), P())]


ON_MESHES = [
    (shape, *mesh, kind)
    for shape in [(48, 16), (16, 48), (16, 16)]
    for mesh in MESHES
    for kind in (AxisType.Auto, AxisType.Explicit)
]
# Each shape twice, each mesh at least once, each kind of axes three times.
SOME = [ON_MESHES[index] for index in (0, 3, 10, 13, 17, 22)]


@pytest.mark.parametrize("shape, sizes, spec, kind", slow_unless(SOME, ON_MESHES))
def test_equal_on_every_mesh(shape, sizes, spec, kind, key):
    sharding = NamedSharding(make_mesh(sizes, kind), spec)
    q = POLAR(key, shape, None, sharding)
    assert q.sharding.is_equivalent_to(sharding, 2)
    _, condition = factor_by_svd(key, max(shape), min(shape))
    atol = 1e-6 + 3e-7 * condition
    np.testing.assert_allclose(q, POLAR(key, shape), atol=atol)
    assert orthogonality_error(q) < 2e-6


def test_in_the_mesh_of_the_context(key):
    for kind in (AxisType.Auto, AxisType.Explicit):
        with jax.set_mesh(make_mesh((2, 4), kind)):
            q = POLAR(key, (48, 16), None, P("x", "y"))
            traced = jax.jit(lambda k: POLAR(k, (48, 16), None, P("x", "y")))(key)
        assert q.sharding.spec == traced.sharding.spec == P("x", "y")
        np.testing.assert_allclose(q, POLAR(key, (48, 16)), atol=2e-6)
        np.testing.assert_allclose(traced, q, atol=2e-6)


def program(init, key, size, spec):
    sharding = NamedSharding(make_mesh((2, 4)), spec)
    draw = jax.jit(lambda k: init(k, (size, size), None, sharding))
    return draw.lower(key).compile()


@pytest.mark.parametrize("spec", [P("x", "y"), P(("x", "y"), None)])
def test_no_device_holds_the_whole(spec, key):
    size = 256
    run = program(POLAR, key, size, spec)
    whole = 4 * size * size
    assert run.memory_analysis().temp_size_in_bytes < whole
    text = run.as_text()
    assert "collective-permute" in text
    # No array of the program is the whole matrix.
    assert not re.search(rf"f32\[(1,)?{size},{size}\]", text)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("spec", [P(None, "y"), P("x")])
def test_an_axis_that_the_sharding_leaves_out(spec, kind, key):
    """The matrix is cut along all axes first, and gathered along those left out."""
    size = 256
    mesh = make_mesh((2, 4), kind)
    sharding = NamedSharding(mesh, spec)
    run = jax.jit(lambda k: POLAR(k, (size, size), None, sharding)).lower(key).compile()
    text = run.as_text()
    sizes = {
        np.prod([int(d) for d in dimensions.split(",")])
        for dimensions in re.findall(r"f32\[([\d,]+)\]", text)
    }
    part = size * size // mesh.shape[next(filter(None, spec))]
    # The ring also adds up an eighth of X'X, so nothing is larger than the result.
    assert max(sizes) == part
    assert run.memory_analysis().temp_size_in_bytes < 4 * size * size
    q = POLAR(key, (size, size), None, sharding)
    assert q.sharding.is_equivalent_to(sharding, 2)
    np.testing.assert_allclose(q, POLAR(key, (size, size)), atol=1e-3)
    assert orthogonality_error(q) < 4e-6


def test_reflections_are_computed_whole_on_each_device(key):
    """As the docstring says of other methods; and the test above can fail."""
    run = program(jinit.orthogonal(), key, 256, P("x", "y"))
    assert run.memory_analysis().temp_size_in_bytes > 4 * 256 * 256
    # Nothing is sent, so the order of no sum depends on the mesh, and no bit does.
    assert not COLLECTIVES.search(run.as_text())
    np.testing.assert_array_equal(run(key), jinit.orthogonal()(key, (256, 256)))


def test_copies_are_sharded_too(key):
    init = jinit.orthogonal(method="polar", layout="bio")
    sharding = NamedSharding(make_mesh((2, 4)), P(None, "x", "y"))
    q = init(key, (3, 48, 16), None, sharding)
    np.testing.assert_allclose(q, init(key, (3, 48, 16)), atol=2e-6)
    for matrix in q:
        assert orthogonality_error(matrix) < 2e-6
