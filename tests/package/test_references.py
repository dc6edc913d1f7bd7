"""Docstrings and registry cite the papers of the bibliography, in its words."""

import inspect

import pytest

import jinit
from tests.support.references import cited, rewritten, sources


def test_every_reference_is_spelled_as_in_the_bibliography():
    texts = {path: path.read_text() for path in sources()}
    drifted = [str(path) for path, text in texts.items() if rewritten(text) != text]
    assert not drifted, "run: python -m tests.support.references"


@pytest.mark.parametrize("name", sorted(jinit.registry))
def test_a_maker_s_docstring_cites_the_papers_of_its_entry(name):
    entry = jinit.registry[name]
    assert set(entry.papers) <= set(cited(inspect.getdoc(entry.maker)))


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
