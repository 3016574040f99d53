"""A user's texts as a datastore for look-up drafting; read and sorted piece by piece, so they may exceed memory."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from paceline.checkpoint import TOKENIZER, resolve_tokenizer, tokenizer_hash
from paceline.segments import Stored, write_segments
from paceline.speculation.fields import FieldError, require
from paceline.speculation.suffixes import Segment, Tokens, backwards

SEGMENT_TOKENS = 1 << 24
"""Tokens of a segment, about: each costs a drafter one binary search, and sorting it some 60 bytes per token here."""
PIECE_CHARACTERS = 1 << 20
"""A longer text file is taken as several texts."""
BATCH = 32


@dataclass
class Built:
    """What went into a datastore."""

    documents: int = 0
    tokens: int = 0


def build_datastore(corpus: Path, out: Path, tokenizer: str) -> Built:
    """Writes a datastore; raises ``FieldError`` for what cannot be read, and then leaves ``out`` as it was."""
    directory = resolve_tokenizer(tokenizer)
    built = Built()
    write_segments(out, tokenizer_hash(directory), _segments(corpus, _load(directory), built))
    return built


def read_corpus(corpus: Path) -> Iterator[str]:
    """The texts of a folder (hidden files left out) or of a file; of ``.jsonl`` the field ``text`` of each line."""
    require(corpus.exists(), "corpus", str(corpus), "a folder of text files, a text file or a .jsonl file")
    inside = (path for path in sorted(corpus.rglob("*")) if path.is_file())
    shown = (path for path in inside if not any(part.startswith(".") for part in path.relative_to(corpus).parts))
    for path in shown if corpus.is_dir() else [corpus]:
        try:
            yield from _lines(path) if path.suffix == ".jsonl" else _pieces(path)
        except UnicodeDecodeError as error:
            raise FieldError("corpus", str(path), f"UTF-8 ({error.reason} at byte {error.start})") from error
        except OSError as error:
            raise FieldError("corpus", str(path), f"a file that can be read ({error.strerror})") from error


def _pieces(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        while piece := file.read(PIECE_CHARACTERS):
            yield piece


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                text = json.loads(line)["text"] if line.strip() else ""
            except (ValueError, KeyError, TypeError):
                text = None
            if not isinstance(text, str):
                raise FieldError("corpus", f"{path}:{number}", 'a JSON object with a string "text"')
            yield text


def _load(directory: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(directory / TOKENIZER))
    except Exception as error:
        raise FieldError("tokenizer", str(directory), f"a {TOKENIZER} that can be read ({error})") from error


def _segments(corpus: Path, tokenizer: Tokenizer, built: Built) -> Iterator[Stored]:
    parts: list[Tokens] = []
    size = 0
    for token_ids in _encoded(corpus, tokenizer):
        parts.append(backwards([token_ids]))
        size += len(token_ids)
        built.documents, built.tokens = built.documents + 1, built.tokens + len(token_ids)
        if size >= SEGMENT_TOKENS:
            yield Stored(Segment.join(parts), documents=len(parts))
            parts, size = [], 0
    require(built.tokens > 0, "corpus", str(corpus), "at least one text that is not empty")
    if parts:
        yield Stored(Segment.join(parts), documents=len(parts))


def _encoded(corpus: Path, tokenizer: Tokenizer) -> Iterator[Tokens]:
    texts = (text for text in read_corpus(corpus) if text)
    while batch := list(itertools.islice(texts, BATCH)):
        for encoding in tokenizer.encode_batch(batch, add_special_tokens=False):
            if encoding.ids:
                yield np.array(encoding.ids, np.uint32)
