"""The hooks of MkDocs: pages and pictures that are made when the site is built."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# MkDocs loads this file by its path, from any folder.
sys.path.insert(0, str(ROOT))

from mkdocs.config.defaults import MkDocsConfig  # noqa: E402
from mkdocs.exceptions import PluginError  # noqa: E402
from mkdocs.structure.files import File, Files  # noqa: E402
from mkdocs.structure.pages import Page  # noqa: E402

from docs.hooks import execute, models, notebooks, pictures, reference  # noqa: E402

IDENTIFIER = re.compile(r'id="(jinit\.[\w.]+)"')
LIST_OF_PAGES = "<!-- pages of the reference -->"
_IDENTIFIERS: set[str] = set()


def on_config(config: MkDocsConfig) -> None:
    """Add the made pages to the navigation."""
    _IDENTIFIERS.clear()
    pages = [{"All schemes": reference.SCHEMES}]
    pages += [{page.title: page.path} for page in reference.pages()]
    # The overview, which comes first, is the page of its section.
    overview, *paths = models.paths()
    named = [overview, *({_short(path): path} for path in paths)]
    for section in config.nav or []:
        ((title, entries),) = section.items()
        if title == "Reference":
            entries += pages
        if title == "Examples":
            entries += [
                {notebooks.title(source): path}
                for path, source in notebooks.sources().items()
            ]
        for entry in entries:
            if isinstance(entry, dict) and "Named models" in entry:
                entry["Named models"] = named


def _short(path: str) -> str:
    return pathlib.PurePath(path).stem


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and the pictures that are made of the code."""
    texts = {page.path: reference.markdown(page) for page in reference.pages()}
    texts |= {reference.SCHEMES: reference.schemes(), **models.pages()}
    for path, text in texts.items():
        files.append(File.generated(config, path, content=text))
    for path, source in notebooks.sources().items():
        files.append(File.generated(config, path, content=source))
        download = notebooks.ipynb(source, config.site_url or "")
        place = path.replace(".md", ".ipynb")
        files.append(File.generated(config, place, content=download))
    for path, picture in pictures.everything():
        files.append(File.generated(config, path, content=picture))
    return files


def on_page_markdown(
    markdown: str, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Run a notebook, or a page that says `execute: true`, and show what comes out."""
    markdown = markdown.replace(LIST_OF_PAGES, reference.contents())
    place = page.file.src_uri
    if source := notebooks.sources().get(place):
        text, drawn = notebooks.executed(source, place)
    elif page.meta.get("execute"):
        text, drawn = execute.executed(markdown, place)
    else:
        return markdown
    for path, picture in drawn.items():
        files.append(File.generated(config, path, content=picture))
    return text


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> None:
    """Note which names have an entry in the reference."""
    if page.file.src_uri.startswith("reference/"):
        _IDENTIFIERS.update(IDENTIFIER.findall(html))


def on_env(env: object, config: MkDocsConfig, files: Files) -> None:
    """Fail if a public name has no entry."""
    if missing := sorted(reference.public_names() - _IDENTIFIERS):
        raise PluginError(
            f"These public names are on no page of the reference: {missing}. Add them "
            "to a group of jinit/__init__.py, or to `__all__` of their module."
        )
