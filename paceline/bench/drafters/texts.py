"""Texts to draft for: held-out code, edit pairs, calls whose definitions stand far above them. All of it is real."""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tokenizers import Tokenizer

from paceline.training.corpus import Document, edit_pairs, standard_library

PROMPT_TOKENS, LONG_PROMPT_TOKENS = 300, 2900
FAR_TOKENS = 2000
"""Between a definition and the call that is completed."""


@dataclass(frozen=True)
class Task:
    """A prompt, and how the real text goes on."""

    prompt: tuple[int, ...]
    continuation: tuple[int, ...]


def tasks(name: str, tokenizer: Tokenizer, count: int, tokens: int) -> list[Task]:
    """The first ``count`` tasks of a kind, with at least ``tokens`` to go on."""
    found = []
    for document in standard_library():
        if document.held_out:
            found += list(KINDS[name](document, tokenizer, tokens))[:1]  # one of each file
        if len(found) == count:
            break
    return found


def _code(document: Document, tokenizer: Tokenizer, tokens: int) -> Iterator[Task]:
    """The middle of a file, after what comes before it."""
    ids = tokenizer.encode(document.text).ids
    start = len(ids) // 2 - PROMPT_TOKENS
    if start >= 0 and len(ids) >= start + PROMPT_TOKENS + tokens:
        yield _cut(ids[start:], PROMPT_TOKENS, tokens)


def _edits(document: Document, tokenizer: Tokenizer, tokens: int) -> Iterator[Task]:
    """A function again with one name changed; the answer repeats most of the prompt."""
    for pair in edit_pairs(document.text, random.Random(0)):
        ids = tokenizer.encode(pair).ids
        prompt = len(tokenizer.encode(pair[: pair.index("`:\n\n") + 4]).ids)
        if len(ids) - prompt >= tokens:
            yield _cut(ids, prompt, tokens)


def _calls(document: Document, tokenizer: Tokenizer, tokens: int) -> Iterator[Task]:
    """A call just begun, of something that was defined at least ``FAR_TOKENS`` before."""
    for call, definition in _far_calls(document.text):
        before = tokenizer.encode(document.text[:call]).ids
        distance = len(before) - len(tokenizer.encode(document.text[:definition]).ids)
        after = tokenizer.encode(document.text[call : call + 8 * tokens]).ids
        if FAR_TOKENS <= distance < LONG_PROMPT_TOKENS - 50 and len(after) >= tokens:
            yield Task(tuple(before[-LONG_PROMPT_TOKENS:]), tuple(after[:tokens]))


def _far_calls(text: str) -> Iterator[tuple[int, int]]:
    """Where calls' arguments begin, and where what they call is defined, as offsets."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    defined = {
        node.name: starts[node.lineno - 1]
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.func.end_col_offset is not None and text.isascii():
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            call = starts[(node.func.end_lineno or 1) - 1] + node.func.end_col_offset + 1
            if name in defined and call > defined[name]:
                yield call, defined[name]


KINDS: dict[str, Callable[[Document, Tokenizer, int], Iterator[Task]]] = {
    "code": _code, "edits": _edits, "calls": _calls,
}  # fmt: skip


def _cut(ids: Sequence[int], prompt: int, tokens: int) -> Task:
    return Task(tuple(ids[:prompt]), tuple(ids[prompt : prompt + tokens]))
