"""``paceline render``: a topology in the words of what runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import paceline
from paceline.errors import FieldError

render = typer.Typer(no_args_is_help=True, help="A topology in the words of what runs it.")

BAD_INPUT, INTERRUPTED = 2, 130


@render.callback()
def _group() -> None:
    """Keeps ``kubernetes`` a command of its own, though it is the only one."""


@render.command()
def kubernetes(
    file: Annotated[Path, typer.Argument(help="A topology.yaml.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the overlay; what is not ours there stays.")],
    image: Annotated[
        str, typer.Option(help="PREFIX:TAG of the images: PREFIX-gateway:TAG, PREFIX-verifier:TAG-gpu, …")
    ] = f"paceline:{paceline.__version__}",
    source: Annotated[Path, typer.Option(help="The folder k8s of Paceline's source.")] = Path("k8s"),
    components: Annotated[
        list[str] | None, typer.Option("--with", help="A component of k8s/components; may be given several times.")
    ] = None,
) -> None:
    """Write an overlay for 'kubectl apply -k' from FILE."""
    from paceline.cluster.kubernetes import overlay
    from paceline.cluster.topology import read_topology

    try:
        topology, chosen = read_topology(file), components or []
        seen = overlay.source_from(out, source, chosen)
        files = overlay.render(topology, overlay.Rendering(seen, image, chosen))
        overlay.write(files, out)
    except FieldError as found:
        for error in found.errors:
            typer.echo(f"paceline: {error}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(f"{out}: {len(files)} files; kubectl apply -k {out}")
