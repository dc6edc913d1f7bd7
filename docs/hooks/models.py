"""Named models: one page for each recipe, from the recipe's own laws and sources."""

import inspect

from docs.hooks import proofs
from docs.hooks.formulas import latex
from jinit._core.papers import Paper
from jinit.recipes._recipe import RECIPES, Entry, Source

FOLDER = "guides/models"


def pages(with_proofs: bool = True) -> dict[str, str]:
    """Return the text of each page by its place in `docs`, the overview first.

    Proofs read a network for each recipe, which takes seconds. Tests that want the code
    of the pages alone leave them out.
    """
    names = sorted(RECIPES)
    overview = {f"{FOLDER}/index.md": _overview(names)}
    return overview | {path(name): page(name, with_proofs) for name in names}


def paths() -> list[str]:
    """Return the place of each page, the overview first."""
    return [f"{FOLDER}/index.md", *map(path, sorted(RECIPES))]


def path(name: str) -> str:
    """Return the place of a recipe's page."""
    return f"{FOLDER}/{name}.md"


def _overview(names: list[str]) -> str:
    rows = [
        f"| [`{name}`]({name}.md) | {_cell(RECIPES[name].use)} "
        f"| {_cell(RECIPES[name].law)} |"
        for name in names
    ]
    return OVERVIEW.replace("ROWS", "\n".join(rows))


OVERVIEW = """\
# Named models

A recipe holds the initialization of a published model: a law for each role of a
parameter, read from the model's official code. In the plan of a network a recipe finds
the roles in the equations, so the names of layers do not matter:

```python
import flax.linen as nn
import jax
import jax.numpy as jnp

import jinit

class Decoder(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(100, 64)(tokens)
        for _ in range(4):
            x = x + nn.MultiHeadDotProductAttention(4)(nn.LayerNorm()(x))
            h = nn.gelu(nn.Dense(256)(nn.LayerNorm()(x)))
            x = x + nn.Dense(64)(h)
        return nn.Dense(100)(nn.LayerNorm()(x))

tokens = jnp.zeros((1, 16), int)
variables = jax.eval_shape(Decoder().init, jax.random.key(0), tokens)
net = jinit.network(Decoder(), variables, tokens)
plan = jinit.plan(net, jinit.recipes.gpt2())
print(plan)                                  # a row for each parameter
params = plan.init(jax.random.key(1))
variables = net.replace(params).model()      # for Decoder().apply(variables, tokens)
```

In the laws, N(0, s^2) is a normal law, TN a truncated one and U a uniform one. L is the
number of layers, l the index of a layer, from 0, and d the width.

| recipe | use it for | laws |
| --- | --- | --- |
ROWS

[`jinit.recipes.which`][jinit.recipes.which] tells which recipe the weights of a model
agree with.
"""


def page(name: str, with_proofs: bool = True) -> str:
    """Return the text of a recipe's page."""
    entry = RECIPES[name]
    recipe = entry.make(**entry.example)
    laws = [
        f"| {law.role} | {_law(law.law)} | {_cell(law.applies_to)} |"
        for law in recipe.laws
    ]
    settings = "".join(f", {key}={value!r}" for key, value in entry.example.items())
    return "\n".join(
        [
            f"# `{name}`: {entry.use}",
            "",
            "| role | law | applies to |",
            "| --- | --- | --- |",
            *laws,
            "",
            SYMBOLS,
            "",
            "```python",
            "import jinit",
            "",
            f'recipe = jinit.recipes.get("{name}"{settings})',
            "print(recipe)  # the laws above, and the sources",
            "```",
            "",
            "Pass the recipe to [`jinit.plan`][jinit.plan] in the place of rules, as "
            "[Named models](index.md) shows.",
            "",
            *(proofs.section(name, entry, recipe) if with_proofs else []),
            *_settings(name, entry),
            "## Sources",
            "",
            *map(_source, entry.sources),
            "",
        ]
    )


SYMBOLS = (
    r"\(\mathcal{N}\) is a normal law, \(\mathcal{TN}\) a truncated one and "
    r"\(\mathcal{U}\) a uniform one; \(L\) is the number of layers, \(l\) the index of "
    r"a layer, from 0, \(d\) the width of the residual stream, \(n\) the index of a "
    r"channel, \(k\) the length of a window and \(V\) the size of the vocabulary."
)


def _settings(name: str, entry: Entry) -> list[str]:
    parameters = inspect.signature(entry.make).parameters.values()
    plain = [p for p in parameters if p.kind is not p.VAR_KEYWORD]
    if not plain:
        return []
    rows = [
        f"| `{p.name}` | {'required' if p.default is p.empty else f'`{p.default!r}`'} |"
        for p in plain
    ]
    link = f"jinit.recipes.{name}"
    return [
        "## Settings",
        "",
        f"[`{link}`][{link}] in the reference explains them.",
        "",
        "| setting | default |",
        "| --- | --- |",
        *rows,
        "",
    ]


def _law(law: str) -> str:
    # A bar would begin a new cell of the table.
    return rf"\({latex(law)}\)".replace("|", r"\vert ")


def _source(source: Source | Paper) -> str:
    if isinstance(source, Paper):
        link = f"[{source.title}]({source.url})"
        return f"- {source.reference.replace(source.title, link)}"
    address = (
        f"https://github.com/{source.repository}/blob/{source.commit}/{source.file}"
    )
    return (
        f"- [{source.repository}, `{source.file}`]({address}), commit {source.commit}"
    )


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("*", r"\*")
