"""imagefactory boot: the boot gate. Starts nothing that does not verify."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, cast, get_args

import typer

from imagefactory.cli.common import Channel, RootFile, TrustFile, expectation, progress_session
from imagefactory.cli.output import Json, answer, verb
from imagefactory.cli.sizes import size_option
from imagefactory.cli.targets import FromCatalogue, Manifest, MinVersion, Name, Target, Wanted, image_of, is_listed
from imagefactory.errors import ProgramFailed, UsageError
from imagefactory.model.disk import Firmware
from imagefactory.progress import Meter, Note
from imagefactory.tools.firmware import QEMU, firmware_argv, probe_kvm
from imagefactory.tools.interactive import run_interactive


def register(app: typer.Typer) -> None:
    app.command("boot", epilog="Example: imagefactory boot catalogue:/srv/images/soe-debian-12")(boot)


@verb
def boot(
    target: Target,
    firmware: Annotated[str, typer.Option(help="bios, or uefi with Secure Boot.")] = "uefi",
    memory: Annotated[str, typer.Option(help="The memory of the machine.")] = "1 GiB",
    seed: Annotated[
        Path | None, typer.Option("--seed", help="A disk for cloud-init (label cidata) with your ssh key.")
    ] = None,
    manifest: Manifest = None,
    catalogue: FromCatalogue = None,
    channel: Channel = None,
    name: Name = None,
    min_version: MinVersion = None,
    trust: TrustFile = None,
    root: RootFile = None,
    as_json: Json = False,
) -> None:
    """Verify an image, then boot that very file in QEMU with its console here.

    Ctrl-A X ends it. What the guest changes is thrown away.
    """
    chosen, mebibytes = _firmware(firmware), size_option("--memory", memory) >> 20
    if not mebibytes:
        raise UsageError(f"--memory {memory} is less than 1 MiB")
    with progress_session() as (settings, progress):
        expected = expectation(settings, trust, name, min_version, listed=is_listed(target, manifest))
        wanted = Wanted(target, expected, manifest, catalogue, root, channel=channel)
        with image_of(wanted, settings, Meter(progress, "verify")) as image:
            _require_firmware(chosen)
            accelerator = probe_kvm(settings.environment)
            for told in image.proof.warnings:
                progress(Note("warning", told))
            progress(Note("info", f"verified {image.proof.release}; booting with {accelerator.kind}"))
            answer({"verified": image.proof.to_json()}, f"VERIFIED {image.proof.release}", as_json)
            sys.stdout.flush()
            status = run_interactive(
                image.descriptor,
                image.format,
                firmware=chosen,
                memory=mebibytes,
                accelerator=accelerator,
                environment=settings.environment,
                seed=seed,
                # With --json the answer has stdout for itself.
                terminal=(0, 2 if as_json else 1),
            )
    if status != 0:
        raise ProgramFailed(f"{QEMU} ended with status {status}", advice="what it said is above; try more --memory")


def _require_firmware(firmware: Firmware) -> None:
    """Before the answer is given. Raises FirmwareMissing."""
    with TemporaryDirectory(prefix="imagefactory-firmware-") as work:
        firmware_argv(firmware, Path(work))


def _firmware(name: str) -> Firmware:
    for known in get_args(Firmware):
        if name == known:
            return cast(Firmware, known)
    raise UsageError(f"--firmware {name} is not bios or uefi")
