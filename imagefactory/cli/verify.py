"""imagefactory verify: proof, or a code."""

from pathlib import Path
from typing import Annotated

import typer

from imagefactory.cli.common import TrustFile, expectation, progress_session
from imagefactory.cli.output import Json, answer, verb
from imagefactory.progress import StepAdvanced
from imagefactory.steps import verify as step

Manifest = Annotated[
    Path | None, typer.Option("--manifest", help="Of a file. Default: release.sigstore.json beside it.", readable=False)
]
Name = Annotated[str | None, typer.Option("--name", help="The image name that is expected.")]
MinVersion = Annotated[str | None, typer.Option("--min-version", help="The oldest version that is good enough.")]


def register(app: typer.Typer) -> None:
    app.command("verify", epilog="Example: imagefactory verify catalogue:/srv/images/soe-debian-12")(verify)


@verb
def verify(
    target: Annotated[str, typer.Argument(help="A file, or catalogue:PATH/NAME[@VERSION].", show_default=False)],
    manifest: Manifest = None,
    name: Name = None,
    min_version: MinVersion = None,
    trust: TrustFile = None,
    as_json: Json = False,
) -> None:
    """Verify an image against the keys that you trust. Exit 0 says what was proved, exit 1 has a code."""
    with progress_session() as (settings, progress):
        read = 0

        def on_bytes(count: int) -> None:
            nonlocal read
            read += count
            progress(StepAdvanced("verify", read, 0, "bytes"))

        proof = step.verify(
            target, expectation(settings, trust, name, min_version), manifest=manifest, on_bytes=on_bytes
        )
    lines = [f"VERIFIED {proof.name}@{proof.version}"]
    lines += [f"  {file}  sha256:{digest}" for file, digest in sorted(proof.files.items())]
    lines += [f"  {fact}" for fact in proof.facts]
    answer({"verified": proof.to_json()}, "\n".join(lines), as_json)
