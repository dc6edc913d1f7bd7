"""The pages of the site with code for other libraries run where these are installed."""

import pytest

from docs.hooks import blocks
from tests.support.pages import LIBRARIES_OF, PAGES

pytestmark = pytest.mark.integrations


@pytest.mark.parametrize("page", sorted({page for page, _ in LIBRARIES_OF}))
def test_the_code_of_a_page_runs_with_all_libraries(page):
    namespace = {}
    for block in blocks.blocks(PAGES[page]):
        assert not blocks.missing(block)
        blocks.run(block, page, namespace)
