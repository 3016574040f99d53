"""A text on the terminal, coloured by who guessed each token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style

STYLES = (
    Style(color="bright_blue", underline=True),
    Style(color="yellow", underline2=True),
    Style(color="magenta", underline=True, italic=True),
    Style(color="cyan", underline2=True, italic=True),
    Style(color="green", underline=True, reverse=True),
    Style(color="red", underline2=True, reverse=True),
)
"""By the order in which drafters are first seen. The terminal's own sixteen colours suit its background."""
SEVERAL = Style(bold=True)
"""Added to the first drafter's style where others guessed the same."""


class Colours:
    """Paints tokens; a token that the target said itself is left as it is, and so is everything where ``on`` is not."""

    def __init__(self, *, on: bool) -> None:
        self.on = on
        self._slots: dict[str, int] = {}

    @classmethod
    def of(cls, stream: TextIO) -> Colours:
        """On for a terminal that has colours, unless the environment says NO_COLOR."""
        console = Console(file=stream)
        return cls(on=console.is_terminal and not console.is_dumb_terminal and not console.no_color)

    def paint(self, text: str, drafters: Sequence[str]) -> str:
        """``text`` as it is to be written for a token that these drafters guessed."""
        slots = [self._slots.setdefault(name, len(self._slots)) for name in drafters]
        if not self.on or not slots or not text:
            return text
        style = STYLES[slots[0] % len(STYLES)]
        return _render(style + SEVERAL if len(slots) > 1 else style, text)

    def legend(self) -> str:
        """One line that says who is who; empty where nothing was painted."""
        if not self.on or not self._slots:
            return ""
        names = [_render(STYLES[slot % len(STYLES)], name) for name, slot in self._slots.items()]
        several = [_render(SEVERAL, "several of them")] if len(names) > 1 else []
        return ", ".join(["guessed by: " + names[0], *names[1:], *several, "plain: the target itself"])


def _render(style: Style, text: str) -> str:
    return style.render(text, color_system=ColorSystem.STANDARD)
