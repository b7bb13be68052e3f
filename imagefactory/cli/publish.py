"""imagefactory publish: a release again, or elsewhere."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from imagefactory.cli.common import ReleaseOrName
from imagefactory.cli.output import Json, answer, verb
from imagefactory.cli.render import human
from imagefactory.cli.session import PassphraseFile, factory_session
from imagefactory.errors import PlacesFailed, UsageError
from imagefactory.factory.forecast import Forecast
from imagefactory.factory.loop import Factory
from imagefactory.factory.places import Errand, Outcomes, failure
from imagefactory.factory.publishing import Published
from imagefactory.model.recipe_targets import CatalogueTarget, CloudTarget
from imagefactory.model.release import ReleaseRef
from imagefactory.model.target import CataloguePlace, CloudPlace, Place, parse_place
from imagefactory.store.records import release_version
from imagefactory.store.tables import Release


def register(app: typer.Typer) -> None:
    app.command("publish", epilog="Example: imagefactory publish soe-debian-12 --to glance:mycloud")(publish)


To = Annotated[
    list[str],
    typer.Option("--to", metavar="PLACE", help="catalogue:PATH or glance:CLOUD. May be repeated.", show_default=False),
]
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
    release: ReleaseOrName,
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done in each place.")] = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Publish a signed release to other places, or again, and verify it there.

    What is there already is left as it is: a second time changes nothing. In a catalogue the signer lists it. Several
    places are served at once, and one that fails is no concern of the others. Options for clouds are for every cloud.
    """
    places = _places(to)
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
    if not any(isinstance(place, CloudPlace) for place in places) and (options or deep):
        option = min([*options, *(["deep"] if deep else [])])
        raise UsageError(f"{', '.join(to)} is no cloud: --{option} means nothing there")
    with factory_session(passphrase_file) as factory:
        found = factory.records.release(ReleaseRef.parse(release))
        ref = f"{found.name}@{release_version(found)}"
        errands = [Errand(_target(factory, found, place, options), "somebody asks for it") for place in places]
        if dry_run:
            forecasts = factory.forecast(found, errands)
        else:
            published = _all(found, factory.publish_all(found, errands, deep=deep))
    if dry_run:
        _foretell(ref, forecasts, as_json)
    else:
        _tell(ref, published, as_json)


def _places(texts: Sequence[str]) -> tuple[Place, ...]:
    """Raises TargetUnsupported, UsageError when one is named twice."""
    places = tuple(parse_place(text) for text in texts)
    absolute = [CataloguePlace(each.root.absolute()) if isinstance(each, CataloguePlace) else each for each in places]
    twice = [str(each) for number, each in enumerate(absolute) if each in absolute[:number]]
    if twice:
        raise UsageError(f"{twice[0]} is named twice", advice="name each place once")
    return places


def _all(release: Release, outcomes: Outcomes) -> dict[str, Published]:
    """Raises PlacesFailed."""
    failed = failure(release, outcomes)
    if failed is not None:
        raise failed
    return {place: each for place, each in outcomes.items() if isinstance(each, Published)}


def _tell(ref: str, published: Mapping[str, Published], as_json: bool) -> None:
    """Where the release is now. A single place is told without a list, too."""
    lines = []
    for done in published.values():
        lines += [f"{ref} is published in {done.text}", *(f"  {fact}" for fact in done.facts)]
    told = [{"place": place, **done.to_json()} for place, done in published.items()]
    only = {key: value for key, value in told[0].items() if key != "place"} if len(told) == 1 else {"verified": True}
    answer({"release": ref, "places": told, **only}, "\n".join([*lines, f"VERIFIED {ref}"]), as_json)


def _foretell(ref: str, forecasts: Sequence[Forecast], as_json: bool) -> None:
    """What would be done. Raises PlacesFailed where something would be refused."""
    told = {each.place: each.to_json() if each.refusal is None else each.refusal for each in forecasts}
    if any(each.refusal is not None for each in forecasts):
        raise PlacesFailed(ref, told)
    lines = [f"{each.place}: would {_would(each)}" for each in forecasts]
    places = [{"place": each.place, **each.to_json()} for each in forecasts]
    answer({"release": ref, "dry_run": True, "places": places}, "\n".join(lines), as_json)


def _would(forecast: Forecast) -> str:
    what = f"{forecast.format}, {human(forecast.size)}" if forecast.format else human(forecast.size)
    return {
        "publish": f"publish {what}",
        "finish": f"finish what was begun: {what}",
        "check": f"verify {what} again, which is there already",
    }[forecast.action]


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
