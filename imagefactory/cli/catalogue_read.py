"""The verbs of imagefactory catalogue that read: list, fetch, check, export, import."""

from pathlib import Path
from typing import Annotated, Any

import typer

from imagefactory.cli.common import RootFile, TrustFile, expectation, progress_session
from imagefactory.cli.output import Json, answer, verb
from imagefactory.cli.tables import print_table, table_of
from imagefactory.errors import CatalogueIncomplete
from imagefactory.model.listing import Listing
from imagefactory.model.release import ReleaseRef
from imagefactory.progress import Meter, Note
from imagefactory.settings import Settings, read_settings
from imagefactory.steps import bundle
from imagefactory.steps.catalogue_check import check as check_releases
from imagefactory.steps.listed import client_of
from imagefactory.tools.known_catalogue import KnownCatalogue

Where = Annotated[
    str,
    typer.Argument(metavar="WHERE", help="A directory or an http(s) address.", show_default=False),
]
MaybeWhere = Annotated[
    str | None,
    typer.Argument(
        metavar="WHERE", help="A directory or an http(s) address. Default: the built-in one.", show_default=False
    ),
]


def register(app: typer.Typer) -> None:
    app.command("list", epilog="Example: imagefactory catalogue list /srv/images")(list_)
    app.command("fetch", epilog="Example: imagefactory catalogue fetch https://images.example.org --root root.json")(
        fetch
    )
    app.command("check", epilog="Example: imagefactory catalogue check /srv/images --deep")(check)
    app.command(
        "export", epilog="Example: imagefactory catalogue export /srv/images bundle.tar soe-debian-12@20261122.1"
    )(export)
    app.command("import", epilog="Example: imagefactory catalogue import bundle.tar /srv/mirror --root root.json")(
        import_
    )


@verb
def list_(
    where: MaybeWhere = None,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only this image name.", show_default=False)
    ] = None,
    root: RootFile = None,
    as_json: Json = False,
) -> None:
    """List the releases of a catalogue, as its makers say now."""
    with client_of(_known(read_settings(), where, root)) as client:
        found = [each for one in ([name] if name else client.names()) for each in client.releases(one)]
    if as_json:
        answer({"releases": [_described(each) for each in found]}, "", as_json)
        return
    if not found:
        answer({}, "no releases yet", as_json)
        return
    table = table_of("RELEASE", "STATE", "CHANNEL", "SYSTEM", "ARCH", "PROVIDED UNTIL", "")
    for each in found:
        system, until = f"{each.distro} {each.os_version}", str(each.provided_until or "")
        table.add_row(str(each.ref), str(each.state), each.channel, system, each.arch, until, _note(each))
    print_table(table)


@verb
def fetch(where: Where, root: RootFile = None, as_json: Json = False) -> None:
    """Begin to trust a catalogue, or see what its roles say now and until when."""
    known = _known(read_settings(), where, root)
    with client_of(known) as client:
        roles = client.roles()
        names = client.names()
    document = {
        "catalogue": known.address,
        "trust_store": str(known.store),
        "roles": [{"role": role.name, "version": role.version, "expires": role.expires.isoformat()} for role in roles],
        "names": names,
    }
    if as_json:
        answer(document, "", as_json)
        return
    table = table_of("ROLE", "VERSION", "EXPIRES")
    for role in roles:
        table.add_row(role.name, str(role.version), f"{role.expires:%Y-%m-%dT%H:%M:%SZ}")
    print_table(table)


@verb
def check(
    where: MaybeWhere = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte of every image.")] = False,
    present: Annotated[
        bool, typer.Option("--present", help="Releases that are not there at all are no error, as in a partial mirror.")
    ] = False,
    trust: TrustFile = None,
    root: RootFile = None,
    as_json: Json = False,
) -> None:
    """Look at a catalogue as its clients do: whether each release that it lists is there as it was signed.

    Revoked releases are not looked at. A release that is there in part is an error always.
    """
    with progress_session() as (settings, progress):
        known = _known(settings, where, root)
        done = check_releases(
            known,
            expectation(settings, trust, listed=True),
            deep=deep,
            present=present,
            on_release=lambda ref: progress(Note("info", f"looking at {ref}")),
            on_bytes=Meter(progress, "check"),
        )
    if done.findings:
        raise CatalogueIncomplete(
            f"{known.address}: {len(done.findings)} of {done.releases} releases are not there as they were signed",
            lines=tuple(f"{each.release}: {each.message} [{each.code}]" for each in done.findings),
        )
    text = f"{known.address}: {done.releases} releases are there as they were signed"
    text += f"; {done.revoked} are revoked and were not looked at" if done.revoked else ""
    text += f"; {len(done.absent)} are not here:" if done.absent else ""
    document = {
        "catalogue": known.address,
        "releases": done.releases,
        "revoked": done.revoked,
        "absent": list(done.absent),
        "deep": deep,
    }
    answer(document, "\n".join([text, *(f"  {ref}" for ref in done.absent)]), as_json)


@verb
def export(
    where: Where,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Must not exist.", show_default=False)],
    release: Annotated[
        list[str] | None,
        typer.Argument(metavar="RELEASE...", help="NAME or NAME@VERSION. Default: none.", show_default=False),
    ] = None,
    trust: TrustFile = None,
    root: RootFile = None,
    as_json: Json = False,
) -> None:
    """Pack releases and the metadata of their catalogue, verified, for a machine without a network.

    Without a release it packs the metadata alone, which is small and keeps what was imported before fresh.
    """
    refs = [ReleaseRef.parse(each) for each in release or ()]
    with progress_session() as (settings, progress):
        known = _known(settings, where, root)
        found = bundle.export(
            known, refs, file, expectation(settings, trust, listed=True), on_bytes=Meter(progress, "export")
        )
    lines = [f"  {ref}" for ref in found] or ["  metadata alone"]
    answer({"file": str(file), "releases": found}, "\n".join([f"{file}:", *lines]), as_json)


@verb
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="From export.", show_default=False, readable=False)],
    directory: Annotated[str, typer.Argument(metavar="DIR", help="The catalogue to add to.", show_default=False)],
    trust: TrustFile = None,
    root: RootFile = None,
    as_json: Json = False,
) -> None:
    """Unpack what export packed into a catalogue here; nothing of it is seen there before all of it was verified."""
    with progress_session() as (settings, progress):
        known = _known(settings, directory, root)
        found = bundle.import_(
            file, known, expectation(settings, trust, listed=True), on_bytes=Meter(progress, "import")
        )
    lines = [f"VERIFIED {ref} in {known.address}" for ref in found] or [f"VERIFIED the metadata of {known.address}"]
    answer({"catalogue": known.address, "releases": found}, "\n".join(lines), as_json)


def _known(settings: Settings, where: str | None, root: Path | None) -> KnownCatalogue:
    return settings.known_catalogue(where or settings.catalogue, root)


def _described(listing: Listing) -> dict[str, Any]:
    return {"release": str(listing.ref), **listing.encode()}


def _note(listing: Listing) -> str:
    instead = f"use {listing.replacement}" if listing.replacement else ""
    return "; ".join(filter(None, (listing.reason, instead)))
