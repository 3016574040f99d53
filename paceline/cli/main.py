"""``paceline``: generate text, run a local fleet, serve one service."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated

import grpc
import typer

from paceline import __version__
from paceline.cli.certs import certs
from paceline.cli.config import config
from paceline.cli.experiment import experiment
from paceline.cli.keys import keys
from paceline.cli.place import Place
from paceline.cli.render import render
from paceline.errors import FieldError, PacelineError, Unavailable
from paceline.process import run_async
from paceline.speculation.fields import require
from paceline.speculation.policy import Mode, Shape, SpeculationParameters
from paceline.speculation.sampling import SamplingParameters

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Speculative decoding across machines: drafters guess, one verifier checks, the text stays the target's own.",
)

datastore = typer.Typer(no_args_is_help=True, help="Texts of your own that drafters look up.")
app.add_typer(datastore, name="datastore")
app.add_typer(config, name="config")
app.add_typer(keys, name="keys")
app.add_typer(certs, name="certs")
app.add_typer(render, name="render")
app.add_typer(experiment, name="experiment")

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130


class ServiceName(Enum):
    GATEWAY = "gateway"
    VERIFIER = "verifier"
    DRAFTER = "drafter"


Target = Annotated[str | None, typer.Option(help="Target checkpoint: a directory or a hub id; default: embedded.")]
Draft = Annotated[str | None, typer.Option(help="Draft checkpoint, likewise; default: the embedded one, or none.")]
TlsCa = Annotated[Path | None, typer.Option(help="TLS: whose certificates are believed.", envvar="PACELINE_TLS_CA")]
TlsCertificate = Annotated[
    Path | None, typer.Option(help="Our own, for a gateway without keys.", envvar="PACELINE_TLS_CERT")
]
TlsKey = Annotated[Path | None, typer.Option(help="The key of our certificate.", envvar="PACELINE_TLS_KEY")]
ApiKey = Annotated[
    str | None, typer.Option(help="For a gateway that asks for one.", envvar="PACELINE_API_KEY", show_default=False)
]
RayAddress = Annotated[str, typer.Option(help="Of the Ray cluster, HOST:PORT; auto: the one that this machine is in.")]


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="Text to continue; '-' reads standard input.")],
    max_tokens: Annotated[int, typer.Option(help="Most tokens to generate.")] = 128,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.8,
    top_p: Annotated[float, typer.Option(help="Nucleus; 1 is off.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Best so many tokens; 0 is off.")] = 0,
    seed: Annotated[int | None, typer.Option(help="Equal seeds give equal texts; default: a random one.")] = None,
    mode: Annotated[Mode, typer.Option(help="How drafting and verifying relate.")] = Mode.OVERLAPPED,
    shape: Annotated[Shape, typer.Option(help="What drafters send.")] = Shape.TREE,
    model: Annotated[str, typer.Option(help="Name of the model; default: the gateway's only one.")] = "",
    gateway: Annotated[
        str | None, typer.Option(help="Address of a running gateway; default: start a local fleet.")
    ] = None,
    api_key: ApiKey = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCertificate = None,
    tls_key: TlsKey = None,
    target: Target = None,
    draft: Draft = None,
    timeline: Annotated[
        Path | None, typer.Option(help="Also write what happened when: a page (.html), or for Perfetto (.json).")
    ] = None,
    against: Annotated[
        Mode | None, typer.Option(help="With --timeline: run it in this mode first, drawn above on the same axis.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on one line instead of text.")] = False,
) -> None:
    """Continue PROMPT."""
    from paceline.cli.generate import Drawing, Gateway, run_generate
    from paceline.cli.trust import client_trust
    from paceline.messages import Generate

    text = sys.stdin.read() if prompt == "-" else prompt

    def request() -> Generate:
        require(bool(text), "prompt", text, "at least one character")
        sampling = SamplingParameters(max_tokens=max_tokens, temperature=temperature, top_p=top_p, top_k=top_k)
        speculation = SpeculationParameters(mode=mode, shape=shape)
        return Generate(model=model, text=text, sampling=sampling, speculation=speculation, seed=seed)

    def work() -> None:
        drawn, trust = Drawing.of(timeline, against, mode), client_trust(tls_ca, tls_cert, tls_key)
        end = Gateway(gateway, api_key, trust) if gateway else None
        run_async(run_generate(request(), end, target, draft, drawn, as_json=json))

    _run(work)


@app.command()
def timeline(
    trace_id: Annotated[str, typer.Argument(help="Of an answer that was watched: --json and HTTP's metrics tell it.")],
    gateway: Annotated[str, typer.Option(help="Address of the gateway that gave the answer; or of several.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A page (.html), or for Perfetto (.json).")],
    api_key: ApiKey = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCertificate = None,
    tls_key: TlsKey = None,
) -> None:
    """Write what happened when in the latest watched answers of a trace."""
    from paceline.cli.generate import Gateway, run_timeline
    from paceline.cli.trust import client_trust
    from paceline.timeline import check_ending

    def work() -> None:
        check_ending(output, "output")
        trust = client_trust(tls_ca, tls_cert, tls_key)
        run_async(run_timeline(trace_id, Gateway(gateway, api_key, trust), output))

    _run(work)


@app.command()
def up(
    topology: Annotated[Path | None, typer.Argument(help="A topology.yaml; default: the embedded pair.")] = None,
    target: Target = None,
    draft: Draft = None,
    redis: Annotated[
        str | None, typer.Option(help="URL of a Redis, or 'embedded': one of this fleet's own; default: the file's.")
    ] = None,
    emulate_step_time: Annotated[
        str, typer.Option(help="Experimental: forwards take at least so long, as draft=4ms,target=40ms,per_row=0.1ms.")
    ] = "",
    emulate_link: Annotated[
        str, typer.Option(help="Experimental: drafters' wire to verifiers, as rtt=5ms,jitter=1ms,bandwidth=100mbps.")
    ] = "",
    on: Annotated[
        Place, typer.Option(help="This machine's processes, or a Ray cluster, where it stays.")
    ] = Place.LOCAL,
    address: RayAddress = "auto",
    insecure: Annotated[
        bool, typer.Option("--insecure", help="On a Ray cluster: without TLS, on networks that nobody else is in.")
    ] = False,
    autoscale: Annotated[
        bool, typer.Option("--autoscale", help="On a Ray cluster: as many workers as 'paceline status' advises.")
    ] = False,
) -> None:
    """Start a fleet as local processes and keep it until Ctrl-C, or on a Ray cluster until 'paceline down'.

    A fleet that runs there already becomes what the topology says: worker by worker, each drains first.
    """
    from paceline.cli.fleet import fleet_topology
    from paceline.cli.up import run_up
    from paceline.cluster.topology import Topology, emulated

    def fleet() -> Topology:
        for name, given in (("insecure", insecure), ("autoscale", autoscale), ("address", address != "auto")):
            require(on is Place.RAY or not given, name, given, "a fleet on a Ray cluster (--on ray)")
        there = emulated(fleet_topology(topology, target, draft), emulate_step_time, emulate_link)
        return there if redis is None else replace(there, redis=redis)

    if on is Place.RAY:
        from paceline.cli import ray

        _run(lambda: ray.run_up(fleet(), address, insecure=insecure, autoscale=autoscale))
    else:
        _run(lambda: run_async(run_up(fleet())))


@app.command()
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Again each second, until Ctrl-C.")] = False,
    address: RayAddress = "auto",
) -> None:
    """Show the workers of the fleet on a Ray cluster."""
    from paceline.cli import ray

    _run(lambda: ray.run_status(address, watch=watch))


@app.command()
def scale(
    pool: Annotated[str, typer.Argument(metavar="POOL=N", help="As drafters.small=3, or gateway=2.")],
    address: RayAddress = "auto",
) -> None:
    """Ask for N workers of a pool of the fleet on a Ray cluster; who is too many finishes what it has in hand."""
    from paceline.cli import ray

    _run(lambda: ray.run_scale(address, pool))


@app.command()
def down(address: RayAddress = "auto") -> None:
    """Drain and end the fleet on a Ray cluster."""
    from paceline.cli import ray

    _run(lambda: ray.run_down(address))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def serve(context: typer.Context, service: Annotated[ServiceName, typer.Argument(help="Which service.")]) -> None:
    """Serve one service in this process; what follows is handed to it (try: paceline serve verifier --help)."""
    module = service.value if service is ServiceName.GATEWAY else f"{service.value}_service"
    os.execv(sys.executable, [sys.executable, "-m", module, *context.args])  # noqa: S606 - no shell wanted


@app.command()
def probe(
    address: Annotated[str, typer.Argument(help="HOST:PORT where a service serves gRPC.")],
    timeout_seconds: Annotated[float, typer.Option(help="How long to wait for its answer.")] = 3.0,
    tls_ca: TlsCa = None,
    tls_cert: TlsCertificate = None,
    tls_key: TlsKey = None,
) -> None:
    """Ask a service for its health: status 0 if it says SERVING, 1 if not."""
    from paceline import rpc
    from paceline.cli.trust import client_trust

    def work() -> None:
        trust = client_trust(tls_ca, tls_cert, tls_key)
        if not run_async(rpc.is_serving(address, timeout_seconds, trust)):
            raise Unavailable(f"{address} is not serving")

    _run(work)


@app.command()
def demo(
    json: Annotated[Path | None, typer.Option(help="Also write every run as JSON to this file.")] = None,
    prompts: Annotated[int, typer.Option(help="How many of the ten code prompts.")] = 10,
    max_tokens: Annotated[int, typer.Option(help="Tokens per text.")] = 128,
    timeline: Annotated[
        Path | None, typer.Option(help="Also draw the first prompt into this file, lockstep above overlapped.")
    ] = None,
) -> None:
    """Show on ten code prompts that speculation changes the speed and not the text."""
    from paceline.bench.demo import run_demo

    _run(lambda: run_demo(prompts, max_tokens, json, timeline))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def bench(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(help="engine, prefill, decode, overlap, drafters, rag, lookup, accelerator, hostile, …")
    ],
) -> None:
    """Run a benchmark; what follows is handed to it (try: paceline bench overlap --help)."""
    os.execv(sys.executable, [sys.executable, "-m", "paceline.bench", name, *context.args])  # noqa: S606


@datastore.command()
def build(
    corpus: Annotated[Path, typer.Argument(help="Folder of UTF-8 text files, or a JSONL file with a field text.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; replaced if it is a datastore.")],
    tokenizer: Annotated[str, typer.Option(help="The target's: a folder with tokenizer.json, or a hub id.")],
) -> None:
    """Build a datastore for drafters of kind datastore."""
    from paceline.cli.datastore import run_build

    _run(lambda: run_build(corpus, out, tokenizer))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _run(work: Callable[[], None]) -> None:
    try:
        work()
    except FieldError as error:
        _fail(str(error), BAD_INPUT)
    except PacelineError as error:
        _fail(str(error), FAILED)
    except grpc.aio.AioRpcError as error:
        bad_input = error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
        _fail(f"{error.code().name}: {error.details()}", BAD_INPUT if bad_input else FAILED)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _fail(message: str, status: int) -> None:
    typer.echo(f"paceline: {message}", err=True)
    raise typer.Exit(status)


def main() -> None:
    app()


if __name__ == "__main__":
    main()
