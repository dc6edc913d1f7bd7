"""Docstrings become Markdown that griffe reads as Google's sections."""

import inspect

import jinit
from docs.hooks.docstring_text import markdown

DOC = inspect.cleandoc("""
    Draw with a law, as `jinit.he()` does.

    More words about `jinit.ssm.s4d_lin` and `jinit.no_such_name`.

    Args:
      mode: a word.
      **options: the settings of the family, by keyword.
        layout: one letter for each axis, in as many
          lines as it needs.
        groups: a number.

    Example:
      >>> `jinit.he`  # no link in code
      1

    References:
      Glorot and Bengio, "Understanding the difficulty of training deep feedforward
        neural networks", AISTATS 2010.
      Somebody, "A paper without an address", Nowhere 2000.
""")


def test_the_card_follows_the_first_sentence():
    text = markdown(DOC, "CARD")
    assert text.startswith("Draw with a law, as [`jinit.he()`][jinit.he] does.\n\nCARD")
    assert markdown("One sentence.", "CARD").rstrip().endswith("CARD")


def test_public_names_are_links():
    text = markdown(DOC, "")
    assert "[`jinit.ssm.s4d_lin`][jinit.ssm.s4d_lin]" in text
    assert " `jinit.no_such_name`." in text
    assert "  >>> `jinit.he`  # no link in code" in text


def test_options_are_arguments_like_others():
    lines = markdown(DOC, "").splitlines()
    place = lines.index("Args:")
    assert lines[place + 1 : place + 5] == [
        "  mode: a word.",
        "  layout: one letter for each axis, in as many",
        "    lines as it needs.",
        "  groups: a number.",
    ]
    options = markdown(inspect.getdoc(jinit.he), "")
    assert "**options" not in options and "\n  fan_out: " in options


def test_sections_have_the_names_that_griffe_knows():
    text = markdown(DOC, "")
    assert "\nExamples:\n" in text and "\nExample:" not in text
    assert "**References**\n\n- Glorot and Bengio" in text
    assert '](https://proceedings.mlr.press/v9/glorot10a.html)", AISTATS' in text
    assert '- Somebody, "A paper without an address", Nowhere 2000.' in text
