"""imagefactory beat: what somebody has to do now and then."""

import sys

import typer

from imagefactory.cli.listening import ListenAt, parse_listen, processes
from imagefactory.cli.output import verb
from imagefactory.settings import read_settings


def register(app: typer.Typer) -> None:
    app.command("beat", epilog="Example: imagefactory beat --listen 127.0.0.1:9101")(beat)


@verb
def beat(listen: ListenAt = None) -> None:
    """Begin again what died, and tell workers of what waits, until it is stopped. Several may run."""
    processes().keep(read_settings(), sys.stderr, listen=parse_listen(listen))
