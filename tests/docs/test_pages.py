"""The code of every page of the site runs, from the top of the page to its end."""

import pytest

from docs.hooks import blocks, execute
from tests.support.pages import LIBRARIES_OF, PAGES, SHOWN, run


# `.ci/run` leaves these to the build of the site, which runs the same code.
@pytest.mark.parametrize("page", SHOWN)
def test_the_code_that_the_site_shows_with_its_results_runs(page):
    run(page)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in SHOWN])
def test_the_code_of_a_page_runs(page):
    # The page of a library begins with an import of it.
    library = blocks.missing(next(iter(blocks.blocks(PAGES[page]))))
    if library:
        pytest.skip(f"{library} is not installed; tests/integrations runs {page}")
    run(page)


@pytest.mark.parametrize("page, library", LIBRARIES_OF)
def test_the_code_for_other_libraries_runs_where_they_are(page, library):
    for block in blocks.blocks(PAGES[page]):
        if blocks.missing(block) == library:
            pytest.skip(f"{library} is not installed; tests/integrations runs {page}")


TABBED = """\
```python
x = 1
```

=== "Tab"

    ```python title="second"
    if x:
        x += 1
    ```

```text
x = 0 / 0
```
"""


def test_blocks_share_names_and_keep_their_lines():
    first, second = blocks.blocks(TABBED)
    assert (first.code, first.line) == ("x = 1\n", 2)
    assert (second.code, second.line) == ("if x:\n    x += 1\n", 8)
    namespace = {}
    for block in (first, second):
        blocks.run(block, "page.md", namespace)
    assert namespace["x"] == 2


def test_an_error_names_the_page_and_its_line():
    (block,) = blocks.blocks("# A page\n\n```python\nx = 1\nx / 0\n```\n")
    with pytest.raises(ZeroDivisionError) as error:
        blocks.run(block, "page.md", {})
    last = error.traceback[-1]
    assert (str(last.path).endswith("page.md"), last.lineno + 1) == (True, 5)


@pytest.mark.parametrize("code, library", [
    ("import jax", ""),
    ("from haikus import x", ""),
    ("def f():\n    from no_such_library.nn import Linear", "no_such_library"),
    ("import no_such_library as lib", "no_such_library"),
])  # fmt: skip
def test_a_missing_library_is_named(code, library, monkeypatch):
    monkeypatch.setattr(blocks, "LIBRARIES", ("no_such_library", "haiku"))
    assert blocks.missing(blocks.Block(code, 1, 0)) == library


DRAWN = """\
# A page

<!-- figure -->

```python
import matplotlib.pyplot as plt
figure, axes = plt.subplots()
print(3 * 4)
```

```python
y = 1
```

```python
second, _ = plt.subplots()
```
"""


def test_a_page_shows_what_it_prints_and_draws():
    text, drawn = execute.executed(DRAWN, "article/page.md")
    assert [*drawn] == [f"assets/drawn/article-page-{i}.png" for i in (0, 1)]
    assert all(picture.startswith(b"\x89PNG") for picture in drawn.values())
    assert "```text\n12\n```" in text
    first, second = (text.index(f"../assets/drawn/article-page-{i}") for i in (0, 1))
    assert first < text.index("import matplotlib") and second > text.index("second, _")
    assert text.count(".png") == 2 and "<!--" not in text
