"""A scheme is a maker and what a user should know before calling it.

The decorator `scheme` stands at each maker and collects the schemes of all files that
have been imported. `jinit.registry` imports the files and shows the collection.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

from .._core.papers import Paper

Maker = TypeVar("Maker", bound=Callable[..., Any])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """An entry of `jinit.registry` describes one scheme.

    Attributes:
      name: the name that `jinit.get` takes, with a dot below a module ("ssm.s4d_lin").
      maker: the function that makes the initializer.
      law: the probability distribution of an array's entries.
      formula: the scale of the law, in the symbols of the maker's docstring.
      use: the layers or activations that the scheme is for.
      pitfall: the mistake that is easily made with it; empty where there is none.
      paper: the source of the scheme, or several; None for plain distributions and for
        initializers made of others.
    """

    name: str
    maker: Callable[..., Any]
    law: str
    formula: str
    use: str
    pitfall: str = ""
    paper: Paper | tuple[Paper, ...] | None = None

    @property
    def papers(self) -> tuple[Paper, ...]:
        """Return the papers of the scheme as a tuple, which is empty without one."""
        if self.paper is None:
            return ()
        return self.paper if isinstance(self.paper, tuple) else (self.paper,)

    @property
    def reference(self) -> str:
        """Return the short citation of the papers, or "-" without one."""
        return "; ".join(paper.cite for paper in self.papers) or "-"


# Every scheme whose file has been imported, by name.
SCHEMES: dict[str, Entry] = {}


def scheme(
    *,
    law: str,
    formula: str,
    use: str,
    pitfall: str = "",
    paper: Paper | tuple[Paper, ...] | None = None,
    name: str | None = None,
) -> Callable[[Maker], Maker]:
    """Decorate a maker: enter it in the registry with these fields of its `Entry`.

    Args:
      law: as in `Entry`, like all arguments here.
      formula: the scale.
      use: the purpose.
      pitfall: the easy mistake.
      paper: the source.
      name: the name of the scheme; by default that of the function.
    """

    def enter(make: Maker) -> Maker:
        entry = Entry(
            name=name or make.__name__,
            maker=make,
            law=law,
            formula=formula,
            use=use,
            pitfall=pitfall,
            paper=paper,
        )
        SCHEMES[entry.name] = entry
        return make

    return enter
