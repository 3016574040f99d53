"""Elements of HTML and SVG; text is escaped, always."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeAlias

from markupsafe import Markup, escape

Content: TypeAlias = str | Markup
_EMPTY = frozenset({"meta", "br"})


def element(name: str, /, *content: Content | None, **attributes: str | float | None) -> Markup:
    """``class_`` is the attribute ``class``, ``stroke_width`` is ``stroke-width``; what is None is left out."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _EMPTY:
        return Markup(f"<{name}{given}>")  # noqa: S704 - as below
    inside = "".join(escape(part) for part in content if part is not None)
    return Markup(f"<{name}{given}>{inside}</{name}>")  # noqa: S704 - all parts are escaped


def together(parts: Iterable[Content | None]) -> Markup:
    return Markup("").join(part for part in parts if part is not None)


def items(parts: Iterable[Content], class_: str | None = None) -> Markup:
    return element("ul", *(element("li", part) for part in parts), class_=class_)


def folded(summary: str, *content: Content | None) -> Markup:
    return element("details", element("summary", summary), *content)


def table(
    columns: Iterable[Content], lines: Iterable[Iterable[Content]], caption: Content | None = None, *, words: int = 1
) -> Markup:
    """``words``: so many columns at the left hold words, the others figures."""
    head = element(
        "tr", *(element("th", column, scope="col", class_=_kind(n, words)) for n, column in enumerate(columns))
    )
    body = [
        element("tr", *(element("th" if n == 0 else "td", cell, class_=_kind(n, words)) for n, cell in enumerate(line)))
        for line in lines
    ]
    whole = element("table", element("thead", head), element("tbody", *body))
    scrolled = element("div", whole, class_="wide", tabindex="0", role="region", aria_label="table")
    return together([scrolled, element("p", caption, class_="source") if caption else None])


def dollars(amount: float) -> str:
    """Cents, or three figures of more than ten dollars, two of less than ten cents."""
    if math.isinf(amount):
        return "-"
    size = abs(amount)
    cents = 0.095 <= size < 10 or size == round(size, 2)
    decimals = 2 if cents and size < 10 else _decimals(size, 3 if size >= 10 else 2)
    figures = f"{size:,.{decimals}f}"
    return f"{'-' if amount < 0 else ''}${figures}"


def figure(amount: float) -> str:
    """Three figures."""
    return f"{amount:,.{_decimals(abs(amount), 3)}f}" if math.isfinite(amount) else "-"


def _decimals(size: float, figures: int) -> int:
    return max(0, figures - 1 - math.floor(math.log10(size) + 1e-9)) if size else 0


def _kind(number: int, words: int) -> str | None:
    return None if number < words else "figure"


def _plain(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
