"""imagefactory worker: does the tasks of one role."""

import os
import sys
from typing import Annotated

import typer

from imagefactory.cli.listening import ListenAt, parse_listen, processes
from imagefactory.cli.output import verb
from imagefactory.model.job import Role
from imagefactory.settings import read_settings


def register(app: typer.Typer) -> None:
    app.command("worker", epilog="Example: imagefactory worker --role build --jobs 2")(worker)


@verb
def worker(
    role: Annotated[Role, typer.Option("--role", help="Whose tasks it does.", show_default=False)],
    jobs: Annotated[int, typer.Option("--jobs", min=1, max=64, help="How many at once on this host.")] = 1,
    grace: Annotated[
        float, typer.Option("--grace", min=0, max=86400, help="Seconds to finish what runs when it is stopped.")
    ] = 60.0,
    listen: ListenAt = None,
) -> None:
    """Do the tasks of a role, until it is stopped; what is not finished in time is handed back.

    It refuses to start with more than its role needs: keys, credentials of clouds, or root.
    """
    left = processes().work(read_settings(), role, sys.stderr, jobs=jobs, grace=grace, listen=parse_listen(listen))
    if left:
        sys.stderr.flush()
        os._exit(1)  # their threads would be waited for; the processes of their steps end with this one
