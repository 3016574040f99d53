"""``docs/observability.md``, the dashboard and the alerts name what a fleet that runs exports, and nothing else.

``python -m tests.telemetry.test_metrics_page`` writes the page's tables.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from paceline.cluster.local import LocalCluster
from tests.telemetry.conftest import two_verifiers, use
from tests.telemetry.scraping import FROM_SCRAPING, Exported, Scrape, Spoken, series

ROOT = Path(__file__).parents[2]
PAGE, MONITORING = ROOT / "docs" / "observability.md", ROOT / "k8s" / "components" / "monitoring"
PATIENCE_SECONDS = 60.0
Tables = dict[str, dict[str, Exported]]


def tables_of(fleet: LocalCluster) -> Tables:
    """By service; vLLM's names for themselves."""
    gateway = Scrape.of(fleet.http_address).exported()
    scrapes = {name: Scrape.of(address).exported() for name, address in fleet.metrics_addresses.items()}
    verifiers = [known for name, known in scrapes.items() if name.startswith("verifier")]
    drafters = [known for name, known in scrapes.items() if not name.startswith("verifier")]
    return {
        "gateway": {name: each for name, each in gateway.items() if not name.startswith("vllm:")},
        "verifier": together(verifiers),
        "drafter": together(drafters),
        "vllm": {name: each for name, each in gateway.items() if name.startswith("vllm:")},
    }


def together(scrapes: list[dict[str, Exported]]) -> dict[str, Exported]:
    found: dict[str, Exported] = {}
    for scrape in scrapes:
        for name, each in scrape.items():
            labels = each.labels | (found[name].labels if name in found else frozenset())
            found[name] = Exported(name, each.kind, labels, each.says)
    return found


def table(metrics: Mapping[str, Exported]) -> str:
    rows = [
        f"| `{each.name}` | {each.kind} | {', '.join(f'`{label}`' for label in sorted(each.labels))} | {each.says} |"
        for each in metrics.values()
    ]
    return "\n".join(["| name | kind | labels | meaning |", "|---|---|---|---|", *sorted(rows), ""])


def with_tables(page: str, tables: Tables) -> str:
    for service, metrics in tables.items():
        before, mark, rest = page.partition(f"<!-- metrics of {service} -->\n")
        page = before + mark + table(metrics) + rest[rest.index("<!-- end -->") :]
    return page


def expressions() -> Iterator[str]:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))
    for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["spec"]["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


@pytest.mark.asyncio(loop_scope="module")
async def test_the_page_says_what_is_exported(fleet: LocalCluster) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    page = PAGE.read_text()
    while with_tables(page, tables_of(fleet)) != page and time.monotonic() < deadline:
        await use(fleet)  # a drafter that was chosen late may not have been heard of
    assert with_tables(page, tables_of(fleet)) == page


@pytest.mark.asyncio(loop_scope="module")
async def test_what_dashboard_and_alerts_name_is_exported(fleet: LocalCluster) -> None:
    known = series(tables_of(fleet).values())
    for expression in expressions():
        spoken = Spoken.in_(expression)
        assert spoken.metrics, expression
        assert spoken.metrics <= known.keys(), expression
        for metric, label in spoken.matched:
            assert label in known[metric] | FROM_SCRAPING, expression
        possible = FROM_SCRAPING.union(*(known[metric] for metric in spoken.metrics))
        assert spoken.grouped <= possible, expression


def test_what_expressions_speak_of_is_found() -> None:
    found = Spoken.in_('quantile(0.9, sum by (le, a) (rate(x_bucket{b="sum(y)", c!~"d"}[5m]))) / scalar(z) > 1e6')
    matched = {("x_bucket", "b"), ("x_bucket", "c")}
    assert found == Spoken(frozenset({"x_bucket", "z"}), frozenset(matched), frozenset("a"))
    replaced = 'label_replace(max by (w) (p{r="d"}), "e", "$1", "w", "(.*)")'
    joined = Spoken.in_(f"{replaced} and on (e) q:r offset 5m * $price or absent(s)")
    assert joined.metrics == {"p", "q:r", "s"}
    assert joined.grouped == {"w"}


def test_alerts_lead_to_panels() -> None:
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    titles = [panel["title"] for panel in dashboard["panels"]]
    assert len(titles) == len(set(titles))
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["spec"]["groups"]
    summaries = [rule["annotations"]["summary"] for group in groups for rule in group["rules"]]
    named = {title for summary in summaries for title in re.findall(r"'([^']+)'", summary.partition("Panel")[2])}
    assert named
    assert named <= set(titles)


async def _write() -> None:
    async with LocalCluster(two_verifiers()) as fleet:
        await use(fleet)
        PAGE.write_text(with_tables(PAGE.read_text(), tables_of(fleet)))


if __name__ == "__main__":
    asyncio.run(_write())
