"""A work that the documentation cites, with the forms in which it is cited."""

import dataclasses
import re
import unicodedata

# A reference with more authors than this names only the first.
_MOST_NAMED = 8


@dataclasses.dataclass(frozen=True)
class Paper:
    """A paper, book or program with what a reader needs to find it.

    Attributes:
      authors: the surnames, in the order of the title page.
      year: the year of publication.
      title: the whole title, in lower case except for its first word and for names.
      url: the arXiv page, the DOI, or the publisher's page of works with neither.
      venue: the conference, the journal, or the publisher.

    Example:
      >>> from jinit._core.papers import GLOROT_2010
      >>> print(GLOROT_2010.cite)
      Glorot & Bengio (2010)
    """

    authors: tuple[str, ...]
    year: int
    title: str
    url: str
    venue: str

    @property
    def key(self) -> str:
        """Return the name of the paper's constant in papers.py."""
        # NFKD splits a letter from its accent, so that only the accent is dropped and a
        # constant can be typed on any keyboard.
        # The stroke of an l is no accent to it.
        surname = self.authors[0].replace("ł", "l").replace("Ł", "L")
        split = unicodedata.normalize("NFKD", surname)
        name = split.encode("ascii", "ignore").decode().upper()
        return f"{re.sub('[^A-Z]', '_', name)}_{self.year}"

    @property
    def cite(self) -> str:
        """Return the short form for running text and tables."""
        first, *others = self.authors
        if len(others) > 1:
            return f"{first} et al. ({self.year})"
        return f"{' & '.join(self.authors)} ({self.year})"

    @property
    def reference(self) -> str:
        """Return the line for a list of references."""
        return f'{self._names()}, "{self.title}", {self.venue} {self.year}.'

    def _names(self) -> str:
        *others, last = self.authors
        if len(self.authors) > _MOST_NAMED:
            return f"{self.authors[0]} et al."
        return f"{', '.join(others)} and {last}" if others else last
