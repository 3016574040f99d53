"""The text side of a checkpoint directory, read without torch or transformers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from paceline.messages import TokenizerFiles


def tokenizer_hash(directory: Path) -> str:
    """SHA-256 of ``tokenizer.json``; empty when there is none."""
    file = directory / "tokenizer.json"
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
