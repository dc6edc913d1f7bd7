"""A table becomes HTML that a notebook and a page of the site show alike.

The colours are those of the page around it, so it can be read on light and on dark
pages. All text is escaped: a name in a user's model may look like a tag or a formula.
"""

import html
import itertools
import re
from collections.abc import Iterable, Sequence

# A notebook file holds the whole table, and a browser lays out every cell. A table with
# more rows than this has the first ones and all marked ones, and says so.
ROWS = 1_000
# More rows than this scroll in a box, so that the findings below stay in view.
_IN_VIEW = 30
# Cells longer than this wrap; all others stay in one line.
_LONG = 60

# The class is named twice, since the longest of two selectors wins, and notebooks and
# sites have rules for tables of their own.
_STYLE = "".join(
    f".jinit-box.jinit-box table{rule}"
    for rule in (
        "{border-collapse:collapse;border:0;margin:0;font-size:0.85em;width:auto;"
        "display:table;color:inherit;background:none}",
        " caption{caption-side:top;text-align:left;font-style:italic;color:inherit;"
        "padding:0.2em 0.6em}",
        " :is(th,td){text-align:left;vertical-align:top;white-space:nowrap;border:0;"
        "padding:0.2em 0.6em;min-width:0;color:inherit}",
        " thead th{font-weight:bold;vertical-align:bottom;"
        "border-bottom:1px solid currentColor}",
        " tfoot td{border-top:1px solid currentColor}",
        " .number{text-align:right;font-variant-numeric:tabular-nums}",
        " .long{white-space:normal;min-width:20em}",
        " tr:has(strong) td{font-weight:bold}",
    )
)


def written(
    caption: Sequence[str],
    head: Sequence[str],
    lines: Sequence[Sequence[str]],
    foot: Sequence[str],
    marks: Sequence[bool],
) -> str:
    """Return a table as HTML.

    Args:
      caption: the sentences above the table.
      head: the names of the columns.
      lines: the cells of each line, as the text table has them.
      foot: the cells below the lines, or none.
      marks: whether each line is marked, or none if no line can be.
    """
    places = _shown(len(lines), marks)
    kinds = [_kind([lines[place][i] for place in places]) for i in range(len(head))]
    rows = (
        _row("td", lines[place], kinds, marked=bool(marks) and marks[place])
        for place in places
    )
    parts = [
        f"<caption>{'<br>'.join(map(_escaped, caption))}</caption>" if caption else "",
        f"<thead>{_row('th', head, kinds)}</thead>",
        f"<tbody>{''.join(rows)}</tbody>",
        f"<tfoot>{_row('td', foot, kinds)}</tfoot>" if foot else "",
    ]
    height = ";max-height:36em" if len(places) > _IN_VIEW else ""
    table = (
        f'<div class="jinit-box" style="overflow:auto{height}"><style>{_STYLE}</style>'
        f"<table>{''.join(parts)}</table></div>"
    )
    kind = "rows without a mark" if marks else "rows"
    note = f"{len(lines) - len(places):,} more {kind}; print() shows all of them"
    return table + sentences([note] if len(places) < len(lines) else [])


def sentences(texts: Iterable[str]) -> str:
    """Return sentences as paragraphs, and those that begin with "- " as a list."""
    parts = []
    for is_item, group in itertools.groupby(texts, lambda text: text[:2] == "- "):
        if is_item:
            items = (f"<li>{_escaped(text[2:])}</li>" for text in group)
            parts.append(f"<ul>{''.join(items)}</ul>")
        else:
            parts += [f"<p>{_escaped(text.strip())}</p>" for text in group if text]
    return "".join(parts)


def _escaped(text: str) -> str:
    """Return a text as HTML that is neither a tag nor a formula."""
    # Notebooks set $x$ and \(x\) as formulas, unless a tag stands between the signs.
    return re.sub(r"[$\\]", r"<span>\g<0></span>", html.escape(text))


def _shown(count: int, marks: Sequence[bool]) -> list[int]:
    """Return the places of the first lines, and of all marked lines."""
    later = (place for place in range(ROWS, count) if marks and marks[place])
    return [*range(min(count, ROWS)), *later]


def _kind(cells: Sequence[str]) -> str:
    """Return the class of a column: "number", "long" or none."""
    # A column of numbers may hold words: "frozen" stands among the ratios of a watch.
    texts = [cell for cell in cells if cell not in ("", "-")]
    if sum(map(_is_number, texts)) > len(texts) / 2:
        return "number"
    return "long" if any(len(cell) > _LONG for cell in cells) else ""


def _is_number(cell: str) -> bool:
    try:
        float(cell.partition(" ")[0].replace(",", ""))
    except ValueError:
        return False
    return True


def _row(
    tag: str, cells: Sequence[str], kinds: Sequence[str], *, marked: bool = False
) -> str:
    """Return a row; the first cell of a marked one is strong, also without a style."""
    texts = list(map(_escaped, cells))
    if marked:
        texts[0] = f"<strong>{texts[0]}</strong>"
    inside = "".join(
        f"<{tag}{_class(kind)}>{text}</{tag}>"
        for text, kind in zip(texts, kinds, strict=True)
    )
    return f"<tr>{inside}</tr>"


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""
