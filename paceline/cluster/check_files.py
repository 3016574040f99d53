"""What a topology asks of the disk: checkpoints, tokenizers that agree, datastores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from paceline.checkpoint import HUB_ID, TOKENIZER, check_reference, located, tokenizer_hash
from paceline.cluster.findings import Findings
from paceline.cluster.topology import MODEL_KINDS, DrafterPool, ModelRoute, Sections
from paceline.errors import FieldError
from paceline.security.identity import OPERATOR, Identity
from paceline.segments import read_segments

_UNCHECKED = "a hub id, not checked: nothing is downloaded here"


def check_files(sections: Sections, findings: Findings) -> None:
    """Notes what is missing, broken, or does not fit together."""
    for model in sections.models:
        if model.target:
            _check_checkpoint(f"models.{model.id}.target", model.target, findings)
    for name, pool in sections.drafters.items():
        if pool.model and pool.kind in MODEL_KINDS:
            _check_checkpoint(f"drafters.{name}.model", pool.model, findings)
        if pool.tokenizer:
            _check_tokenizer(f"drafters.{name}.tokenizer", pool.tokenizer, findings)
        if pool.datastore and pool.kind == "datastore":
            _check_datastore(f"drafters.{name}.datastore", pool, findings)
    for model in sections.models:
        for name in model.drafters:
            if name in sections.drafters:
                _check_vocabulary(f"drafters.{name}", sections.drafters[name], model, findings)


def check_certificates(directory: str, findings: Findings) -> None:
    """Notes a folder that is none of certificates; each service checks its own when it starts."""
    identity = Identity.within(Path(directory), OPERATOR)
    if not (identity.ca.is_file() and identity.certificate.is_file()):
        findings.error("tls", directory, "what 'paceline certs init' wrote")


def _check_checkpoint(key: str, reference: str, findings: Findings) -> None:
    try:
        check_reference(key, reference)
    except FieldError as error:
        findings.errors.append(error)
        return
    directory = located(reference)
    if not directory.is_dir():
        findings.warn(key, reference, _UNCHECKED)
        return
    if not _read_json(directory / "config.json"):
        findings.error(key, reference, "a config.json that is a JSON object")
    shards = _shards(directory)
    missing = [shard for shard in shards if not (directory / shard).is_file()]
    if missing or not shards:
        findings.error(key, reference, f"weights in that directory ({', '.join(missing) or '*.safetensors'})")
    if not (directory / TOKENIZER).is_file():
        findings.warn(key, reference, f"has no {TOKENIZER}, so it takes and gives token ids only")


def _shards(directory: Path) -> list[str]:
    """The files of the weights: those of their index, if there is one."""
    for index in directory.glob("*.safetensors.index.json"):
        weights = _read_json(index).get("weight_map")
        return sorted({str(shard) for shard in weights.values()}) if isinstance(weights, dict) else []
    return [file.name for file in directory.glob("*.safetensors")]


def _check_tokenizer(key: str, reference: str, findings: Findings) -> None:
    if (located(reference) / TOKENIZER).is_file():
        return
    if not Path(reference).exists() and HUB_ID.fullmatch(reference):
        findings.warn(key, reference, _UNCHECKED)
    else:
        findings.error(key, reference, f"a directory with a {TOKENIZER}, or a hub id")


def _check_datastore(key: str, pool: DrafterPool, findings: Findings) -> None:
    directory, vocabulary = Path(pool.datastore), _vocabulary(pool.tokenizer or pool.model)
    if not directory.is_dir():
        findings.error(key, pool.datastore, "what 'paceline datastore build' wrote")
    elif not vocabulary:
        findings.warn(key, pool.datastore, "not checked, since its tokenizer is not here")
    else:
        try:
            read_segments(directory, vocabulary, key)
        except FieldError as error:
            findings.errors.append(error)


def _check_vocabulary(key: str, pool: DrafterPool, model: ModelRoute, findings: Findings) -> None:
    """A drafter whose tokens are others than the target's drafts in vain."""
    given = "tokenizer" if pool.tokenizer else "model"
    reference = pool.tokenizer or pool.model
    ours, theirs = _vocabulary(model.target), _vocabulary(reference)
    if ours and theirs and ours != theirs:
        findings.warn(f"{key}.{given}", reference, f"has another {TOKENIZER} than models.{model.id}.target")
    if pool.kind in MODEL_KINDS and pool.model:
        target_size, size = (
            _read_json(located(of) / "config.json").get("vocab_size") for of in (model.target, pool.model)
        )
        if isinstance(size, int) and isinstance(target_size, int) and size > target_size:
            says = f"has {size} tokens, models.{model.id}.target only {target_size}"
            findings.warn(f"{key}.model", pool.model, says)


def _vocabulary(reference: str) -> str:
    """Hash of the tokenizer; empty when it is not in a directory here."""
    return tokenizer_hash(located(reference)) if reference and located(reference).is_dir() else ""


def _read_json(file: Path) -> dict[str, Any]:
    """Empty when there is no JSON object."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
