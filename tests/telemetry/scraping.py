"""What services export, as Prometheus reads it; and what expressions in its language speak of."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Exported:
    """A metric by the name that it has on the page."""

    name: str
    kind: str
    labels: frozenset[str]
    says: str


@dataclass(frozen=True)
class Scrape:
    """One page of metrics."""

    text: str

    @classmethod
    def of(cls, address: str) -> Scrape:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as reply:
            return cls(reply.read().decode())

    def value(self, name: str, **labels: str) -> float:
        """Sum of all series of this name with these labels."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def exported(self) -> dict[str, Exported]:
        """By name; those without any series are not there."""
        found = {}
        for family in text_string_to_metric_families(self.text):
            if family.samples:
                labels = frozenset(label for sample in family.samples for label in sample.labels) - {"le"}
                name = f"{family.name}_total" if family.type == "counter" else family.name
                found[name] = Exported(name, family.type, labels, family.documentation)
        return found


OF_HISTOGRAMS = ("_bucket", "_sum", "_count")
FROM_SCRAPING = frozenset({"instance", "job", "pod", "namespace"})
"""Labels that whoever scrapes adds."""
WORDS = frozenset(
    {"by", "without", "on", "ignoring", "group_left", "group_right", "and", "or", "unless", "bool", "offset"}
)
_STRING, _RANGE = re.compile(r'"[^"]*"'), re.compile(r"\[[^\]]*\]")
_MATCHERS = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_NAME = re.compile(r"(?<![\w:$.])[a-zA-Z_:][\w:]*(?!\s*\(|[\w:])")


@dataclass(frozen=True)
class Spoken:
    """What an expression names."""

    metrics: frozenset[str]
    matched: frozenset[tuple[str, str]]
    """Metric and label, where one is asked for series of another."""
    grouped: frozenset[str]
    """Labels that it groups by."""

    @classmethod
    def in_(cls, expression: str) -> Spoken:
        """Functions, durations, numbers and variables of dashboards are no metrics."""
        made = set(re.findall(r'label_replace\(.*?"(\w+)", "\$\d', expression))
        text = _RANGE.sub("", _STRING.sub('""', expression))
        matched = {
            (name, re.split("[=!]", matcher)[0].strip())
            for name, matchers in _MATCHERS.findall(text)
            for matcher in matchers.split(",")
        }
        text = _MATCHERS.sub(r"\1", text)
        grouped = {label.strip() for labels in _GROUPING.findall(text) for label in labels.split(",")} - {"", "le"}
        text = _GROUPING.sub("", text)
        return cls(frozenset(_NAME.findall(text)) - WORDS, frozenset(matched), frozenset(grouped - made))


def series(exported: Iterable[Mapping[str, Exported]]) -> dict[str, frozenset[str]]:
    """Names that expressions may use, with their labels."""
    known: dict[str, frozenset[str]] = {}
    for metrics in exported:
        for each in metrics.values():
            names = [each.name + end for end in OF_HISTOGRAMS] if each.kind == "histogram" else [each.name]
            for name in names:
                known[name] = known.get(name, frozenset()) | each.labels
    return known
