"""``paceline datastore build``: a corpus becomes what drafters of kind datastore look up."""

from __future__ import annotations

import time
from pathlib import Path

import typer

from paceline.datastore import build_datastore


def run_build(corpus: Path, out: Path, tokenizer: str) -> None:
    """Builds and says what came of it."""
    start = time.monotonic()
    built = build_datastore(corpus, out, tokenizer)
    megabytes = sum(file.stat().st_size for file in out.iterdir()) / 1e6
    seconds = time.monotonic() - start
    typer.echo(
        f"{out}: {built.documents} texts, {built.tokens} tokens, {megabytes:.1f} MB, built in {seconds:.1f} s\n"
        f"in a topology: {{kind: datastore, datastore: {out}, tokenizer: {tokenizer}}}"
    )
