"""Segments on disk: a folder of arrays that are memory-mapped, and an index that names the tokenizer they came from."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paceline.speculation.fields import FieldError, require
from paceline.speculation.suffixes import Segment

FORMAT = 1
POSITION = re.compile(r"\d+-\d+")
_INDEX = "index.json"


@dataclass(frozen=True)
class Stored:
    """A segment with whom it belongs to and how many documents it holds."""

    segment: Segment
    scope: str = ""
    documents: int = 0


def write_segments(directory: Path, tokenizer_hash: str, parts: Iterable[Stored], position: str = "") -> None:
    """Writes all beside ``directory`` and puts it there when it is complete; replaces only what was written here.

    ``position``: where in a stream of texts the last of them stood.
    """
    check_writable(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = (directory.with_name(f".{directory.name}.{end}") for end in ("new", "old"))
    for left in (fresh, old):
        shutil.rmtree(left, ignore_errors=True)
    fresh.mkdir()
    try:
        described = [_write(fresh, number, part) for number, part in enumerate(parts)]
        index = {"format": FORMAT, "tokenizer_hash": tokenizer_hash, "segments": described}
        index |= {"position": position} if position else {}
        (fresh / _INDEX).write_text(json.dumps(index, indent=1) + "\n")
        if directory.exists():
            directory.rename(old)
        fresh.rename(directory)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def check_writable(directory: Path, field: str = "out") -> None:
    """Raises ``FieldError`` where something lies that was not written here."""
    free = (
        not directory.exists()
        or (directory / _INDEX).is_file()
        or (directory.is_dir() and not any(directory.iterdir()))
    )
    require(free, field, str(directory), "a new or empty folder, or one to be replaced by its like")


def read_segments(directory: Path, tokenizer_hash: str, field: str) -> list[Stored]:
    """Maps what ``write_segments`` wrote; a ``FieldError`` says if it is broken or of another tokenizer."""
    index = _read_index(directory, field)
    built_with = index["tokenizer_hash"]
    expected = f"one built with tokenizer {tokenizer_hash[:12] or '(none)'}, not {built_with[:12]}"
    require(built_with == tokenizer_hash, field, str(directory), expected)
    try:
        return list(_map(directory, index["segments"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FieldError(field, str(directory), f"whole arrays ({type(error).__name__}: {error})") from error


def read_position(directory: Path, field: str) -> str:
    """The ``position`` that was written, empty if there was none."""
    position = _read_index(directory, field).get("position", "")
    right = isinstance(position, str) and (not position or POSITION.fullmatch(position))
    require(bool(right), field, str(directory), f"a position such as 1526919030474-55 in its {_INDEX}")
    return str(position)


def _write(directory: Path, number: int, part: Stored) -> dict[str, Any]:
    np.save(directory / f"{number}.tokens.npy", part.segment.tokens)
    np.save(directory / f"{number}.order.npy", part.segment.order)
    return {"scope": part.scope, "documents": part.documents, "tokens": len(part.segment)}


def _read_index(directory: Path, field: str) -> dict[str, Any]:
    expected = f"a folder that paceline wrote, with an {_INDEX} of format {FORMAT}"
    try:
        index = json.loads((directory / _INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FieldError(field, str(directory), expected) from error
    right = isinstance(index, dict) and index.get("format") == FORMAT
    right = right and isinstance(index.get("tokenizer_hash"), str) and isinstance(index.get("segments"), list)
    require(right, field, str(directory), expected)
    return dict(index)


def _map(directory: Path, described: list[dict[str, Any]]) -> Iterator[Stored]:
    for number, about in enumerate(described):
        tokens = np.load(directory / f"{number}.tokens.npy", mmap_mode="r")
        order = np.load(directory / f"{number}.order.npy", mmap_mode="r")
        if tokens.dtype != np.uint32 or order.dtype != np.int32 or len(tokens) != about["tokens"]:
            raise ValueError(f"segment {number} is not what the index says")
        yield Stored(Segment(tokens, order), str(about["scope"]), int(about["documents"]))
