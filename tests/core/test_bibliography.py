"""The bibliography: names, titles and links of its constants, and the printed forms."""

import pytest

from jinit._core import papers
from jinit._core.papers import Paper

PAPERS = {name: p for name, p in vars(papers).items() if isinstance(p, Paper)}


def test_a_constant_is_named_by_its_first_author_and_year():
    assert len(PAPERS) > 70
    for name, paper in PAPERS.items():
        assert name == paper.key
        surname, year = name.rsplit("_", 1)
        assert int(year) == paper.year
        assert name.isascii() and surname.isupper()
        # One letter of the name for each letter of the surname, accents or not.
        assert len(surname) == len(paper.authors[0])


def test_accents_and_spaces_become_letters_that_a_name_may_have():
    assert papers.KRAHENBUHL_2016.authors[0] == "Krähenbühl"
    spaced = Paper(("Van Loan",), 1989, "A title", "https://example.org", "A venue")
    assert spaced.key == "VAN_LOAN_1989"


def test_constants_are_sorted_by_name():
    # In lower case, "_" precedes every letter: De comes before Dey.
    names = [name.lower() for name in PAPERS]
    assert names == sorted(names)


def test_no_two_papers_share_a_title_or_a_link():
    assert len({paper.title.lower() for paper in PAPERS.values()}) == len(PAPERS)
    assert len({paper.url for paper in PAPERS.values()}) == len(PAPERS)


@pytest.mark.parametrize("paper", PAPERS.values(), ids=PAPERS)
def test_the_fields_of_a_paper_are_complete(paper):
    assert paper.url.startswith("https://") and " " not in paper.url
    assert isinstance(paper.authors, tuple) and all(paper.authors)
    assert paper.venue and 1800 < paper.year < 2100
    for text in (*paper.authors, paper.title, paper.venue):
        assert text == " ".join(text.split())
    assert not paper.title.endswith(".")


@pytest.mark.parametrize(
    "paper, cite, reference",
    [
        (
            papers.MARTENS_2010,
            "Martens (2010)",
            'Martens, "Deep learning via Hessian-free optimization", ICML 2010.',
        ),
        (
            papers.GLOROT_2010,
            "Glorot & Bengio (2010)",
            'Glorot and Bengio, "Understanding the difficulty of training deep '
            'feedforward neural networks", AISTATS 2010.',
        ),
        (
            papers.HE_2015,
            "He et al. (2015)",
            'He, Zhang, Ren and Sun, "Delving deep into rectifiers: surpassing '
            'human-level performance on ImageNet classification", ICCV 2015.',
        ),
        (
            papers.RAFFEL_2020,
            "Raffel et al. (2020)",
            'Raffel et al., "Exploring the limits of transfer learning with a unified '
            'text-to-text transformer", JMLR 2020.',
        ),
    ],
)
def test_citations_and_references(paper, cite, reference):
    assert paper.cite == cite
    assert paper.reference == reference
