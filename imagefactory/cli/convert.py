"""imagefactory convert: between raw and qcow2, or a foreign ISO as it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from imagefactory.cli.common import progress_session
from imagefactory.cli.output import Json, answer, verb
from imagefactory.cli.render import human
from imagefactory.cli.sizes import size_option
from imagefactory.errors import FactoryError, UsageError
from imagefactory.model.recipe import Qcow2Options as RecipeOptions
from imagefactory.progress import StepAdvanced
from imagefactory.steps import convert as step
from imagefactory.tools.new_file import LOG, new_file
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
    options = _options(compression, cluster_size)
    largest = size_option("--max-size", max_size)
    with (
        progress_session() as (settings, progress),
        new_file(output) as made,
    ):
        if as_is:
            done = step.copy_as_is(source, made, declared=from_, largest=largest, environment=settings.environment)
        else:
            with _without_log():
                done = step.convert(
                    source,
                    made,
                    to or _by_ending(output),
                    declared=from_,
                    options=options,
                    largest=largest,
                    foreign=True,
                    environment=settings.environment,
                    log=made.with_name(LOG),
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


@contextmanager
def _without_log() -> Iterator[None]:
    """The log goes away with the directory that it is in: of an error its lines stay."""
    try:
        yield
    except FactoryError as error:
        error.log = None
        raise


def _options(compression: str, cluster_size: str) -> Qcow2Options:
    """As in a recipe. Raises UsageError."""
    try:
        chosen = RecipeOptions.model_validate({"compression": compression, "cluster_size": cluster_size})
    except ValidationError as error:
        raise UsageError(f"--cluster-size: {error.errors()[0]['msg']}") from error
    return Qcow2Options(chosen.compression, chosen.cluster_size)


def _by_ending(output: Path) -> str:
    endings = {".raw": "raw", ".img": "raw", ".qcow2": "qcow2"}
    chosen = endings.get(output.suffix)
    if chosen is None:
        raise UsageError(f"the ending of {output.name} names no format", advice="say --to raw or --to qcow2")
    return chosen
