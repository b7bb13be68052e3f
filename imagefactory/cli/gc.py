"""imagefactory gc: give disk space back."""

from typing import Annotated

import typer

from imagefactory.cli.build import KEEP
from imagefactory.cli.output import Json, answer, verb
from imagefactory.cli.render import human
from imagefactory.cli.session import factory_session
from imagefactory.factory.gc import collect, find


def register(app: typer.Typer) -> None:
    app.command("gc", epilog="Example: imagefactory gc --keep 1 --dry-run")(gc)


@verb
def gc(
    keep: Annotated[int, typer.Option("--keep", min=0, help="Releases of each name whose images stay here.")] = KEEP,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: Json = False,
) -> None:
    """Reclaim space from old images and dead builds.

    Of catalogues nothing goes but what publishers and imports that were killed left there, hidden.
    """
    with factory_session() as factory:
        garbage = find(factory, keep=keep) if dry_run else collect(factory, keep=keep)
    document = {
        "dry_run": dry_run,
        "used": garbage.used,
        "used_by": dict(garbage.kinds),
        "freed": garbage.freed,
        "artifacts": sorted(garbage.artifacts),
        "copies": sorted(garbage.copies),
        "directories": sorted(map(str, (*garbage.directories, *garbage.leftovers))),
    }
    what = "would be freed" if dry_run else "freed"
    kinds = ", ".join(f"{kind} {human(size)}" for kind, size in garbage.kinds.items())
    text = (
        f"{human(garbage.freed)} {what} of {human(garbage.used)}: {len(garbage.artifacts | garbage.copies)} files,"
        f" {len(garbage.directories) + len(garbage.leftovers)} directories\n"
        f"  used before by {kinds}"
    )
    answer(document, text, as_json)
