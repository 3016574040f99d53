"""What all charts are made of: a frame with two axes, marks of systems, and labels that do not cover each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from paceline.experiments.report.markup import Content, element, figure, together
from paceline.experiments.report.scales import Scale
from paceline.experiments.results import System

WIDTH, HEIGHT = 360, 270
LEFT, RIGHT, TOP, BOTTOM = 46, 348, 18, 228
NARROW = 284
"""Where a chart ends whose lines are named beside their ends."""
LETTER = 6.3
"""Of a label, at most so wide."""
SIZE = 4.2
CLASSES = {system: f"s-{system.name.lower()}" for system in System}
_SHAPES = {
    System.ALONE: "M-1,-1H1V1H-1Z",
    System.COLOCATED: "M0,-1.3 1.3,0 0,1.3 -1.3,0Z",
    System.PEARL: "M0,-1.2 1.2,1 -1.2,1Z",
    System.OUTCOMES: "M0,1.2 1.2,-1 -1.2,-1Z",
    System.LOOKUPS: "M-1.2,-.45H-.45V-1.2H.45V-.45H1.2V.45H.45V1.2H-.45V.45H-1.2Z",
}
Box = tuple[float, float, float, float]


def mark(system: System, x: float, y: float, title: str = "", *, filled: bool = True, size: float = SIZE) -> Markup:
    """Each system has its own shape, too, not colour alone."""
    words = element("title", title) if title else None
    looks = f"mark {CLASSES[system]}" if filled else f"mark hollow {CLASSES[system]}"
    if system is System.TREES:
        return element("circle", words, cx=x, cy=y, r=size * 1.1, class_=looks)
    place = f"translate({x:.2f} {y:.2f}) scale({size:g})"
    return element("path", words, d=_SHAPES[system], transform=place, class_=looks)


def line(points: Sequence[tuple[float, float]], class_: str) -> Markup:
    return element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_)


def stroke(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def words(x: float, y: float, text: str, class_: str = "label", anchor: str | None = None) -> Markup:
    return element("text", text, x=x, y=y, class_=class_, text_anchor=anchor)


@dataclass
class Canvas:
    """Draws one chart; ``taken`` is where a label may not be."""

    x: Scale
    y: Scale
    height: float = HEIGHT
    taken: list[Box] = field(default_factory=list)
    parts: list[Content] = field(default_factory=list)

    def add(self, *parts: Content) -> None:
        self.parts += parts

    def keep_free(self, x: float, y: float, size: float = 5.0) -> None:
        self.taken.append((x - size, y - size, x + size, y + size))

    def label(self, x: float, y: float, text: str, class_: str = "label") -> bool:
        """Beside a point, where there is room; nowhere if there is none."""
        wide = LETTER * len(text)
        for dx, dy, anchor in ((8, 4, "start"), (-8, 4, "end"), (0, -8, "middle"), (0, 16, "middle"), (8, -6, "start"),
                               (8, 14, "start"), (-8, -6, "end"), (-8, 14, "end")):  # fmt: skip
            left = x + dx - {"start": 0.0, "middle": wide / 2, "end": wide}[anchor]
            box = (left, y + dy - 9, left + wide, y + dy + 2)
            inside = box[0] >= LEFT and box[2] <= WIDTH - 2 and box[1] >= 0 and box[3] <= BOTTOM
            if inside and not any(_meet(box, other) for other in self.taken):
                self.taken.append(box)
                self.add(words(x + dx, y + dy, text, class_, None if anchor == "start" else anchor))
                return True
        return False

    def ends(self, named: Sequence[tuple[float, str, str]]) -> None:
        """Names of lines at the right of where they end, pushed apart where they would cover each other."""
        last = -math.inf
        for y, text, class_ in sorted(named):
            at = max(y + 3.5, last + 12)
            last = at
            self.add(words(self.x.end + 7, at, text, class_))

    def axes(self, x_title: str, y_title: str, x_ticks: Sequence[float] | None = None) -> None:
        for value in self.y.ticks():
            at = self.y.at(value)
            self.add(
                stroke(self.x.begin, at, self.x.end, at, "grid"), words(LEFT - 5, at + 3.5, _tick(value), "tick", "end")
            )
        last = -math.inf
        for value in x_ticks if x_ticks is not None else self.x.ticks():
            at, text = self.x.at(value), _tick(value)
            half = LETTER * len(text) / 2
            self.add(stroke(at, BOTTOM, at, BOTTOM + 4, "axis"))
            if at - half > last + 3:
                self.add(words(at, BOTTOM + 16, text, "tick", "middle"))
                last = at + half
        self.add(stroke(self.x.begin, BOTTOM, self.x.end, BOTTOM, "axis"))
        self.add(words((self.x.begin + self.x.end) / 2, HEIGHT - 8, x_title, "title", "middle"))
        self.add(words(2, 9, y_title, "title"))

    def drawn(self, says: str) -> Markup:
        """``says``: for those who do not see it."""
        return element("svg", together(self.parts), viewBox=f"0 0 {WIDTH} {self.height:g}", role="img", aria_label=says)


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _tick(value: float) -> str:
    return "0" if abs(value) < 1e-12 else f"{value:g}" if abs(value) < 10_000 else figure(value)
