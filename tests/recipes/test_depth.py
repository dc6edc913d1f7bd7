"""All recipes read one number of layers, and compare it with the number passed."""

import jax
import jax.numpy as jnp
import pytest

import jinit
from jinit import recipes
from tests.support.networks import floats

SIZE, INNER = 16, 24
X = floats(2, 5, SIZE)
GPT2 = recipes.from_hf_config({"model_type": "gpt2", "initializer_range": 0.02})


def attend(q, k, v):
    return jax.nn.softmax(q @ k.mT) @ v


def fused(params, x):
    """Execute layers whose attention and MLP end in one kernel, as PaLM's do."""
    for p in params:
        sizes = [SIZE, 2 * SIZE, 3 * SIZE]
        q, k, v, u = jnp.split(x @ p["in"], sizes, axis=-1)
        x = x + jnp.concatenate([attend(q, k, v), jax.nn.gelu(u)], -1) @ p["out"]
    return x


def fused_net(layers):
    shapes = {"in": floats(SIZE, 3 * SIZE + INNER), "out": floats(SIZE + INNER, SIZE)}
    return jinit.network(fused, [shapes] * layers, X)


def layer(p, x, other=None):
    x = x + attend(x @ p["q"], x @ p["k"], x @ p["v"]) @ p["o"]
    if other is not None:
        c = p["cross"]
        x = x + attend(x @ c["q"], other @ c["k"], other @ c["v"]) @ c["o"]
    return x + (jax.nn.silu(x @ p["gate"]) * (x @ p["up"])) @ p["down"]


def weights(crosses=False):
    square = dict.fromkeys("qkvo", floats(SIZE, SIZE))
    wide = dict.fromkeys(("gate", "up"), floats(SIZE, INNER))
    both = {**square, **wide, "down": floats(INNER, SIZE)}
    return {**both, "cross": square} if crosses else both


def plain_net(layers):
    def model(params, x):
        for p in params:
            x = layer(p, x)
        return x

    return jinit.network(model, [weights()] * layers, X)


def encoder_decoder():
    def model(params, x, y):
        for p in params["encoder"]:
            x = layer(p, x)
        for p in params["decoder"]:
            y = layer(p, y, x)
        return y

    tree = {"encoder": [weights()] * 2, "decoder": [weights(True)] * 3}
    return jinit.network(model, tree, X, X)


def std(net, recipe, path):
    return {r["path"]: r["std"] for r in jinit.plan(net, recipe).rows}[path]


@pytest.mark.parametrize("layers", [2, 3])
def test_recipes_agree_about_layers_of_one_branch(layers):
    net = fused_net(layers)
    expected = 0.02 / (2 * layers) ** 0.5
    for recipe in (recipes.gpt2(), GPT2, recipes.qwen3(flavour="megatron")):
        assert std(net, recipe, "0/out") == pytest.approx(expected)
    # 2 / (L sqrt(d)).
    assert std(net, recipes.small_init(), "0/out") == pytest.approx(
        2 / layers / SIZE**0.5
    )
    for recipe in (recipes.gpt2(), recipes.small_init(), GPT2):
        notes = jinit.plan(net, recipe).notes
        assert notes == (
            f"residual outputs: {layers} of {layers} ({layers} layers x 1)",
        )


def test_the_note_says_what_the_law_counted():
    net = encoder_decoder()
    # GPT-2 divides by the branches, of which 3 layers have three.
    assert std(net, recipes.gpt2(), "decoder/0/o") == pytest.approx(0.02 / 13**0.5)
    assert jinit.plan(net, recipes.gpt2()).notes == ("residual outputs: 13 of 13",)
    for recipe in (recipes.small_init(), recipes.qwen3(flavour="megatron")):
        notes = jinit.plan(net, recipe).notes
        assert notes == ("residual outputs: 13 of 13 in 5 layers",)
    assert std(net, recipes.small_init(), "decoder/0/o") == 2 / 5 / SIZE**0.5


@pytest.mark.parametrize(
    "recipe",
    [
        recipes.gpt2(7),
        recipes.qwen3(7, flavour="megatron"),
        recipes.small_init(7),
        recipes.full_megatron(7),
        recipes.olmo(7, method="llama"),
    ],
    ids=lambda recipe: recipe.name,
)
def test_another_number_of_layers_is_a_warning(recipe):
    net = plain_net(3)
    with pytest.warns(UserWarning, match=f"recipes.{recipe.name} is 7.* shows 3 layer"):
        jinit.plan(net, recipe)


@pytest.mark.parametrize(
    "recipe",
    [
        recipes.llama3,
        recipes.deepseek_v3,
        lambda n: recipes.olmo(n, method="llama_depth"),
    ],
)
@pytest.mark.parametrize("passed", [2, 6, 7])
def test_another_number_of_layers_has_no_index(recipe, passed):
    # 2 and 6 divide the 6 sums, and would give every layer a wrong index.
    with pytest.raises(ValueError, match=f"are 3 layers. `num_layers` is {passed}"):
        jinit.plan(plain_net(3), recipe(passed))


def test_the_right_number_of_layers_is_silent():
    net = plain_net(3)
    # Warnings are errors in these tests.
    for recipe in (recipes.gpt2, recipes.llama3, recipes.small_init):
        jinit.plan(net, recipe(3))
    jinit.plan(encoder_decoder(), recipes.deepnorm(2))


def test_a_wrong_number_beside_names_says_both_numbers():
    kernels = {name: {"kernel": floats(SIZE, SIZE)} for name in ("w1", "w2", "w3")}
    shapes = {f"layers_{i}": kernels for i in range(3)}
    with (
        pytest.warns(UserWarning, match="finds 3 layers"),
        pytest.raises(ValueError, match=r"is 4, .* count 3, layers_0 to layers_2\."),
    ):
        jinit.plan(shapes, recipes.llama3(4))


def test_branch_ends_at_zero_are_counted_as_all_others():
    def scanned(p, x):
        return jax.lax.scan(lambda x, one: (layer(one, x), None), x, p)[0]

    stack = {path: floats(3, *one.shape) for path, one in weights().items()}
    net = jinit.network(scanned, stack, X)
    for recipe in (recipes.nanochat(), recipes.gpt2()):
        notes = jinit.plan(net, recipe).notes
        assert notes == ("residual outputs: 6 of 6 (3 layers x 2)",)


@pytest.mark.parametrize("method", ["normal", "llama", "llama_depth", "fan_in"])
def test_the_laws_of_olmo_show_their_cut(method):
    for law in recipes.olmo(3, method=method).laws:
        assert law.law.startswith("TN") == law.law.endswith("cut at 3 sigma")


def test_a_head_alone_says_where_its_recipe_stands():
    def model(p, x, y):
        return jnp.exp(p["scale"]) * (x @ p["image"]) @ (y @ p["text"]).T

    params = {"image": floats(8, 4), "text": floats(6, 4), "scale": floats()}
    net = jinit.network(model, params, floats(3, 8), floats(3, 6))
    with pytest.raises(ValueError, match="put `clip` before the recipe of the towers"):
        jinit.plan(net, recipes.clip())
    # Where the towers have their rules, the order is no advice.
    with pytest.raises(ValueError, match="at the end keeps what is left.$"):
        jinit.plan(net, [*recipes.clip(), ("image", jinit.lecun())])
