"""The title of a figure says what was found, in a sentence with its numbers."""

import re
import textwrap
from collections.abc import Sequence
from typing import Any

from .results import Finding

# What a message says beside the finding: the usual range, in parentheses.
_USUAL = re.compile(r"\s*\((?:usual|all should)[^()]*(?:\([^()]*\)[^()]*)*\)")
_END = re.compile(r"\.(?:\s|$)")
# A longer title is cut where its sentence has a colon.
_LONGEST = 190


def title(figure: Any, sentence: str) -> None:
    """Put the finding above a figure, in lines that fit it."""
    width = int(11 * figure.get_figwidth())
    text = textwrap.fill(sentence, width, break_on_hyphens=False)
    figure.suptitle(text, fontsize=11)


def headline(findings: Sequence[Finding], healthy: str, first: str = "") -> str:
    """Return the first finding in a sentence, with the number of further findings.

    Args:
      findings: the findings, the most telling first.
      healthy: the sentence to return if there is no finding.
      first: a sentence for the first finding, in place of that of its message.
    """
    if not findings:
        return healthy
    more = len(findings) - 1
    rest = f" (and {more} more finding{'s' * (more > 1)})" if more else ""
    return (first or statement(findings[0])) + rest


def statement(finding: Finding) -> str:
    """Return what a finding says is so, without what is usual and what to try."""
    text = _END.split(_USUAL.sub("", finding.message), maxsplit=1)[0]
    if len(text) > _LONGEST:
        before = text.rpartition(": ")[0] or text
        text = textwrap.shorten(before, _LONGEST, placeholder=" ...")
    # A path keeps its first letter.
    is_path = bool(finding.path) and text.startswith(finding.path)
    return text if is_path else text[:1].upper() + text[1:]
