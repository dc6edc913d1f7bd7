"""Each natural mistake is an error that says what to write instead."""

import inspect
import pickle

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jinit
from jinit._schemes.fan_options import OPTIONS
from tests.support import cases

# Every maker: those of the registry, of which `zeros` and `ones` name the makers of
# Flax, and one that returns a pair.
MAKERS = {name: entry.maker for name, entry in jinit.registry.items()} | {
    "critical": jinit.critical
}
KEYS = {"typed": jax.random.key(0), "legacy": jax.random.PRNGKey(0)}
FAN_MAKERS = {
    "xavier", "he", "kaiming", "lecun", "scaled_uniform", "siren", "small_init",
    "wang_init", "moe_router", "hyperfan_in", "hyperfan_out",
}  # fmt: skip


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("name", MAKERS)
def test_a_maker_called_as_an_initializer(name, kind):
    maker, key = MAKERS[name], KEYS[kind]
    text = r"called with a PRNG key and a shape as if it were one. Call it "
    for arguments in ((key, (8, 4)), (key, [8, 4], jnp.float32)):
        with pytest.raises(TypeError, match=text):
            maker(*arguments)
    with pytest.raises(TypeError, match=text):
        maker(key=key, shape=(8, 4))
    with pytest.raises(TypeError, match=text):
        jax.jit(lambda key: maker(key, (8, 4)))(key)


def test_the_message_is_the_call_to_write():
    with pytest.raises(TypeError) as caught:
        jinit.he(KEYS["typed"], (8, 4))
    assert str(caught.value) == (
        "jinit.he makes an initializer; it was called with a PRNG key and a shape as "
        "if it were one. Call it first: kernel_init=jinit.he()."
    )
    for make, call in (
        (
            jinit.variance_scaling,
            r"jinit.variance_scaling\(scale, mode, distribution\)",
        ),
        (jinit.recurrent.chrono, r"jinit.recurrent.chrono\(t_max\)"),
        (jinit.ssm.hippo_legs, r"jinit.ssm.hippo_legs\(\)"),
        (jinit.recurrent.identity, r"jinit.recurrent.identity\(\)"),
        (jinit.identity, r"jinit.identity\(\)"),
    ):
        with pytest.raises(TypeError, match=f"first: kernel_init={call}"):
            make(KEYS["typed"], (8, 4))
    with pytest.raises(
        TypeError, match=r"not an init.*settings: jinit.pissa\(w, rank\)"
    ):
        jinit.pissa(KEYS["typed"], (8, 4))


@pytest.mark.parametrize("dtype", [np.dtype("float32"), np.float32, jnp.float32])
def test_an_initializer_called_as_haiku_calls_it(dtype):
    with pytest.raises(TypeError, match=r"Haiku calls .*hk.next_rng_key\(\), shape"):
        jinit.he()((8, 4), dtype)
    with pytest.raises(TypeError) as caught:
        jinit.he()(KEYS["typed"], 2.5)
    assert "Haiku" not in str(caught.value)


@pytest.mark.parametrize("maker", [jinit.he, jinit.he_normal, jinit.zeros_init])
def test_in_flax(maker):
    x = jnp.ones((1, 8))
    for init in (
        nn.Dense(4, kernel_init=maker).init,
        jax.jit(nn.Dense(4, bias_init=maker).init),
    ):
        with pytest.raises(TypeError, match="Call it first"):
            init(KEYS["typed"], x)
    with pytest.raises(TypeError, match="Call it first"):
        nnx.Linear(8, 4, kernel_init=maker, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match="Call it first"):
        nnx.eval_shape(lambda: nnx.Linear(8, 4, bias_init=maker, rngs=nnx.Rngs(0)))


def test_a_tree_in_the_place_of_a_key_is_not_written_out():
    with pytest.raises(
        TypeError, match="of type dict; it must be a PRNG key"
    ) as caught:
        jinit.he()({"w": jnp.ones((99, 99))}, (8, 4))
    assert len(str(caught.value)) < 200


def test_zeros_and_ones_are_initializers():
    for key in KEYS.values():
        assert jinit.zeros(key, (2,)).tolist() == [0, 0]
        assert jinit.ones(key, (2,), "int32").tolist() == [1, 1]


@pytest.mark.parametrize(
    "array", [np.array([1, 2], np.uint32), jnp.array([1, 2], "uint32")]
)
def test_an_array_of_two_words_is_a_value_too(array):
    key = KEYS["typed"]
    assert jinit.constant(array)(key, (3, 2), "uint32").tolist() == [[1, 2]] * 3
    assert jinit.constant(array, jnp.float32)(key, (2,)).tolist() == [1, 2]
    assert jinit.from_array(array, "int32")(key, (2,)).tolist() == [1, 2]
    with pytest.raises(TypeError, match="it must be an array"):
        jinit.pissa(array.astype("float32"), 1)


@pytest.mark.parametrize("make, text", [
    (lambda: jinit.torch_layout(jinit.he), "`init` is jinit.he, which makes"),
    (lambda: jinit.scaled(jinit.he, 2.0), "`init` is jinit.he, which makes"),
    (lambda: jinit.stacked(jinit.he), "`init` is jinit.he, which makes"),
    (lambda: jinit.blocks((jinit.he, 3)), r"`inits\[0\]` is jinit.he, which makes"),
    (lambda: jinit.masked(True, jinit.zeros, jinit.he), "`b` is jinit.he, which makes"),
    (lambda: jinit.lora(jinit.constant), r"Call it first: jinit.constant\(value\)"),
    (lambda: jinit.get(jinit.he), "`name` is jinit.he, which makes"),
    (lambda: jinit.to_config(jinit.he), "`init` is jinit.he, which makes"),
    (
        lambda: jinit.plan({"w": jnp.ones((3, 4))}, [("**", lambda _, leaf: jinit.he)]),
        "Call it first: jinit.he",
    ),
])  # fmt: skip
def test_a_maker_where_an_initializer_belongs(make, text):
    with pytest.raises(TypeError, match=text):
        make()


@pytest.mark.parametrize("make, text", [
    (lambda: jinit.he("gelu"), r"'gelu' by position.*call jinit.kaiming\('gelu'\)"),
    (lambda: jinit.lecun("swiglu"), r"call jinit.kaiming\('swiglu'\)"),
    (lambda: jinit.xavier(jax.nn.gelu), r"call jinit.kaiming\(jax.nn.gelu\)"),
    (lambda: jinit.he(0.2), r"0.2 by position.*kaiming\(\('leaky_relu', 0.2\)\)"),
    (lambda: jinit.he(a=0.2), r"no setting `a`.*kaiming\(\('leaky_relu', 0.2\)\)"),
    (lambda: jinit.he(negative_slope=0.2), r"kaiming\(\('leaky_relu', 0.2\)\)"),
    (lambda: jinit.he(nonlinearity="relu"), r"call jinit.kaiming\('relu'\)"),
    (lambda: jinit.he(nonlinearity="elu", a=0.5), r"kaiming\(\('elu', 0.5\)\)"),
    (lambda: jinit.he(nonlinearity="tanh", a=0.5), r"kaiming\('tanh'\)"),
    (lambda: jinit.kaiming("leaky_relu", 0.2), r"kaiming\(\('leaky_relu', 0.2\)\)"),
    (lambda: jinit.kaiming_uniform(a=5**0.5),
     r"kaiming\(\('leaky_relu', 2.236.*\), distribution='uniform'\)"),
    (lambda: jinit.he_normal(a=0.2), r"call jinit.kaiming\(\('leaky_relu', 0.2\)\)"),
    (lambda: jinit.xavier(mode="fan_out"), "no setting `mode`. jinit.he, jinit"),
    (lambda: jinit.he(distributon="normal"), "Did you mean 'distribution'"),
    (lambda: jinit.he(distributon="normal", gian=2), "Did you mean 'gain'"),
    (lambda: jinit.orthogonal(gain=2.0), "no setting `gain`. Did you mean 'scale'"),
    (lambda: jinit.normal(std=0.02), "no setting `std`. Did you mean 'stddev'"),
    (lambda: jinit.orthogonal(1, -1, None, "qr"), "'qr' by position.*only `scale`, "),
    (lambda: jinit.variance_scaling(2.0), "missing a required argument: 'mode'"),
    (lambda: jinit.normal(1.0, stddev=2.0), "multiple values for argument 'stddev'"),
    (lambda: jinit.get("he", nothing=1), "jinit.he has no setting `nothing`"),
])  # fmt: skip
def test_wrong_arguments(make, text):
    with pytest.raises(TypeError, match=text) as caught:
        make()
    assert "Its settings are (" in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__ is False


@pytest.mark.parametrize("make", [
    lambda: jinit.normal(0.0, 0.02),
    lambda: jinit.uniform(-0.1, 0.1),
    lambda: jinit.truncated_normal(0.0, 0.02, -2.0, 2.0),
    lambda: jinit.he()(KEYS["typed"], 8, 4),
])  # fmt: skip
def test_a_second_number_in_the_place_of_a_dtype(make):
    with pytest.raises(
        TypeError, match=r"no type.*normal\(stddev\) has the mean 0, .*"
    ):
        make()


@pytest.mark.parametrize("make, text", [
    (lambda: jinit.he(gain="relu"), r"kaiming\('relu'\) or jinit.lecun\(gain='relu'\)"),
    (lambda: jinit.he(gain=jax.nn.gelu), r"jinit.kaiming\(jax.nn.gelu\)"),
    (lambda: jinit.kaiming(gain="tanh"), r"`gain` is 'tanh'.*jinit.kaiming\('tanh'\)"),
    (lambda: jinit.kaiming("linear", rule="slope_at_zero", gain="relu"), "two gains"),
    (lambda: jinit.siren(gain="sin"), "`gain` is 'sin'"),
    (lambda: jinit.hyperfan_in((4, 3), gain="relu"), "Set relu=False"),
    (lambda: jinit.hyperfan_out((4, 3), gain="relu"), "Set relu=False"),
    (lambda: jinit.from_config({"name": "he", "gain": "relu"}), "`gain` is 'relu'"),
])  # fmt: skip
def test_an_activation_that_would_count_twice(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_an_activation_that_counts_once():
    shape = 50, 20
    he = pytest.approx((2 / 50) ** 0.5)
    assert jinit.lecun(gain="relu").std(shape) == he
    assert jinit.kaiming("linear", gain="relu").std(shape) == he
    assert jinit.he(gain="linear").std(shape) == he
    assert jinit.he(gain=0.5).std(shape) == pytest.approx(0.5 * (2 / 50) ** 0.5)
    assert jinit.xavier(gain="relu").std(shape) == pytest.approx((4 / 70) ** 0.5)
    assert jinit.hyperfan_in((4, 3), relu=False, gain="relu").std(
        shape
    ) == pytest.approx(jinit.hyperfan_in((4, 3)).std(shape))


@pytest.mark.parametrize("name", MAKERS)
def test_a_maker_stays_a_function(name):
    maker = MAKERS[name]
    assert (
        inspect.isfunction(maker) and maker.__doc__ and maker.__name__ in name + "_init"
    )
    assert pickle.loads(pickle.dumps(maker)) is maker
    kinds = {p.kind for p in inspect.signature(maker).parameters.values()}
    assert inspect.Parameter.VAR_KEYWORD not in kinds
    # A TypeError of the maker's own stays as it is.
    with pytest.raises(TypeError, match="names no type"):
        jinit.he(dtype="nothing")


@pytest.mark.parametrize("name", sorted(FAN_MAKERS))
def test_help_spells_the_options(name):
    maker, doc = MAKERS[name], inspect.getdoc(MAKERS[name])
    parameters = inspect.signature(maker).parameters
    made = cases.CASES[name].init
    for option in OPTIONS:
        assert parameters[option].kind is inspect.Parameter.KEYWORD_ONLY
        assert f"  {option}: " in doc
        # The defaults are those of what is made, unless the case sets another.
        assert parameters[option].default == getattr(made, option)
    assert "gain" not in inspect.signature(jinit.critical).parameters


WRONG = {
    "layout": ["ix", "", 5, "k", "b", ["i", "o"], b"io"],
    "generated_layout": ["ix", "", 5, "k"],
    "groups": [0, -2, 1.5, True, "2", None],
    "in_axis": [1.5, "0", True, (0, 0), None],
    "out_axis": [1.5, "0", True, (0, 0), None],
    "batch_axis": [1.5, "0", True, (1, 1), None],
    "axis": [1.5, "0", True, (0, 0), None],
    "column_axis": [1.5, "0", True, (0, 1), None],
    "axes": [(0, 0), (1.5,), True, "ab"],
    "fan_in": [0, -1, 1.5, True],
    "fan_out": [0, -1, 1.5, True],
}
REQUIRED = {
    "variance_scaling": (1.0, "fan_in", "normal"), "critical": ("tanh",),
    "sparse": (0.5,), "wang_init": (3,), "hyperfan_in": ((4, 3),),
    "hyperfan_out": ((4, 3),), "stacked": (jinit.he(),), "blocks": ([jinit.he()],),
    "depth_scaled": (jinit.he(),), "concat": ([jinit.he()],),
    "transposed": (jinit.he(),),
}  # fmt: skip


@pytest.mark.parametrize("name, setting", [
    (name, setting)
    for name, maker in MAKERS.items()
    for setting in inspect.signature(maker).parameters
    if setting in WRONG
])  # fmt: skip
def test_a_setting_that_fits_no_shape_is_an_error_of_the_maker(name, setting):
    for value in WRONG[setting]:
        with pytest.raises((TypeError, ValueError), match=f"`{setting}` is "):
            MAKERS[name](*REQUIRED.get(name, ()), **{setting: value})


@pytest.mark.parametrize("make, text", [
    (lambda: jinit.he(layout="io", in_axis=0), "pass either the layout"),
    (lambda: jinit.he(in_axis=0, out_axis=0), "`in_axis` 0 and `out_axis` 0 both name"),
    (lambda: jinit.lecun(out_axis=-2), "`in_axis` -2 and `out_axis` -2 both name"),
    (lambda: jinit.he(in_axis=(0, 1), batch_axis=1), "both name axis 1"),
    (lambda: jinit.identity(layout="kio"), "with a window"),
    (lambda: jinit.from_config({"name": "he", "groups": 0}), "`groups` is 0"),
    (lambda: jinit.fans((3, 4), ""), "neither an input nor an output"),
])  # fmt: skip
def test_settings_that_do_not_go_together(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_overlapping_axes_of_jax_s_names_pass():
    init = jinit.variance_scaling(1.0, "fan_in", "normal", in_axis=0, out_axis=0)
    assert init(KEYS["typed"], (4, 3)).shape == (4, 3)
    assert jinit.he(groups=np.int64(2)) == jinit.he(groups=2)
    assert repr(jinit.he(groups=np.int64(2))) == "jinit.he(groups=2)"


@pytest.mark.parametrize("words", [0, 1, 3, 4, 5])
def test_a_legacy_key_of_another_length(words):
    key = np.zeros(words, np.uint32)
    for draw in (
        lambda key: jinit.he()(key, (3, 4)),
        lambda key: jinit.random.normal(key, (3,)),
        lambda key: jinit.embedding(padding_row=0)(key, (3, 4)),
        lambda key: jax.jit(jinit.he(), static_argnums=1)(key, (3, 4)),
    ):
        with pytest.raises(ValueError, match=r"`key` is .*'threefry2x32', has 2 words"):
            draw(key)


def test_a_legacy_key_of_the_default_implementation():
    with jax.default_prng_impl("rbg"):
        key = jax.random.PRNGKey(0)
        assert jinit.he()(key, (3, 4)).shape == (3, 4)
        with pytest.raises(ValueError, match="'rbg', has 4 words"):
            jinit.he()(key[:2], (3, 4))
    with pytest.raises(ValueError, match="a batch of keys, of shape .3,"):
        jinit.he()(np.zeros((3, 2), np.uint32), (3, 4))


@pytest.mark.parametrize("call", [
    lambda init, key: init((8, 4), key),
    lambda init, key: init(key, jnp.ones((8, 4))),
    lambda init, key: init.std(jnp.ones(3)),
])  # fmt: skip
def test_an_array_in_the_place_of_a_shape(call):
    with pytest.raises(TypeError, match="`shape` is an array of shape") as caught:
        call(jinit.he(), KEYS["typed"])
    assert str(caught.value).endswith("called as init(key, shape), with the key first.")
    # An array of integers may be a shape.
    assert jinit.he()(KEYS["typed"], np.array([8, 4])).shape == (8, 4)
