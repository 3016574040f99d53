"""Which fleet the command line means."""

from __future__ import annotations

from pathlib import Path

from paceline.checkpoint import check_reference, resolve
from paceline.cluster.topology import Topology, read_topology
from paceline.embedded import DRAFT, MODEL_ID, TARGET, pair_topology
from paceline.speculation.fields import require


def fleet_topology(file: Path | None, target: str | None, draft: str | None) -> Topology:
    """A file, or a target with an optional draft, or the embedded pair."""
    if file is not None:
        require(target is None and draft is None, "target", target or draft, "nothing beside a topology file")
        return read_topology(file)
    draft = _local("draft", draft)
    if target is None:
        return pair_topology(str(TARGET), draft or str(DRAFT), MODEL_ID)
    return pair_topology(_local("target", target) or target, draft, Path(target).absolute().name)


def _local(field: str, reference: str | None) -> str | None:
    """A checkpoint's directory, downloaded here and once rather than by each worker."""
    if reference is None:
        return None
    check_reference(field, reference)
    return str(resolve(reference))
