"""imagefactory build: from a recipe to a verified release."""

import os
from contextlib import suppress
from typing import Annotated, Any

import typer

from imagefactory.cli.common import expectation
from imagefactory.cli.output import Json, answer, verb
from imagefactory.cli.render import human
from imagefactory.cli.session import PassphraseFile, RecipeFile, factory_session, read_recipe
from imagefactory.errors import Busy
from imagefactory.errors.service import StoreUnusable
from imagefactory.factory.gc import collect
from imagefactory.factory.loop import Factory
from imagefactory.factory.run import Outcome
from imagefactory.progress import Note
from imagefactory.store.records import release_version
from signing.digest import read_document
from signing.manifest import MANIFEST_FILE

KEEP = 3


def register(app: typer.Typer) -> None:
    app.command("build", epilog="Example: imagefactory build recipes/soe-debian-12.yaml")(build)


@verb
def build(
    recipe: RecipeFile,
    no_publish: Annotated[bool, typer.Option("--no-publish", help="Sign, but publish nowhere.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Build everything again, whatever is kept.")] = False,
    passphrase_file: PassphraseFile = None,
    keep: Annotated[int, typer.Option("--keep", min=1, help="Releases of this name whose images stay here.")] = KEEP,
    as_json: Json = False,
) -> None:
    """Build, boot, sign, publish and verify an image. Does only what is not done yet."""
    with factory_session(passphrase_file) as factory:
        if os.geteuid() == 0:
            factory.progress(Note("warning", "no-separation: started as root, so builder and signer share one account"))
        outcome = factory.build(read_recipe(recipe, factory.settings), fresh=fresh, publish=not no_publish)
        if outcome.worked:
            _clean_up(factory, keep, outcome.release.name)
        facts = _facts(factory, outcome)
    answer(_document(outcome, facts), _text(outcome, facts), as_json)


def _clean_up(factory: Factory, keep: int, name: str) -> None:
    """A build that is done does not fail by what it leaves: another one cleans up when it ends, or `gc` does, as
    whoever may remove from a shared store."""
    try:
        with suppress(Busy):
            collect(factory, keep=keep, name=name)
    except StoreUnusable as error:
        factory.progress(Note("warning", f"{error.message}: what is not needed any more is left there"))


def _facts(factory: Factory, outcome: Outcome) -> tuple[str, ...]:
    """What the manifest says, verified anew, and what is worth knowing of the places. The images were verified when
    they were published there, and take too long to read for a build that had nothing to do."""
    if not outcome.published:
        return ()
    raw = read_document(factory.artifacts.require(outcome.release.files[MANIFEST_FILE]))
    facts = expectation(factory.settings, name=outcome.release.name).manifest(raw).facts
    return tuple(dict.fromkeys((*facts, *(fact for where in outcome.published.values() for fact in where.facts))))


def _document(outcome: Outcome, facts: tuple[str, ...]) -> dict[str, Any]:
    release = outcome.release
    return {
        "release": f"{release.name}@{release_version(release)}",
        "unchanged": not outcome.worked,
        "reproduced": outcome.reproduced,
        "images": release.images,
        "published": {target: where.text for target, where in outcome.published.items()},
        "verified": {target: f"{at.isoformat()}Z" for target, at in outcome.verified.items()},
        "facts": list(facts),
        "logs": outcome.build.logs if outcome.build else None,
    }


def _text(outcome: Outcome, facts: tuple[str, ...]) -> str:
    release = outcome.release
    ref = f"{release.name}@{release_version(release)}"
    how = "unchanged: no work was needed" if not outcome.worked else "built"
    if outcome.reproduced:
        how = "built again, and every byte is the same"
    lines = [f"{ref} ({how})"]
    for name, image in sorted(release.images.items()):
        lines.append(f"  {name:6} {human(image['size']):>10}  sha256:{image['sha256']}")
    for target, where in outcome.published.items():
        lines.append(f"  published  {target}")
        lines += [f"    {where.folder / name}" for name in sorted(release.files) if where.folder]
    if outcome.build:
        lines.append(f"  logs       {outcome.build.logs}")
    lines += [f"  {fact}" for fact in facts]
    when = max(outcome.verified.values(), default=None)
    lines.append(
        f"VERIFIED {ref}, read back at {when:%Y-%m-%d %H:%M} UTC" if when else f"SIGNED {ref}, published nowhere"
    )
    return "\n".join(lines)
