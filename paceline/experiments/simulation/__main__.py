"""``python -m paceline.experiments.simulation SPEC``, in a process of its own: the services' code needs the engine's
libraries."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from paceline import process
from paceline.errors import FieldError
from paceline.experiments.reading import read_experiment
from paceline.experiments.rows import Results, write_results
from paceline.experiments.simulation.showing import result_line, table
from paceline.experiments.simulation.sweep import simulate
from paceline.experiments.sweeps import configurations
from paceline.experiments.tables import prices

BAD_INPUT, INTERRUPTED = 2, 130
app = typer.Typer(add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


@app.command()
def main(
    spec: Annotated[Path, typer.Argument(help="A YAML file, as paceline/experiments/specs has them.")],
    fast: Annotated[bool, typer.Option("--fast", help="Draw our services' steps from short runs of them.")] = False,  # noqa: FBT002
    out: Annotated[Path | None, typer.Option(help="Also write every row to this file, as JSON.")] = None,
    processes: Annotated[int, typer.Option(min=0, help="At work at a time; 0: one for each core.")] = 0,
) -> None:
    """Simulate all systems in every configuration of SPEC, in virtual time; the rows depend on SPEC alone."""
    try:
        experiment = read_experiment(spec)
    except FieldError as wrong:
        for error in wrong.errors:
            sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(BAD_INPUT) from None
    console = Console(width=None if sys.stdout.isatty() else 150)
    points = list(configurations(experiment))
    paid = prices(Path(experiment.prices)) if experiment.prices else prices()
    try:
        with Progress(console=console, transient=True, disable=not sys.stdout.isatty()) as bar:
            task = bar.add_task("simulating", total=None)
            rows = simulate(
                points,
                paid,
                fast=fast,
                processes=processes or os.cpu_count() or 1,
                progress=lambda done, of: bar.update(task, completed=done, total=of),
            )
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    if out is not None:
        write_results(out, Results.of(experiment, rows))
    console.print(table(experiment.name, rows))
    console.print(result_line(rows), soft_wrap=True, highlight=False)


if __name__ == "__main__":
    process.interruptible()
    app(prog_name="paceline experiment simulate")
