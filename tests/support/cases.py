"""Each scheme of the registry is made once here, for the tests that run over all."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jinit
from tests.support import laws


def two_axes(shape):
    return len(shape) >= 2


def window_axes(shape):
    return len(shape) in (3, 4, 5)


class Case(NamedTuple):
    """A case holds an initializer, and the parts of the contract that apply to it."""

    init: jinit.Initializer
    # A small shape that the initializer takes, and a test of other shapes.
    shape: tuple[int, ...] = (6, 10)
    takes: Callable[[tuple[int, ...]], bool] = lambda shape: True
    # A mesh of 2 x 4 devices divides the last two axes, as `sharded_over` says.
    sharded_shape: tuple[int, ...] = (16, 24)
    sharded_over: tuple[str | None, ...] = ("x", "y")
    # The entries do not depend on the key.
    constant: bool = False
    # A complex dtype gets complex values.
    complex: bool = True
    # The initializer draws in float32, whatever dtype is asked for.
    single: bool = False
    # law(std) returns scipy's law of the entries, if all entries have the same law.
    law: Callable[[float], Any] | None = None
    # Eager, jitted, vmapped and sharded draws agree to this. Elementwise draws agree to
    # the bit; matrix products may round differently.
    atol: float = 0.0


def _symmetric(std: float) -> Any:
    return laws.uniform(-std * 3**0.5, std * 3**0.5)


CASES: dict[str, Case] = {
    "xavier": Case(jinit.xavier(), takes=two_axes, law=laws.normal),
    "he": Case(jinit.he(), takes=two_axes, law=laws.normal),
    "kaiming": Case(jinit.kaiming(), takes=two_axes, law=laws.normal),
    "lecun": Case(jinit.lecun(), takes=two_axes, law=laws.normal),
    "variance_scaling": Case(
        jinit.variance_scaling(3.0, "fan_avg", "normal"),
        takes=two_axes,
        law=laws.normal,
    ),
    "glorot_uniform": Case(jinit.glorot_uniform(), takes=two_axes, law=_symmetric),
    "glorot_normal": Case(jinit.glorot_normal(), takes=two_axes, law=laws.truncated),
    "lecun_uniform": Case(jinit.lecun_uniform(), takes=two_axes, law=_symmetric),
    "lecun_normal": Case(jinit.lecun_normal(), takes=two_axes, law=laws.truncated),
    "he_uniform": Case(jinit.he_uniform(), takes=two_axes, law=_symmetric),
    "he_normal": Case(jinit.he_normal(), takes=two_axes, law=laws.truncated),
    "orthogonal": Case(jinit.orthogonal(), takes=two_axes, atol=1e-6),
    "delta_orthogonal": Case(
        jinit.delta_orthogonal(),
        shape=(3, 3, 4, 8),
        takes=window_axes,
        sharded_shape=(3, 8, 16, 24),
        atol=1e-6,
    ),
    "normal": Case(jinit.normal(), law=laws.normal),
    "truncated_normal": Case(
        jinit.truncated_normal(), complex=False, law=laws.truncated
    ),
    "uniform": Case(
        jinit.uniform(), complex=False, law=lambda s: laws.uniform(0, s * 12**0.5)
    ),
    "constant": Case(jinit.constant(0.25), constant=True),
    "zeros": Case(jinit.zeros, constant=True),
    "ones": Case(jinit.ones, constant=True),
    "stacked": Case(
        jinit.stacked(jinit.he()),
        shape=(3, 6, 10),
        takes=lambda shape: len(shape) >= 3,
        sharded_shape=(8, 16, 24),
    ),
    "depth_scaled": Case(
        jinit.depth_scaled(jinit.he()),
        shape=(3, 6, 10),
        takes=lambda shape: len(shape) >= 3,
        sharded_shape=(8, 16, 24),
    ),
    "blocks": Case(
        jinit.blocks((jinit.xavier(), 2)),
        shape=(6, 14),
        takes=lambda shape: len(shape) >= 2 and shape[-1] % 2 == 0,
        sharded_shape=(16, 32),
    ),
    "scaled": Case(jinit.scaled(jinit.he(), 0.5), takes=two_axes, law=laws.normal),
    "masked": Case(
        jinit.masked([[True], [False]] * 3, jinit.normal(), jinit.ones),
        takes=lambda shape: shape[-2:-1] == (6,),
        sharded_shape=(6, 24),
    ),
    "padded": Case(
        jinit.padded(jinit.he(), ((1, 0), (2, 2))),
        takes=lambda shape: len(shape) == 2 and shape[0] >= 1 and shape[1] >= 4,
    ),
    "concat": Case(
        jinit.concat([jinit.xavier(), jinit.normal()], 0, sizes=(4, 2)),
        takes=lambda shape: len(shape) >= 2 and shape[0] == 6,
        sharded_shape=(6, 24),
    ),
    "transposed": Case(jinit.transposed(jinit.he()), takes=two_axes, law=laws.normal),
    "with_dtype": Case(
        jinit.with_dtype(jinit.he(), "float32"),
        takes=two_axes,
        complex=False,
        single=True,
        law=laws.normal,
    ),
    "from_array": Case(
        jinit.from_array([[0.5] * 12] * 6),
        shape=(6, 12),
        takes=lambda shape: shape == (6, 12),
        sharded_shape=(6, 12),
        constant=True,
    ),
    "torch_layout": Case(
        jinit.torch_layout(jinit.he()),
        takes=two_axes,
        law=laws.normal,
    ),
    "orthogonal[polar]": Case(
        jinit.orthogonal(2.0, method="polar"), takes=two_axes, atol=1e-5
    ),
    "orthogonal[layout]": Case(
        jinit.orthogonal(layout="bio"),
        shape=(3, 6, 10),
        takes=lambda shape: len(shape) == 3,
        sharded_shape=(3, 16, 24),
        atol=1e-6,
    ),
    "scaled_orthogonal": Case(jinit.scaled_orthogonal(), takes=two_axes, atol=1e-6),
    "looks_linear": Case(
        jinit.looks_linear(),
        takes=lambda shape: len(shape) >= 2 and not any(d % 2 for d in shape[-2:]),
        atol=1e-6,
    ),
    "identity": Case(
        jinit.identity(), takes=lambda shape: len(shape) in (2, 3), constant=True
    ),
    "dirac": Case(
        jinit.dirac(),
        shape=(3, 3, 4, 8),
        takes=lambda shape: shape in ((3, 6, 10),),
        sharded_shape=(3, 3, 16, 24),
        constant=True,
    ),
    "sparse": Case(jinit.sparse(0.5), takes=two_axes),
    "hadamard": Case(
        jinit.hadamard(), (8, 8), lambda shape: shape == (0, 0), (16, 16), constant=True
    ),
    "zero_hadamard": Case(
        jinit.zero_hadamard(),
        takes=lambda shape: len(shape) == 2 or shape == (3, 6, 10),
        constant=True,
    ),
    "embedding": Case(jinit.embedding(), takes=two_axes, law=laws.normal),
    "embedding[padding]": Case(jinit.embedding(padding_row=0), takes=two_axes),
    "scaled_uniform": Case(jinit.scaled_uniform(), takes=two_axes, law=_symmetric),
    "constant_bias_from_prior": Case(
        jinit.constant_bias_from_prior(0.01), constant=True
    ),
    "siren": Case(jinit.siren(), takes=two_axes, law=_symmetric),
    "siren[first]": Case(jinit.siren(first=True), takes=two_axes),
    "fourier_features": Case(jinit.fourier_features(), law=laws.normal),
    "icnr": Case(
        jinit.icnr(jinit.he(), 2),
        shape=(3, 3, 6, 8),
        takes=lambda shape: len(shape) == 3 and shape[-1] % 2 == 0,
        sharded_shape=(3, 3, 8, 32),
    ),
    "bilinear": Case(
        jinit.bilinear(),
        shape=(4, 4, 3, 3),
        takes=lambda shape: False,
        sharded_shape=(4, 4, 16, 16),
        constant=True,
    ),
    "stft": Case(
        jinit.stft(),
        shape=(8, 1, 5),
        takes=lambda shape: False,
        sharded_shape=(16, 1, 24),
        sharded_over=(None, "y"),
        constant=True,
        complex=False,
        atol=1e-6,
    ),
    "recurrent.identity": Case(
        jinit.recurrent.identity(),
        shape=(6, 6),
        takes=lambda shape: shape == (0, 0),
        sharded_shape=(16, 16),
        constant=True,
    ),
    "recurrent.unit_forget_bias": Case(
        jinit.recurrent.unit_forget_bias(),
        shape=(8,),
        takes=lambda shape: shape[-1:] in ((4,), (0,)),
        sharded_shape=(16, 16),
        constant=True,
        complex=False,
    ),
    "recurrent.chrono": Case(
        jinit.recurrent.chrono(20.0),
        shape=(8,),
        takes=lambda shape: shape[-1:] in ((4,), (0,)),
        sharded_shape=(16, 16),
        complex=False,
    ),
    "ssm.hippo_legs": Case(
        jinit.ssm.hippo_legs(),
        shape=(6, 6),
        takes=lambda shape: False,
        sharded_shape=(16, 16),
        constant=True,
    ),
    "ssm.mamba_a_log": Case(
        jinit.ssm.mamba_a_log(),
        takes=bool,
        constant=True,
        complex=False,
        # XLA's logarithm depends on the length of the vector, by one ulp.
        atol=1e-6,
    ),
    "ssm.mamba_dt_bias": Case(jinit.ssm.mamba_dt_bias(), complex=False),
    "ssm.s4d_real": Case(jinit.ssm.s4d_real(), takes=bool, constant=True),
    **{
        f"ssm.s4d_{name}": Case(
            getattr(jinit.ssm, f"s4d_{name}")("imag"),
            takes=bool,
            constant=True,
            complex=False,
        )
        for name in ("lin", "inv", "legs")
    },
    **{
        f"ssm.lru_ring[{part}]": Case(
            jinit.ssm.lru_ring(0.5, 0.9, part=part), complex=False
        )
        for part in ("nu", "theta", "gamma")
    },
    "small_init": Case(jinit.small_init(), takes=two_axes, law=laws.normal),
    "wang_init": Case(jinit.wang_init(12), takes=two_axes),
    "moe_router": Case(jinit.moe_router(), takes=two_axes, law=laws.truncated),
    "layer_scale": Case(jinit.layer_scale(24), constant=True),
    "ngpt": Case(jinit.ngpt(), takes=bool, atol=1e-6),
    "hyperfan_in": Case(jinit.hyperfan_in((8, 5)), takes=two_axes, law=laws.normal),
    "hyperfan_out": Case(jinit.hyperfan_out((8, 5)), takes=two_axes, law=laws.normal),
    **{
        f"mimetic_attention[{part}]": Case(
            jinit.mimetic_attention(part=part),
            shape=shape,
            takes=lambda shape: len(shape) == 3,
            sharded_shape=(3, 16, 24),
            complex=False,
            atol=1e-5,
        )
        for part, shape in (("query", (6, 2, 4)), ("out", (2, 4, 6)))
    },
}

# These entries make initializers of other names, or take arrays.
OTHERS = {"lora", "pissa", "olora", "whitening_conv"}
