"""Checkpoints: where they lie, and their text side, read without torch or transformers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from paceline.errors import FieldError
from paceline.messages import TokenizerFiles
from paceline.speculation.fields import require

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
FILES = (
    "config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer.json",
    "tokenizer_config.json", "chat_template.jinja",
)  # fmt: skip
"""What is downloaded of a model; nothing in it is ever run."""
TOKENIZER = "tokenizer.json"
EMBEDDED = {f"embedded:{name}": Path(__file__).parent / "embedded" / name for name in ("target", "draft")}
"""Names of the embedded pair that mean the same on every machine."""


def located(reference: str) -> Path:
    """Where a checkpoint lies, unless it is a hub id."""
    return EMBEDDED.get(reference) or Path(reference)


def check_reference(field: str, reference: str) -> None:
    """Raises ``FieldError`` unless this is a checkpoint directory or may be a hub id."""
    directory = located(reference)
    right = (directory / "config.json").is_file() or (not directory.exists() and HUB_ID.fullmatch(reference))
    require(bool(right), field, reference, "a directory with a config.json, or a hub id such as Qwen/Qwen3-0.6B")


def resolve(reference: str, files: Sequence[str] = FILES) -> Path:
    """The checkpoint's directory; a hub id is downloaded first unless the hub's cache has it. Takes its time."""
    if located(reference).is_dir():
        return located(reference)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(reference, allow_patterns=list(files)))
    except (OSError, ValueError) as error:
        expected = f"a directory here, or a model that can be downloaded ({type(error).__name__}: {error})"
        raise FieldError("checkpoint", reference, expected) from error


def resolve_tokenizer(reference: str) -> Path:
    """The directory of a checkpoint's ``tokenizer.json``, the only file that is downloaded of a hub id."""
    known = located(reference).is_dir() or HUB_ID.fullmatch(reference)
    directory = resolve(reference, [TOKENIZER]) if known else Path(reference)
    require((directory / TOKENIZER).is_file(), "tokenizer", reference, f"a directory with a {TOKENIZER}, or a hub id")
    return directory


def tokenizer_hash(directory: Path) -> str:
    """SHA-256 of ``tokenizer.json``; empty when there is none."""
    file = directory / TOKENIZER
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else ""


def read_tokenizer(directory: Path) -> TokenizerFiles:
    """Tokenizer, chat template and special tokens; each empty when the checkpoint has none."""
    file, config_file = directory / "tokenizer.json", directory / "tokenizer_config.json"
    config = json.loads(config_file.read_text()) if config_file.exists() else {}
    template_file = directory / "chat_template.jinja"
    template = template_file.read_text() if template_file.exists() else config.get("chat_template") or ""
    return TokenizerFiles(
        tokenizer_hash=tokenizer_hash(directory),
        tokenizer_json=file.read_bytes() if file.exists() else b"",
        chat_template=template if isinstance(template, str) else "",
        special_tokens={
            name: token for name in ("bos_token", "eos_token") if isinstance(token := config.get(name), str)
        },
    )
