"""imagefactory service: what several hosts share."""

import typer

from imagefactory.cli.common import DryRun
from imagefactory.cli.output import Json, answer, verb
from imagefactory.errors import UsageError
from imagefactory.errors.service import SchemaOlder
from imagefactory.model.database_url import DatabaseUrl
from imagefactory.settings import read_settings
from imagefactory.store.database import REVISION, ServiceDatabase
from imagefactory.store.records import Records

app = typer.Typer(help="What several hosts share.", no_args_is_help=True)


@app.command("init", epilog="Example: imagefactory service init --dry-run")
@verb
def init(dry_run: DryRun = False, as_json: Json = False) -> None:
    """Make the tables in the database of IMAGEFACTORY_DATABASE, or bring them up to date.

    Its account must be one that may create tables there. Done again, it changes nothing.
    """
    url = read_settings().database_url
    if url is None:
        raise UsageError("IMAGEFACTORY_DATABASE is not set", advice="set it to postgresql://USER@HOST:PORT/NAME")
    changes = _is_older(url) if dry_run else ServiceDatabase(url).migrate()
    done = "would be brought up to date" if dry_run else "are up to date now"
    text = f"the tables {done if changes else 'were up to date before'}: version {REVISION}"
    answer({"dry_run": dry_run, "changed": changes, "version": REVISION}, text, as_json)


def _is_older(url: DatabaseUrl) -> bool:
    """Raises DatabaseUnreachable, DatabaseRefused, SchemaNewer."""
    try:
        Records(url).close()
    except SchemaOlder:
        return True
    return False
