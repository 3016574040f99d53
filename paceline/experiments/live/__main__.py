"""``python -m paceline.experiments.live emulate|measure|compare``, in a process of its own: the stand-in for a target
is written with the engine's libraries."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Annotated

import grpc
import typer
from rich.console import Console
from rich.progress import Progress

from paceline import process
from paceline.client import GatewayClient
from paceline.cluster.topology import read_topology
from paceline.errors import FieldError, PacelineError
from paceline.experiments.live import comparison, showing
from paceline.experiments.live.emulation import EMULATED, emulate
from paceline.experiments.live.measurement import MEASURED, Measuring, Texts, check_sweep
from paceline.experiments.reading import read_experiment
from paceline.experiments.results import Row, System
from paceline.experiments.rows import Results, read_results, write_results
from paceline.experiments.specification import Experiment
from paceline.experiments.sweeps import configurations
from paceline.experiments.tables import Prices, prices
from paceline.security.identity import Identity, Trust
from paceline.speculation.fields import every_error, require

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130
WIDTH = 150
app = typer.Typer(add_completion=False, no_args_is_help=True, help="Experiments in real time.")
Specification = Annotated[Path, typer.Argument(help="A YAML file, as paceline/experiments/specs has them.")]
Out = Annotated[Path | None, typer.Option(help="Write rows to this JSON file, after each configuration.")]
Systems = Annotated[str, typer.Option(help="Only these, separated by commas, as alone,trees.")]
Told = Callable[[], None]
Rows = AsyncIterator[list[Row]]


@app.command(name="emulate")
def emulate_(spec: Specification, out: Out = None, systems: Systems = "") -> None:
    """The services themselves on this machine, forwards and wires emulated as SPEC has them."""

    def work() -> None:
        experiment, chosen, paid = _read(spec, systems, EMULATED)
        points = list(configurations(experiment))
        runs = len(chosen) * sum(one.workload.requests for _, one in points)
        process.run_async(_collect(experiment, out, runs, lambda told: emulate(points, paid, chosen, told)))

    _run(work)


@app.command()
def measure(
    spec: Specification,
    gateway: Annotated[str, typer.Option(help="Address of the fleet's gateway.")],
    topology: Annotated[Path | None, typer.Option(help="The fleet's topology.yaml, which has its prices.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Prompts, one a line; default: ten of code.")] = None,
    model: Annotated[str, typer.Option(help="Name of the model; default: the gateway's only one.")] = "",
    out: Out = None,
    systems: Systems = "",
    api_key: Annotated[str | None, typer.Option(envvar="PACELINE_API_KEY", show_default=False)] = None,
    tls_ca: Annotated[Path | None, typer.Option(envvar="PACELINE_TLS_CA")] = None,
    tls_cert: Annotated[Path | None, typer.Option(envvar="PACELINE_TLS_CERT")] = None,
    tls_key: Annotated[Path | None, typer.Option(envvar="PACELINE_TLS_KEY")] = None,
) -> None:
    """The workload of SPEC asked of a fleet that is there, in each mode, at what the fleet costs."""

    def work() -> None:
        experiment, chosen, paid = _read(spec, systems, MEASURED)
        check_sweep(experiment)
        fleet = read_topology(topology) if topology else None
        texts = Texts.read(prompts) if prompts else Texts()
        trust = Identity.of(tls_cert, tls_key, tls_ca) or (Trust(tls_ca) if tls_ca else None)
        points = list(configurations(experiment))

        async def ask() -> None:
            async with GatewayClient(gateway, api_key, trust) as client:
                measuring = Measuring(client, paid, fleet, model, texts)
                await _collect(experiment, out, None, lambda told: measuring.heard_by(told).rows(points, chosen))

        process.run_async(ask())

    _run(work)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="Results, as of a simulation.")],
    second: Annotated[Path, typer.Argument(help="Results of the same experiment by another instrument.")],
    plot: Annotated[Path | None, typer.Option(help="Also draw it, as .svg or .png.")] = None,
) -> None:
    """How far apart the speeds of two instruments are."""

    def work() -> None:
        results = list[Results]()
        with every_error() as checks:
            for file in (first, second):
                with checks.caught():
                    results.append(read_results(file))
        found = comparison.pairs(*results)
        if plot is not None:
            require(plot.suffix in (".svg", ".png"), "plot", str(plot), "a name that ends in .svg or .png")
            comparison.plot(found, plot)
        console = _console()
        console.print(showing.comparison(results[0].experiment.name, found))
        console.print(comparison.result_line(found), soft_wrap=True, highlight=False)

    _run(work)


async def _collect(experiment: Experiment, out: Path | None, total: int | None, rows: Callable[[Told], Rows]) -> None:
    """Writes what is there after each configuration: an interruption loses one."""
    console, found = _console(), list[Row]()
    with Progress(console=console, transient=True, disable=not sys.stdout.isatty()) as bar:
        task = bar.add_task("answers", total=total)
        async for more in rows(lambda: bar.advance(task)):
            found += more
            if out is not None:
                write_results(out, Results.of(experiment, found))
    console.print(showing.table(experiment.name, found))
    console.print(showing.result_line(found), soft_wrap=True, highlight=False)


def _read(spec: Path, systems: str, possible: Sequence[System]) -> tuple[Experiment, list[System], Prices]:
    experiment = read_experiment(spec)
    names = {system.name.lower(): system for system in possible}
    wanted = [name.strip() for name in systems.split(",")] if systems else list(names)
    for name in wanted:
        require(name in names, "systems", name, f"some of {', '.join(names)}")
    return experiment, [names[name] for name in wanted], prices(Path(experiment.prices) if experiment.prices else None)


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else WIDTH)


def _run(work: Callable[[], None]) -> None:
    process.prepare()
    process.interruptible()
    try:
        work()
    except FieldError as wrong:
        for error in wrong.errors:
            sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(BAD_INPUT) from None
    except grpc.aio.AioRpcError as error:
        sys.stderr.write(f"error: {error.code().name}: {error.details()}\n")
        raise typer.Exit(FAILED) from None
    except (PacelineError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


if __name__ == "__main__":
    app(prog_name="paceline experiment")
