"""imagefactory releases: what exists, with its evidence, and where it is published."""

from typing import Annotated, Any

import typer
from rich.table import Table

from imagefactory.cli.output import Json, answer, say, verb
from imagefactory.cli.render import human
from imagefactory.cli.session import factory_session
from imagefactory.cli.tables import print_table
from imagefactory.model.release import SBOM_SUFFIX, ReleaseRef
from imagefactory.model.vulnerabilities import KIND
from imagefactory.store.records import release_version
from imagefactory.store.tables import Release

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
    if as_json:
        answer({"releases": [describe(release) for release in found]}, "", as_json)
        return
    if not found:
        say("no releases yet")
        return
    table = Table(box=None, pad_edge=False, header_style="")
    for column in ("RELEASE", "CREATED", "IMAGES", "EVIDENCE", "PUBLISHED"):
        table.add_column(column, overflow="fold")
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
    release: Annotated[str, typer.Argument(metavar="RELEASE", help="NAME or NAME@VERSION.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Show one release: digests, evidence, publications."""
    with factory_session() as factory:
        found = describe(factory.records.release(ReleaseRef.parse(release)))
    lines = [found["release"], f"  created   {found['created']}", f"  recipe    sha256:{found['recipe_digest']}"]
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
        lines.append(f"  published {publication['target']}: {publication['state']}, last verified {verified}")
        if publication["image"]:
            lines += _image(publication["image"])
    answer(found, "\n".join(lines), as_json)


def describe(release: Release) -> dict[str, Any]:
    """A release as JSON."""
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
        "publications": [
            {
                "target": each.target,
                "state": each.state,
                "verified": f"{each.verified.isoformat()}Z" if each.verified else None,
                "image": {"id": each.image_id, **each.details} if each.image_id else None,
            }
            for each in release.publications
        ],
    }


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
