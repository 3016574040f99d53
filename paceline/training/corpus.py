"""The training text: Python's own standard library, with edit pairs mixed in.

Every split is made by a stable hash of the file's name, so that two machines with the same Python hold out the same
files.
"""

from __future__ import annotations

import ast
import hashlib
import random
import re
import sysconfig
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

HELD_OUT_PERCENT = 2
END_OF_TEXT = "<|endoftext|>"
EDIT_SEPARATOR = "\n\n# The same function, with `{old}` renamed to `{new}`:\n\n"
_NEW_NAMES = (
    "value", "item", "entry", "node", "total", "result", "buffer", "target", "record", "source", "payload",
    "handle", "cursor", "element", "parent", "context", "counter", "options", "message", "current",
)  # fmt: skip

TokenArray = np.ndarray[tuple[int], np.dtype[np.uint16]]


@dataclass(frozen=True)
class Document:
    """One source file: its path below the standard library and its text."""

    name: str
    text: str

    @property
    def held_out(self) -> bool:
        digest = hashlib.sha256(self.name.encode()).digest()
        return int.from_bytes(digest[:8], "big") % 100 < HELD_OUT_PERCENT


def standard_library() -> list[Document]:
    """All readable UTF-8 Python files of the standard library, sorted by name, third-party packages left out."""
    root = Path(sysconfig.get_paths()["stdlib"])
    documents = []
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if "site-packages" in name:
            continue
        try:
            documents.append(Document(name, path.read_text("utf-8")))
        except (UnicodeDecodeError, OSError):
            continue  # the library's own tests hold files in other encodings on purpose
    return documents


def edit_pairs(text: str, rng: random.Random) -> Iterator[str]:
    """Functions of ``text``, each followed by itself with one local identifier renamed."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    lines = text.splitlines()
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef) or node.end_lineno is None:
            continue
        source = textwrap.dedent("\n".join(lines[node.lineno - 1 : node.end_lineno]))
        locals_ = sorted({n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)})
        if not 4 <= source.count("\n") <= 30 or not locals_:
            continue
        old, new = rng.choice(locals_), rng.choice(_NEW_NAMES)
        if new in source:
            continue
        renamed = re.sub(rf"\b{re.escape(old)}\b", new, source)
        yield source + EDIT_SEPARATOR.format(old=old, new=new) + renamed + "\n"


def encode(tokenizer: Tokenizer, texts: list[str]) -> TokenArray:
    """All texts in one token array, an end-of-text token after each."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    pieces = [np.array([*encoding.ids, end], np.uint16) for encoding in tokenizer.encode_batch_fast(texts)]
    return np.concatenate(pieces) if pieces else np.zeros(0, np.uint16)


@dataclass(frozen=True)
class Corpus:
    """Token streams: training text, training edit pairs, held-out text."""

    train: TokenArray
    edits: TokenArray
    held_out: TokenArray

    @classmethod
    def build(cls, tokenizer: Tokenizer, cache: Path) -> Corpus:
        """Encodes the standard library, or loads what an earlier call with the same cache file encoded."""
        if not cache.exists():
            documents, rng = standard_library(), random.Random(0)
            training = [d.text for d in documents if not d.held_out]
            edits = [pair for text in training for pair in edit_pairs(text, rng)]
            rng.shuffle(edits)
            np.savez(
                cache,
                train=encode(tokenizer, training),
                edits=encode(tokenizer, edits),
                held_out=encode(tokenizer, [d.text for d in documents if d.held_out]),
            )
        with np.load(cache) as arrays:
            return cls(arrays["train"], arrays["edits"], arrays["held_out"])

    def batch(
        self, rng: np.random.Generator, rows: int, length: int
    ) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        """``rows`` random windows of ``length`` tokens, one in five from the edit pairs."""
        picks = rng.random(rows) < 0.2
        sources = [self.edits if edit and len(self.edits) > length else self.train for edit in picks]
        starts = [int(rng.integers(0, len(source) - length)) for source in sources]
        windows = [source[s : s + length] for source, s in zip(sources, starts, strict=True)]
        return np.stack(windows).astype(np.int64)
