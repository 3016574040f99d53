"""``paceline keys add``: a new key for the gateway, shown once; the file keeps its hash."""

from __future__ import annotations

import os
import secrets
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
import yaml

from paceline.speculation.fields import FieldError, require

BAD_INPUT = 2

keys = typer.Typer(no_args_is_help=True, help="Keys that the gateway lets in (--api-keys).")


class Priority(Enum):
    INTERACTIVE = "interactive"
    BATCH = "batch"


@keys.callback()
def group() -> None:
    """Keys that the gateway lets in (--api-keys)."""


@keys.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose key it is: letters, digits, dots, dashes, underscores.")],
    file: Annotated[Path, typer.Option(help="The gateway's file of keys; made if there is none.")] = Path("keys.yaml"),
    priority: Annotated[Priority, typer.Option(help="What waits: interactive is served first.")] = Priority.INTERACTIVE,
    requests_per_minute: Annotated[int | None, typer.Option(help="Default: no limit.")] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(help="Of prompts and completions together; default: no limit.")
    ] = None,
    concurrent: Annotated[int | None, typer.Option(help="Requests at a time; default: no limit.")] = None,
) -> None:
    """Print a new random key, once, and append its hash to the file."""
    limits = {
        "requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute, "concurrent": concurrent,
    }  # fmt: skip
    given = {field: value for field, value in limits.items() if value is not None}
    try:
        key = add_key(file, name, priority.value, given)
    except FieldError as error:
        typer.echo(f"paceline: {error}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    typer.echo(key)


def add_key(file: Path, name: str, priority: str, limits: dict[str, int]) -> str:
    """Appends an entry and returns the new key; comments and order of the file stay."""
    from gateway.callers import Callers, hash_key, parse_keys

    key = f"pl-{secrets.token_urlsafe(32)}"
    before = file.read_text() if file.exists() else ""
    require(not before or before.endswith("\n"), "file", str(file), "a newline at its end")
    entry = {"name": name, "sha256": hash_key(key), "priority": priority, **limits}
    after = before + yaml.safe_dump([entry], sort_keys=False)
    Callers(parse_keys(after, str(file)))
    _write(file, after)
    return key


def _write(file: Path, text: str) -> None:
    """All or nothing; hashes are for the gateway's eyes only."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
    beside.replace(file)
