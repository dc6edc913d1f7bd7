"""The pages of the site that have code: those in `docs`, and those of the recipes."""

import jax
import matplotlib.pyplot as plt

from docs.hooks import blocks, models
from tests.support.repository import ROOT

DOCS = ROOT / "docs"


def _pages() -> dict[str, str]:
    written = {
        str(path.relative_to(DOCS)): path.read_text() for path in DOCS.rglob("*.md")
    }
    texts = dict(sorted(written.items())) | models.pages(with_proofs=False)
    return {page: text for page, text in texts.items() if [*blocks.blocks(text)]}


# The text of each page with Python blocks, by its place in `docs`.
PAGES = _pages()
# The build of the site runs these, too, and shows what they print and draw.
SHOWN = [page for page, text in PAGES.items() if "\nexecute: true\n" in text]
# The pages with blocks that need a library which jinit does not require.
LIBRARIES_OF = [
    (page, library)
    for page, text in PAGES.items()
    for library in blocks.LIBRARIES
    if any(f"import {library}" in block.code for block in blocks.blocks(text))
]


def run(page: str) -> None:
    """Run the blocks of a page whose libraries are installed, in one namespace.

    A reader has JAX's defaults, and Keras promotes ranks, which the tests forbid.
    """
    namespace: dict[str, object] = {}
    with jax.numpy_rank_promotion("allow"):
        for block in blocks.blocks(PAGES[page]):
            if not blocks.missing(block):
                blocks.run(block, page, namespace)
    plt.close("all")
