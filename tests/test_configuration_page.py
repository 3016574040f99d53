"""``docs/configuration.md`` says what the code says; ``python -m tests.test_configuration_page`` writes its tables."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from paceline.cli.services import CONFIGS
from paceline.cluster.topology import (
    DrafterPool,
    GatewayPool,
    ModelRoute,
    Sections,
    TelemetryKeys,
    VerifierPool,
    parse_topology,
)

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"
TYPES = {
    str: "string", int: "whole number", float: "number", bool: "switch", tuple[str, ...]: "strings",
    str | None: "string", Path | None: "path",
}  # fmt: skip


def table(config: type[Any]) -> str:
    """The settings of a service, a row each."""
    hints = get_type_hints(config)
    rows = [
        f"| `{field.name}` | {TYPES[hints[field.name]]} | {default(field)} | {field.metadata['help']} |"
        for field in dataclasses.fields(config)
    ]
    return "\n".join(["| setting | type | default | meaning |", "|---|---|---|---|", *rows, ""])


def default(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING:
        return "required"
    return "" if field.default in ("", None, ()) else f"`{str(field.default).lower()}`"


def with_tables(page: str) -> str:
    for service, config in CONFIGS.items():
        before, mark, rest = page.partition(f"<!-- {service} -->\n")
        page = before + mark + table(config) + rest[rest.index("<!-- end -->") :]
    return page


def example() -> dict[str, Any]:
    found = re.search(r"<!-- topology -->\n```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    return dict(yaml.safe_load(found[1]))


def test_tables_are_current() -> None:
    assert PAGE.read_text() == with_tables(PAGE.read_text())


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        (Sections, ()), (ModelRoute, ("models",)), (VerifierPool, ("verifiers",)), (DrafterPool, ("drafters",)),
        (GatewayPool, ("gateway",)), (TelemetryKeys, ("telemetry",)),
    ],
)  # fmt: skip
def test_the_example_has_every_key_and_its_default(kind: type[Any], place: tuple[str, ...]) -> None:
    given = example()
    for name in place:
        given = given[name]
    parts = (
        given
        if isinstance(given, list)
        else [given]
        if kind in (Sections, GatewayPool, TelemetryKeys)
        else list(given.values())
    )
    values = {name: value for part in parts for name, value in part.items()}
    assert set(values) == {field.name for field in dataclasses.fields(kind)}
    numbers = {item.name: item.default for item in dataclasses.fields(kind) if isinstance(item.default, int | float)}
    assert {name: values[name] for name in numbers} == numbers


def test_the_example_is_a_topology() -> None:
    topology = parse_topology(example())
    assert list(topology.drafters) == ["small", "store", "memory"]
    assert topology.verifiers == {"big": VerifierPool()}
    assert topology.gateway == GatewayPool()


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
