"""imagefactory publish: a release again, or elsewhere."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from imagefactory.cli.output import Json, answer, verb
from imagefactory.cli.session import PassphraseFile, factory_session
from imagefactory.errors import UsageError
from imagefactory.factory.loop import Factory
from imagefactory.model.recipe_targets import CatalogueTarget, CloudTarget
from imagefactory.model.release import ReleaseRef
from imagefactory.model.target import CloudPlace, Place, parse_place
from imagefactory.store.records import release_version
from imagefactory.store.tables import Release


def register(app: typer.Typer) -> None:
    app.command("publish", epilog="Example: imagefactory publish soe-debian-12 --to glance:mycloud")(publish)


To = Annotated[str, typer.Option("--to", metavar="PLACE", help="catalogue:PATH or glance:CLOUD.", show_default=False)]
Visible = Annotated[
    str | None,
    typer.Option("--visibility", help="In a cloud: private, shared, community or public. Default: as before."),
]
Members = Annotated[
    list[str] | None,
    typer.Option("--member", help="In a cloud: id of a project to share the image with. May be repeated."),
]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="In a cloud: a tag of the image. May be repeated.")]
Protected = Annotated[
    bool | None, typer.Option("--protected/--unprotected", help="In a cloud: whether Glance refuses to delete it.")
]
Owner = Annotated[str | None, typer.Option("--owner", help="In a cloud: id of the project that is to own the image.")]
Readers = Annotated[
    list[str] | None,
    typer.Option("--certificate-reader", help="In a cloud: id of a user who may read the certificate, too."),
]
Bandwidth = Annotated[str | None, typer.Option(help='In a cloud: the most to upload in a second, such as "20 MiB/s".')]


@verb
def publish(
    release: Annotated[str, typer.Argument(metavar="RELEASE", help="NAME or NAME@VERSION.", show_default=False)],
    to: To,
    visibility: Visible = None,
    allow_public: Annotated[bool, typer.Option("--allow-public", help="In a cloud: public is meant.")] = False,
    member: Members = None,
    image_format: Annotated[str | None, typer.Option("--format", help="In a cloud: qcow2 or raw.")] = None,
    tag: Tags = None,
    protected: Protected = None,
    owner: Owner = None,
    certificate_reader: Readers = None,
    bandwidth: Bandwidth = None,
    deep: Annotated[bool, typer.Option("--deep", help="In a cloud: read every byte back.")] = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Publish a signed release to another place, or again, and verify it there.

    What is there already is left as it is: a second time changes nothing. In a catalogue the signer lists it.
    """
    place = parse_place(to)
    given: dict[str, Any] = {
        "visibility": visibility,
        "allow_public": allow_public or None,
        "members": member or None,
        "format": image_format,
        "tags": tag or None,
        "protected": protected,
        "owner": owner,
        "certificate_readers": certificate_reader or None,
        "bandwidth": bandwidth,
    }
    options = {key: value for key, value in given.items() if value is not None}
    if not isinstance(place, CloudPlace) and (options or deep):
        raise UsageError(f"{to} is no cloud: --{min([*options, *(['deep'] if deep else [])])} means nothing there")
    with factory_session(passphrase_file) as factory:
        found = factory.records.release(ReleaseRef.parse(release))
        done = factory.publish(found, _target(factory, found, place, options), deep=deep)
        ref = f"{found.name}@{release_version(found)}"
    lines = [f"{ref} is published in {done.text}", *(f"  {fact}" for fact in done.facts), f"VERIFIED {ref}"]
    document = {
        "release": ref,
        "target": done.target,
        "folder": str(done.folder) if done.folder else None,
        "facts": list(done.facts),
        "verified": True,
    }
    answer(document, "\n".join(lines), as_json)


def _target(
    factory: Factory, release: Release, place: Place, options: Mapping[str, Any]
) -> CatalogueTarget | CloudTarget:
    """The place, with what was said about it before: when it was published there, or else in the recipe."""
    if not isinstance(place, CloudPlace):
        return CatalogueTarget(catalogue=str(place.root.absolute()))
    before = dict(factory.wish(release, place))
    if options.get("visibility", "shared") != "shared":
        before.pop("members", None)
    try:
        return CloudTarget.model_validate({**before, **options, "cloud": place.cloud})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UsageError(f"{'.'.join(map(str, first['loc'])) or place}: {first['msg']}") from error
