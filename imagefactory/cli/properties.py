"""imagefactory properties: what an image says about itself in Glance, and what SCS-0102 finds missing."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from imagefactory.cli.common import RootFile, expectation
from imagefactory.cli.output import Json, answer, say, verb
from imagefactory.cli.session import factory_session, read_recipe
from imagefactory.cli.tables import print_table, table_of
from imagefactory.cli.targets import FromCatalogue, Manifest
from imagefactory.errors import PropertiesIncomplete, UsageError
from imagefactory.factory import claims
from imagefactory.model import scs
from imagefactory.model.properties import Claim
from imagefactory.model.release import NAME, ReleaseRef
from imagefactory.model.target import GLANCE
from imagefactory.settings import Settings, read_settings
from signing.trust import find_trust, load_trust

app = typer.Typer(no_args_is_help=True, help="What images say about themselves in Glance.")

Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="A recipe file, a release (NAME or NAME@VERSION), or glance:CLOUD/NAME-or-ID.",
        show_default=False,
    ),
]


@app.command("show", epilog="Example: imagefactory properties show recipes/soe-debian-12.yaml")
@verb
def show(
    target: Target,
    manifest: Manifest = None,
    catalogue: FromCatalogue = None,
    root: RootFile = None,
    as_json: Json = False,
) -> None:
    """Show each property, and whether the recipe or the evidence of a build says so."""
    found, _ = _claims(target, manifest, catalogue, root)
    if as_json:
        answer(_document(target, found), "", as_json)
        return
    _print(found)


@app.command("check", epilog="Example: imagefactory properties check recipes/soe-debian-12.yaml")
@verb
def check(
    target: Target,
    manifest: Manifest = None,
    catalogue: FromCatalogue = None,
    root: RootFile = None,
    as_json: Json = False,
) -> None:
    """Check the properties against the evidence and against SCS-0102, the image metadata of Sovereign Cloud Stack.

    Those of an image in a cloud are checked against what was signed of the evidence.
    """
    found, compare = _claims(target, manifest, catalogue, root)
    known = {claim.key: claim.value for claim in found if claim.value is not None}
    findings = scs.check(known, pending={claim.key for claim in found if claim.value is None})
    if not as_json:
        _print(found)
    compare()
    missing = [finding for finding in findings if finding.level == "mandatory"]
    if missing:
        raise PropertiesIncomplete(
            f"{target}: {len(missing)} of what SCS-0102 makes mandatory is not there, or not as it should be",
            lines=tuple(map(str, findings)),
        )
    if as_json:
        answer({**_document(target, found), "findings": [finding.to_json() for finding in findings]}, "", as_json)
        return
    say()
    for finding in findings:
        say(str(finding))
    say("SCS-0102: everything mandatory is there")


def _claims(
    target: str, manifest: Path | None, catalogue: str | None, root: Path | None
) -> tuple[tuple[Claim, ...], Callable[[], None]]:
    """What `target` claims: a release where it is written like one, or else the recipe in this file; and how to compare
    that with what was signed, where somebody may have changed it since."""
    settings = read_settings()
    if target.startswith(GLANCE):
        from imagefactory.steps import glance_verify as step  # noqa: PLC0415 - openstacksdk takes its time

        where = settings.known_catalogue(catalogue or settings.catalogue, root)
        expected = expectation(settings, listed=manifest is None)
        image = step.find(target, expected, catalogue=where, manifest=manifest)
        return step.claims(image.image, image.signed), lambda: step.require_properties(image.image, image.signed)
    if manifest or catalogue or root:
        raise UsageError("--manifest, --catalogue and --root are for images in a cloud", advice="leave them out")
    return _own_claims(target, settings), lambda: None


def _own_claims(target: str, settings: Settings) -> tuple[Claim, ...]:
    if "/" in target or not (NAME.fullmatch(target) or "@" in target):
        return claims.of_recipe(read_recipe(Path(target), settings))
    trust = load_trust(find_trust(settings.trust_files()))
    with factory_session() as factory:
        release = factory.records.release(ReleaseRef.parse(target))
        return claims.of_release(release, factory.artifacts, trust, now=datetime.now(UTC))


def _document(target: str, found: tuple[Claim, ...]) -> dict[str, Any]:
    return {"target": target, "properties": [asdict(claim) for claim in found]}


def _print(found: tuple[Claim, ...]) -> None:
    table = table_of("KEY", "VALUE", "FROM")
    for claim in found:
        table.add_row(claim.key, "(known after a build)" if claim.value is None else claim.value, claim.source)
    print_table(table)
