"""The pages of the site with code for other libraries run where these are installed."""

import pytest

from docs.hooks import blocks
from tests.support.pages import LIBRARIES_OF, PAGES, run

pytestmark = pytest.mark.integrations


@pytest.mark.parametrize("page", sorted({page for page, _ in LIBRARIES_OF}))
def test_the_code_of_a_page_runs_with_all_libraries(page):
    assert not any(map(blocks.missing, blocks.blocks(PAGES[page])))
    run(page)
