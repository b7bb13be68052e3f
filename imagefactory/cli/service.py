"""imagefactory service: what several hosts share."""

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from imagefactory.cli.common import DryRun
from imagefactory.cli.output import Json, answer, verb
from imagefactory.errors import UsageError
from imagefactory.errors.service import SchemaOlder
from imagefactory.model.database_url import DatabaseUrl
from imagefactory.service.broker_setup import PROGRAM, import_definitions
from imagefactory.service.secrets_folder import DEFINITIONS, Secrets, planned
from imagefactory.settings import Settings, read_settings
from imagefactory.store.database import REVISION, ServiceDatabase
from imagefactory.store.grants import grant, granted
from imagefactory.store.records import Records

app = typer.Typer(help="What several hosts share.", no_args_is_help=True)


@app.command("init", epilog="Example: imagefactory service init --secrets /etc/imagefactory")
@verb
def init(
    secrets: Annotated[
        Path | None,
        typer.Option("--secrets", metavar="DIR", help="Where passwords and addresses of each account are kept."),
    ] = None,
    rabbitmq: Annotated[
        bool | None,
        typer.Option(
            "--rabbitmq/--no-rabbitmq",
            help="Make its users, too, by rabbitmqctl. Default: where that is installed.",
            show_default=False,
        ),
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Make the tables in the database of IMAGEFACTORY_DATABASE, or bring them up to date. With --secrets, make also
    the accounts of all roles, in it and in the RabbitMQ of IMAGEFACTORY_BROKER, each with its own rights.

    Its account must be one that may create tables there, and roles. Done again, it changes nothing.
    """
    settings = read_settings()
    url = settings.database_url
    if url is None:
        raise UsageError("IMAGEFACTORY_DATABASE is not set", advice="set it to postgresql://USER@HOST:PORT/NAME")
    given = _given(settings, url, secrets) if secrets else None
    if rabbitmq and given is None:
        raise UsageError("--rabbitmq needs --secrets", advice="name the folder that is to have the passwords")
    if given and rabbitmq is None:
        rabbitmq = shutil.which(PROGRAM, path=settings.environ.get("PATH")) is not None
    act = _looked_at if dry_run else _made
    done = act(settings, url, given, broker=bool(rabbitmq))
    answer({"dry_run": dry_run, **done}, _text(done, given, dry_run=dry_run), as_json)


def _given(settings: Settings, url: DatabaseUrl, folder: Path) -> Secrets:
    if settings.broker is None:
        raise UsageError("IMAGEFACTORY_BROKER is not set", advice="set it to amqp://USER@HOST:PORT/VHOST")
    return planned(folder, url, settings.broker)


def _made(settings: Settings, url: DatabaseUrl, given: Secrets | None, *, broker: bool) -> dict[str, Any]:
    """Passwords are kept before anybody gets one: who is interrupted and does it again gives the same."""
    database = ServiceDatabase(url)
    done: dict[str, Any] = {"version": REVISION, "changed": database.migrate()}
    if given is None:
        if granted(database):
            grant(database, {})
        return done
    files = given.write()
    done |= {"files": list(map(str, files)), "accounts_changed": grant(database, given.database), "broker": broker}
    if broker:
        import_definitions(given.definitions, settings.environ)
    return done


def _looked_at(_settings: Settings, url: DatabaseUrl, given: Secrets | None, *, broker: bool) -> dict[str, Any]:
    older = _is_older(url)
    done: dict[str, Any] = {"version": REVISION, "changed": older}
    if given is None:
        return done
    changed = older or grant(ServiceDatabase(url), given.database, dry_run=True)
    return done | {"files": list(map(str, given.missing())), "accounts_changed": changed, "broker": broker}


def _text(done: dict[str, Any], given: Secrets | None, *, dry_run: bool) -> str:
    would = "would be" if dry_run else "are"
    now = "" if dry_run else " now"

    def said(what: str, changed: object, verb: str) -> str:
        return f"{what} {would} {verb}{now}" if changed else f"{what} were {verb} before"

    lines = [said("the tables", done["changed"], "brought up to date" if dry_run else "up to date")]
    lines[0] += f": version {done['version']}"
    if given is not None:
        lines += [f"{path} {'would be' if dry_run else 'is'} written" for path in done["files"]]
        lines.append(said("accounts of the database", done["accounts_changed"], "made"))
        document = given.folder / DEFINITIONS
        lines.append(
            f"users of the broker {would} made{now}"
            if done["broker"]
            else f"users of the broker: rabbitmqctl import_definitions {document}, on its host"
        )
    return "\n".join(lines)


def _is_older(url: DatabaseUrl) -> bool:
    """Raises DatabaseUnreachable, DatabaseRefused, SchemaNewer."""
    try:
        Records(url).close()
    except SchemaOlder:
        return True
    return False
