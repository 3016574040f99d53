"""``paceline certs``: certificates for development, from an authority that is a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from paceline.cli.place import Place
from paceline.errors import FieldError

if TYPE_CHECKING:
    from paceline.cluster.topology import Topology
    from paceline.security.identity import Party

certs = typer.Typer(no_args_is_help=True, help="Certificates for development: an authority, and one for each service.")

BAD_INPUT = 2
LOCAL = "localhost,127.0.0.1,::1"
DAYS, CA_DAYS = 90.0, 3650.0

Hosts = Annotated[str, typer.Option(help="Names and addresses that the services are dialled by, comma-separated.")]
Days = Annotated[float, typer.Option(help="Days that the certificates are valid.")]


@certs.command()
def init(
    directory: Annotated[Path, typer.Argument(help="Folder to write: ca.pem, ca.key, ROLE/NAME.pem, ROLE/NAME.key.")],
    topology: Annotated[
        Path | None, typer.Option(help="Certificates for its services; default: for those of 'paceline up'.")
    ] = None,
    on: Annotated[
        Place, typer.Option(help="Where it runs: on a Ray cluster workers have numbers from the first on.")
    ] = Place.LOCAL,
    hosts: Hosts = LOCAL,
    days: Days = DAYS,
) -> None:
    """Make an authority and a certificate for every service of a fleet, a client and an operator."""
    _run(lambda: run_init(directory, topology, _words(hosts), days, on))


@certs.command()
def add(
    directory: Annotated[Path, typer.Argument(help="Folder that 'paceline certs init' wrote.")],
    role: Annotated[str, typer.Argument(help="gateway, verifier, drafter, client or operator.")],
    name: Annotated[str, typer.Argument(help="A drafter's is the name that it drafts under.")],
    hosts: Hosts = LOCAL,
    days: Days = DAYS,
) -> None:
    """Make one more certificate."""
    _run(lambda: run_add(directory, role, name, _words(hosts), days))


def run_init(directory: Path, topology: Path | None, hosts: list[str], days: float, on: Place = Place.LOCAL) -> None:
    """Raises ``FieldError`` rather than touch an authority that is there."""
    from paceline.cli.fleet import fleet_topology
    from paceline.security.authority import Authority
    from paceline.security.identity import OPERATOR, Party, Role

    parties = [*_services(fleet_topology(topology, None, None), on), Party(Role.CLIENT, "client"), OPERATOR]
    authority = Authority.make(max(CA_DAYS, days))
    authority.save(directory)
    for party in parties:
        authority.issue(directory, party, hosts, days)
    typer.echo(f"{directory}: an authority and {len(parties)} certificates, valid for {days:g} days")
    typer.echo(f"In topology.yaml: tls: {directory if on is Place.LOCAL else directory.absolute()}")


def _services(topology: Topology, on: Place) -> list[Party]:
    from paceline.cli.services import planned_services
    from paceline.cluster.ray.spec import workers_of
    from paceline.security.identity import Party, Role

    if on is Place.RAY:
        return [Party(Role(spec.role), spec.name) for spec in workers_of(topology)]
    return [Party(Role(planned.service), planned.name) for planned in planned_services(topology)]


def run_add(directory: Path, role: str, name: str, hosts: list[str], days: float) -> None:
    from paceline.security.authority import Authority
    from paceline.security.identity import NAME, Party, Role
    from paceline.speculation.fields import require

    roles = [known.value for known in Role]
    require(role in roles, "role", role, f"one of {', '.join(roles)}")
    require(bool(NAME.fullmatch(name)), "name", name, "1 to 64 letters, digits, dots, dashes or underscores")
    identity = Authority.load(directory).issue(directory, Party(Role(role), name), hosts, days)
    typer.echo(str(identity.certificate))


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def _run(work: Callable[[], None]) -> None:
    try:
        work()
    except FieldError as found:
        for error in found.errors:
            typer.echo(f"paceline: {error}", err=True)
        raise typer.Exit(BAD_INPUT) from None
