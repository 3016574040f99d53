"""``paceline config``: what a fleet's settings come to, and whether a topology can be started here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from paceline.errors import FieldError

config = typer.Typer(no_args_is_help=True, help="Settings of a fleet: shown, or checked.")

BAD_INPUT = 2


@config.command()
def check(file: Annotated[Path, typer.Argument(help="A topology.yaml.")]) -> None:
    """Check FILE and what it asks of this machine; every error at once, and status 2 if there is one."""
    from paceline.cli.services import check_topology

    findings = check_topology(file)
    for error in findings.errors:
        typer.echo(f"error: {error}", err=True)
    for warning in findings.warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(f"{file}: {len(findings.errors)} errors, {len(findings.warnings)} warnings")
    if findings.errors:
        raise typer.Exit(BAD_INPUT)


@config.command()
def show(
    file: Annotated[Path | None, typer.Argument(help="A topology.yaml; default: the embedded pair.")] = None,
    worker: Annotated[str, typer.Option(help="Only this one, as its service takes it with --config.")] = "",
) -> None:
    """Print the settings of every service that 'paceline up' would start, and where they come from."""
    from paceline.cli.services import show_settings

    try:
        typer.echo(show_settings(file, worker))
    except FieldError as found:
        for error in found.errors:
            typer.echo(f"error: {error}", err=True)
        raise typer.Exit(BAD_INPUT) from None
