"""imagefactory fetch: the current image of a name, verified."""

import time
from pathlib import Path
from typing import Annotated

import typer

from imagefactory.cli.common import (
    Channel,
    ReleaseOrName,
    RootFile,
    TrustFile,
    Where,
    channel_of,
    expectation,
    progress_session,
)
from imagefactory.cli.output import Json, answer, verb
from imagefactory.cli.render import human
from imagefactory.model.release import ReleaseRef
from imagefactory.progress import Note, StepAdvanced, StepFinished, StepStarted
from imagefactory.steps import fetch as step
from imagefactory.steps.listed import format_of, listed_release, pinned

Format = Annotated[
    str | None, typer.Option("--format", help="qcow2, raw or iso. Default: the first of these that there is.")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", metavar="PATH", help="A file or a directory. Default: here.", show_default=False),
]


def register(app: typer.Typer) -> None:
    app.command("fetch", epilog="Example: imagefactory fetch soe-debian-12 --catalogue /srv/images")(fetch)


@verb
def fetch(
    release: ReleaseOrName,
    catalogue: Where = None,
    channel: Channel = None,
    image_format: Format = None,
    output: Output = None,
    trust: TrustFile = None,
    root: RootFile = None,
    as_json: Json = False,
) -> None:
    """Get an image out of a catalogue: the file has its name only when it was verified.

    Interrupted, it goes on where it stopped. A second time it verifies what is there.
    """
    ref = ReleaseRef.parse(release)
    with progress_session() as (settings, progress):
        known = settings.known_catalogue(catalogue or settings.catalogue, root)
        expected = pinned(expectation(settings, trust, listed=True), ref)
        listed = listed_release(known, ref, expected, channel=channel_of(ref, channel))
        signed = listed.verified()
        for told in listed.warnings:
            progress(Note("warning", told))
        entry = format_of(signed, image_format)
        target = output or Path()
        target = target / entry.file if target.is_dir() else target
        title, began = f"fetch {entry.file}", time.monotonic()
        progress(StepStarted(title, f"{human(entry.size)} from {known.address}"))
        done = step.fetch(
            listed,
            signed,
            entry,
            target,
            on_advance=lambda count, total: progress(StepAdvanced(title, count, total, "bytes")),
        )
        outcome = f"{human(done.came)} came" if done.came else "it was here already"
        progress(StepFinished(title, outcome, not done.came, time.monotonic() - began))
    facts = (*signed.facts, *listed.facts)
    document = {
        "release": str(listed.listing.ref),
        "file": str(target),
        "format": entry.file.rpartition(".")[2],
        "size": entry.size,
        "sha256": entry.sha256,
        "fetched": done.came,
        "facts": list(facts),
        "warnings": list(listed.warnings),
        "verified": signed.to_json(),
    }
    lines = [f"VERIFIED {listed.listing.ref}", f"  {target}  sha256:{entry.sha256}", *(f"  {fact}" for fact in facts)]
    answer(document, "\n".join(lines), as_json)
