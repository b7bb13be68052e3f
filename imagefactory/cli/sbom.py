"""imagefactory sbom: what is in an image, and what changed between two."""

from hashlib import sha256
from typing import Annotated

import typer

from imagefactory.cli.common import ReleaseOrName
from imagefactory.cli.output import Json, answer, say, verb
from imagefactory.cli.session import factory_session
from imagefactory.cli.tables import print_table, table_of
from imagefactory.errors import ArtifactMissing, SbomInvalid
from imagefactory.factory.loop import Factory
from imagefactory.model import sbom
from imagefactory.model.release import ReleaseRef, sbom_file
from imagefactory.model.sbom import MAX_SBOM
from imagefactory.store.records import release_version
from imagefactory.tools.cyclonedx import validate
from signing.digest import read_document

app = typer.Typer(no_args_is_help=True, help="The bill of materials of a release: its packages and their licences.")


@app.command("show", epilog="Example: imagefactory sbom show soe-debian-12 --json > soe.cdx.json")
@verb
def show(
    release: ReleaseOrName,
    as_json: Annotated[bool, typer.Option("--json", help="The CycloneDX document as it is published.")] = False,
) -> None:
    """List the packages of a release."""
    with factory_session() as factory:
        raw = _published(factory, release)
    if as_json:
        answer({}, raw.decode(), as_json=False)
        return
    table = table_of("PACKAGE", "VERSION", "ARCH", "LICENCES")
    for each in sbom.listed(validate(raw)):
        package = each.package
        table.add_row(package.name, package.version, package.architecture, ", ".join(each.licences) or "not known")
    print_table(table)


@app.command("diff", epilog="Example: imagefactory sbom diff soe-debian-12@20251121.1 soe-debian-12")
@verb
def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help="NAME or NAME@VERSION.", show_default=False)],
    new: Annotated[str, typer.Argument(metavar="NEW", help="NAME or NAME@VERSION.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Show which packages were added, removed and changed between two releases."""
    with factory_session() as factory:
        documents = [validate(_published(factory, release)) for release in (old, new)]
    found = sbom.changes(*documents)
    added = [{"name": each.name, "new": each.new} for each in found if each.old is None]
    removed = [{"name": each.name, "old": each.old} for each in found if each.new is None]
    changed = [{"name": each.name, "old": each.old, "new": each.new} for each in found if each.old and each.new]
    if as_json:
        answer({"added": added, "removed": removed, "changed": changed}, "", as_json)
        return
    for each in found:
        say(str(each))
    if not found:
        say("the same packages")


def _published(factory: Factory, text: str) -> bytes:
    """The very bytes that were signed. Raises ReleaseUnknown, ArtifactMissing, SbomInvalid."""
    release = factory.records.release(ReleaseRef.parse(text))
    name = sbom_file(release.name, release_version(release))
    if name not in release.files:
        raise ArtifactMissing(f"{release.name}@{release_version(release)} was released without a bill of materials")
    raw = read_document(factory.artifacts.require(release.files[name]), most=MAX_SBOM)
    if sha256(raw).hexdigest() != release.files[name]:
        raise SbomInvalid(f"{name} is not the file that was signed")
    return raw
