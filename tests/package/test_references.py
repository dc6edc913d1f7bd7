"""Docstrings and registry cite the papers of the bibliography, in its words."""

import inspect

import pytest

import jinit
from jinit._core import papers
from tests.support.references import cited, rewritten, sources


def test_every_reference_is_spelled_as_in_the_bibliography():
    texts = {path: path.read_text() for path in sources()}
    drifted = [str(path) for path, text in texts.items() if rewritten(text) != text]
    assert not drifted, "run: python -m tests.support.references"


@pytest.mark.parametrize("name", sorted(jinit.registry))
def test_a_maker_s_docstring_cites_the_papers_of_its_entry(name):
    entry = jinit.registry[name]
    assert set(entry.papers) <= set(cited(inspect.getdoc(entry.maker)))


def test_an_entry_with_two_papers_cites_both():
    entry = jinit.registry["lecun_normal"]
    assert entry.paper == (papers.LECUN_1998, papers.KLAMBAUER_2017)
    assert entry.reference == "LeCun et al. (1998); Klambauer et al. (2017)"
    assert jinit.registry["he"].paper is papers.HE_2015
    assert jinit.registry["zeros"].reference == "-"


DRIFTED = '''
def maker():
    """Draw.

    References:
      Martens and Doe, "Deep learning via Hessian-free optimization", ICML 1066. A
        note.
    """
'''


def test_a_wrong_author_or_year_is_mended_and_the_note_stays():
    assert rewritten(DRIFTED) == DRIFTED.replace("Martens and Doe", "Martens").replace(
        "1066. A\n        note.", "2010. A note."
    )


def test_an_unknown_title_is_an_error():
    with pytest.raises(ValueError, match="Add the paper"):
        rewritten(DRIFTED.replace("Deep", "Shallow"))
