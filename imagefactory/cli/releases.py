"""imagefactory releases: what exists, with its evidence, and where it is published."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from imagefactory.cli.common import ReleaseOrName, image_name
from imagefactory.cli.output import Json, answer, say, verb
from imagefactory.cli.render import human
from imagefactory.cli.session import factory_session
from imagefactory.cli.tables import print_table, table_of
from imagefactory.errors import UsageError
from imagefactory.factory.history import history
from imagefactory.lifecycle.keeper import looks
from imagefactory.model.history import Chart, PictureFormat, chart
from imagefactory.model.release import SBOM_SUFFIX, ReleaseRef
from imagefactory.model.vulnerabilities import KIND
from imagefactory.store.ledger import Ledger
from imagefactory.store.records import release_version
from imagefactory.store.tables import Move, Publication, Release
from imagefactory.tools.new_file import new_file

app = typer.Typer(no_args_is_help=True, help="The releases of this factory.")


@app.command("list", epilog="Example: imagefactory releases list")
@verb
def list_(
    name: Annotated[str | None, typer.Argument(help="Only of this image.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """List releases, the newest of each name first."""
    with factory_session() as factory:
        found = factory.records.releases(name)
        called = names_now(Ledger(factory.records), {each.name for each in found}) if as_json else {}
    if as_json:
        answer({"releases": [describe(release, called) for release in found]}, "", as_json)
        return
    if not found:
        say("no releases yet")
        return
    table = table_of("RELEASE", "CREATED", "IMAGES", "EVIDENCE", "PUBLISHED")
    for release in found:
        table.add_row(
            f"{release.name}@{release_version(release)}",
            f"{release.created:%Y-%m-%d %H:%M}",
            ", ".join(f"{kind} {human(image['size'])}" for kind, image in sorted(release.images.items())),
            ", ".join(sorted({f"{piece['kind']} {piece['outcome']}" for piece in _evidence(release)})),
            ", ".join(f"{each.target} ({each.state})" for each in release.publications) or "nowhere",
        )
    print_table(table)


@app.command("show", epilog="Example: imagefactory releases show soe-debian-12")
@verb
def show(
    release: ReleaseOrName,
    as_json: Json = False,
) -> None:
    """Show one release: digests, evidence, publications, and who changed what, when and why."""
    with factory_session() as factory:
        chosen = factory.records.release(ReleaseRef.parse(release))
        ledger = Ledger(factory.records)
        moves = ledger.history(chosen.name, release_version(chosen))
        called = names_now(ledger, {chosen.name})
    found = {**describe(chosen, called), "history": [_move(each) for each in moves]}
    lines = [found["release"], f"  created   {found['created']}", f"  recipe    sha256:{found['recipe_digest']}"]
    lines.append(f"  channel   {found['channel']}{_held(found)}")
    for name, image in sorted(found["images"].items()):
        lines += [
            f"  {name:8}  {human(image['size'])}, a disk of {human(image['virtual_size'])}",
            f"            sha256:{image['sha256']}",
            f"            sha512:{image['sha512']}",
        ]
    for file, digest in found["files"].items():
        if file.endswith(SBOM_SUFFIX):
            lines += [f"  sbom      {file}", f"            sha256:{digest}"]
    for piece in found["evidence"]:
        lines.append(f"  evidence  {piece['kind']}: {piece['outcome']}, about {piece['about'][:19]}")
    if not found["scanned"]:
        lines.append("  evidence  vulnerabilities: not scanned")
    for publication in found["publications"]:
        verified = publication["verified"] or "never"
        stage = f"{publication['stage']} since {publication['since'][:10]}"
        lines.append(f"  published {publication['target']}: {publication['state']}, last verified {verified}, {stage}")
        if not publication["settled"]:
            lines.append("            this place does not show yet what is recorded: imagefactory lifecycle apply")
        if publication["image"]:
            lines += _image(publication["image"])
    lines += [_told(move) for move in found["history"]]
    answer(found, "\n".join(lines), as_json)


@app.command("plot", epilog="Example: imagefactory releases plot soe-debian-12 --output soe.png")
@verb
def plot(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of an image.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="An .svg or .png, which must not exist. Default: NAME.svg here; none with --json."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw score, sizes, packages and build time over the releases of a name; --json gives the numbers."""
    name = image_name(name)
    if output is None and not as_json:
        output = Path(f"{name}.svg")
    image_format = None if output is None else _by_ending(output)
    with factory_session() as factory:
        found = history(factory, name)
    if output is not None and image_format is not None:
        _draw(chart(name, found), output, image_format)
    document = {"name": name, "releases": [each.to_json() for each in found], "file": output and str(output)}
    answer(document, f"{output}: {len(found)} {'release' if len(found) == 1 else 'releases'} of {name}", as_json)


def _by_ending(output: Path) -> PictureFormat:
    endings: dict[str, PictureFormat] = {".svg": "svg", ".png": "png"}
    chosen = endings.get(output.suffix)
    if chosen is None:
        raise UsageError(f"the ending of {output.name} names no format", advice="end it in .svg or .png")
    return chosen


def _draw(picture: Chart, output: Path, image_format: PictureFormat) -> None:
    """Raises OutputExists, OutputUnusable, DiskFull, ExtraMissing."""
    with new_file(output) as made:
        from imagefactory.tools.drawing import draw  # noqa: PLC0415 - matplotlib takes a second to load, and is an extra

        draw(picture, made, image_format)


def names_now(ledger: Ledger, names: Collection[str]) -> dict[int, str]:
    """What the records say that images of `names` are called now, by the id of the publication: not what they were
    called when they were published."""
    return {
        order.publication.id: order.look.name
        for name in names
        for target in ledger.places(name)
        for order in looks(ledger, name, target)
    }


def describe(release: Release, called: Mapping[int, str]) -> dict[str, Any]:
    """A release as JSON; `called` is what `names_now` says."""
    return {
        "release": f"{release.name}@{release_version(release)}",
        "name": release.name,
        "version": str(release_version(release)),
        "created": f"{release.created.isoformat()}Z",
        "recipe_digest": release.recipe_digest,
        "build": release.build_id,
        "files": release.files,
        "images": release.images,
        "evidence": _evidence(release),
        "scanned": bool(release.evidence.get(KIND)),
        "channel": release.channel,
        "held": release.held,
        "held_reason": release.held_reason,
        "publications": [
            {
                "target": each.target,
                "state": each.state,
                "stage": each.stage,
                "since": f"{each.since.isoformat()}Z",
                "settled": each.settled,
                "verified": f"{each.verified.isoformat()}Z" if each.verified else None,
                "image": _image_document(each, called.get(each.id)) if each.image_id else None,
            }
            for each in release.publications
        ],
    }


def _image_document(publication: Publication, called: str | None) -> dict[str, Any]:
    document = {"id": publication.image_id, **publication.details}
    return {**document, "name": called} if called and "name" in document else document


def _held(found: dict[str, Any]) -> str:
    why = f": {found['held_reason']}" if found["held_reason"] else ""
    return f", {found['held']}{why}" if found["held"] else ""


def _move(move: Move) -> dict[str, Any]:
    """A line of the history as JSON: when, who, what, why. `target` is None for what counts everywhere."""
    return {
        "at": f"{move.at.isoformat()}Z",
        "account": move.account,
        "verb": move.verb,
        "target": move.target,
        "before": move.before,
        "after": move.after,
        "reason": move.reason,
    }


def _told(move: dict[str, Any]) -> str:
    """The same for people."""
    where = f" in {move['target']}" if move["target"] else ""
    change = f"{move['before']} -> {move['after']}" if move["before"] else move["after"]
    why = f": {move['reason']}" if move["reason"] else ""
    return (
        f"  history   {move['at'][:16].replace('T', ' ')} UTC {move['account']}, {move['verb']}: {change}{where}{why}"
    )


def _image(image: dict[str, Any]) -> list[str]:
    """What is known of an image in a cloud; an upload that never ended has an id and nothing else."""
    lines = [f"            image {image['id']}"]
    if "sha512" in image:
        lines += [
            f"            {image['format']}, {image['visibility']}, called {image['name']}",
            f"            sha512:{image['sha512']}",
            f"            certificate {image['certificate'] or 'in no Barbican'}, sha256:{image['certificate_sha256']}",
        ]
    return lines


def _evidence(release: Release) -> list[dict[str, Any]]:
    return [piece for pieces in release.evidence.values() for piece in pieces]
