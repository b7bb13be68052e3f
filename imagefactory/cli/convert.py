"""imagefactory convert: between raw and qcow2, or a foreign ISO as it is."""

from pathlib import Path
from typing import Annotated

import typer

from imagefactory.cli.common import progress_session
from imagefactory.cli.output import Json, answer, verb
from imagefactory.cli.render import human
from imagefactory.cli.sizes import size_option
from imagefactory.errors import UsageError
from imagefactory.progress import StepAdvanced
from imagefactory.steps import convert as step
from imagefactory.tools.new_file import new_file
from imagefactory.tools.qemu_img import Qcow2Options

LARGEST = "100 GiB"


def register(app: typer.Typer) -> None:
    app.command("convert", epilog="Example: imagefactory convert disk.raw disk.qcow2 --from raw")(convert)


@verb
def convert(
    source: Annotated[Path, typer.Argument(metavar="SRC", show_default=False, readable=False)],
    output: Annotated[Path, typer.Argument(metavar="DST", help="Must not exist.", show_default=False)],
    from_: Annotated[
        str | None, typer.Option("--from", help="The format that SRC must have; its bytes decide, not its name.")
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="raw or qcow2. Default: by the ending of DST.")] = None,
    as_is: Annotated[bool, typer.Option("--as-is", help="Inspect and copy byte for byte (an ISO).")] = False,
    compression: Annotated[str, typer.Option(help="Of a qcow2: zstd, zlib (for old qemu) or none.")] = "zstd",
    cluster_size: Annotated[str, typer.Option(help="Of a qcow2: 4 KiB to 2 MiB.")] = "64 KiB",
    max_size: Annotated[str, typer.Option(help="The largest file and disk to touch.")] = LARGEST,
    as_json: Json = False,
) -> None:
    """Convert an image, inspected before and after; print the digests of what came out."""
    if compression not in {"zstd", "zlib", "none"}:
        raise UsageError(f"--compression {compression} is not zstd, zlib or none")
    largest = size_option("--max-size", max_size)
    with (
        progress_session() as (settings, progress),
        new_file(output) as made,
    ):
        if as_is:
            done = step.copy_as_is(source, made, declared=from_, largest=largest, environment=settings.environment)
        else:
            done = step.convert(
                source,
                made,
                to or _by_ending(output),
                declared=from_,
                options=Qcow2Options(compression, size_option("--cluster-size", cluster_size)),
                largest=largest,
                foreign=True,
                environment=settings.environment,
                log=made.with_name("convert.log"),
                on_bytes=lambda count, total: progress(StepAdvanced("convert", count, total, "bytes")),
            )
    digests = done.digests
    document = {
        "file": str(output),
        "format": done.format,
        "size": digests.size,
        "virtual_size": done.virtual_size,
        "sha256": digests.sha256,
        "sha512": digests.sha512,
    }
    text = f"{output}: {done.format}, {human(digests.size)}\nsha256:{digests.sha256}\nsha512:{digests.sha512}"
    answer(document, text, as_json)


def _by_ending(output: Path) -> str:
    endings = {".raw": "raw", ".img": "raw", ".qcow2": "qcow2"}
    chosen = endings.get(output.suffix)
    if chosen is None:
        raise UsageError(f"the ending of {output.name} names no format", advice="say --to raw or --to qcow2")
    return chosen
