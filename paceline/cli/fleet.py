"""Which fleet the command line means."""

from __future__ import annotations

from pathlib import Path

from paceline.cluster.topology import Topology, read_topology
from paceline.embedded import DRAFT, MODEL_ID, TARGET, pair_topology
from paceline.speculation.fields import require


def fleet_topology(file: Path | None, target: Path | None, draft: Path | None) -> Topology:
    """A file, or a target with an optional draft, or the embedded pair."""
    if file is not None:
        require(target is None and draft is None, "target", str(target or draft), "nothing beside a topology file")
        return read_topology(file)
    if target is None:
        return pair_topology(TARGET, _checkpoint("draft", draft) if draft else DRAFT, MODEL_ID)
    return pair_topology(
        _checkpoint("target", target), _checkpoint("draft", draft) if draft else None, target.resolve().name
    )


def _checkpoint(field: str, path: Path) -> Path:
    require((path / "config.json").is_file(), field, str(path), "a directory with a config.json")
    return path
