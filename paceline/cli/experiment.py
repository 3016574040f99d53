"""``paceline experiment``: which drafters on which cards, how many, for how much."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from paceline.errors import FieldError

experiment = typer.Typer(no_args_is_help=True, help="Cost experiments: which drafters on which cards, and what for.")

BAD_INPUT = 2
HANDED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
Specification = Annotated[Path, typer.Argument(help="A YAML file, as paceline/experiments/specs has them.")]


@experiment.command()
def check(spec: Specification) -> None:
    """Check SPEC; every error at once, and status 2 if there is one."""
    from paceline.experiments.reading import read_experiment
    from paceline.experiments.sweeps import configurations

    try:
        found = read_experiment(spec)
    except FieldError as wrong:
        for error in wrong.errors:
            typer.echo(f"error: {error}", err=True)
        typer.echo(f"{spec}: {len(wrong.errors)} errors")
        raise typer.Exit(BAD_INPUT) from None
    typer.echo(f"{spec}: 0 errors, {sum(1 for _ in configurations(found))} configurations")


@experiment.command(context_settings=HANDED_ON)
def simulate(context: typer.Context) -> None:
    """Simulate all systems in every configuration of SPEC (try: paceline experiment simulate --help)."""
    os.execv(sys.executable, [sys.executable, "-m", "paceline.experiments.simulation", *context.args])  # noqa: S606


@experiment.command(context_settings=HANDED_ON)
def emulate(context: typer.Context) -> None:
    """Run the services themselves, forwards emulated as SPEC says (try: paceline experiment emulate --help)."""
    _live("emulate", context)


@experiment.command(context_settings=HANDED_ON)
def measure(context: typer.Context) -> None:
    """Put the workload of SPEC to a fleet that is there (try: paceline experiment measure --help)."""
    _live("measure", context)


@experiment.command(context_settings=HANDED_ON)
def compare(context: typer.Context) -> None:
    """Hold the results of two instruments against each other (try: paceline experiment compare --help)."""
    _live("compare", context)


def _live(command: str, context: typer.Context) -> None:
    module = "paceline.experiments.live"
    os.execv(sys.executable, [sys.executable, "-m", module, command, *context.args])  # noqa: S606


@experiment.command()
def report(
    results: Annotated[list[Path], typer.Argument(help="Files that simulate, emulate or measure wrote with --out.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page: one file of HTML that loads nothing.")],
    csv: Annotated[Path | None, typer.Option("--csv", help="Also write every row to this file.")] = None,
) -> None:
    """Write a page that says what RESULTS mean: which drafters are worth their price, and where that ends."""
    from paceline.experiments.report.page import report as page
    from paceline.experiments.rows import read_results, rows_to_csv, write_text

    every, wrong = [], list[str]()
    for file in results:
        try:
            every.append(read_results(file))
        except FieldError as error:
            wrong += [str(one) for one in error.errors]
    try:
        if not wrong:
            write_text(out, page(every))
        if not wrong and csv is not None:
            write_text(csv, rows_to_csv(every))
    except (FieldError, OSError) as error:
        wrong.append(str(error))
    for line in wrong:
        typer.echo(f"error: {line}", err=True)
    if wrong:
        raise typer.Exit(BAD_INPUT)
    of = "1 experiment" if len(every) == 1 else f"{len(every)} experiments"
    typer.echo(f"{out}: {sum(len(one.rows) for one in every)} rows of {of}")


@experiment.command()
def validate() -> None:
    """Hold predictions against published speeds, each task left out of what predicts it."""
    from paceline.experiments.validation.report import validate as print_validation

    print_validation()
