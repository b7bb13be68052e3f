"""imagefactory publish: a release again, or elsewhere."""

from pathlib import Path
from typing import Annotated

import typer

from imagefactory.cli.output import Json, answer, verb
from imagefactory.cli.session import factory_session
from imagefactory.errors import TargetUnsupported
from imagefactory.model.release import ReleaseRef
from imagefactory.steps.verify import CATALOGUE
from imagefactory.store.records import release_version


def register(app: typer.Typer) -> None:
    app.command("publish", epilog="Example: imagefactory publish soe-debian-12 --to catalogue:/srv/images")(publish)


@verb
def publish(
    release: Annotated[str, typer.Argument(metavar="RELEASE", help="NAME or NAME@VERSION.", show_default=False)],
    to: Annotated[str, typer.Option("--to", metavar="TARGET", help="catalogue:PATH", show_default=False)],
    as_json: Json = False,
) -> None:
    """Publish a signed release to another place, and verify it there."""
    root = to.removeprefix(CATALOGUE)
    if root == to or not root:
        raise TargetUnsupported(f"{to} is no target", advice="say catalogue:PATH")
    with factory_session() as factory:
        found = factory.records.release(ReleaseRef.parse(release))
        folder = factory.publish(found, Path(root).absolute())
        ref = f"{found.name}@{release_version(found)}"
    text = f"{ref} is published in {folder}\nVERIFIED {ref}"
    answer({"release": ref, "folder": str(folder), "verified": True}, text, as_json)
