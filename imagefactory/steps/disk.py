"""The step from a root file system to a disk: a tar becomes a raw disk that boots, with no loop device and no mount."""

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imagefactory.errors import DiskFull
from imagefactory.model.disk import EFI_LABEL, ROOT_LABEL, DiskLayout, Identities, identities
from imagefactory.tools import archive, ext4, fat, grub, sfdisk

# Counts in the digest of the inputs: raise it when a change here alters what comes out.
REVISION = 1

# A tar leaves them out where the build had something mounted there; without them systemd stops at the start.
MOUNT_POINTS = ("proc", "sys", "dev", "run")


@dataclass(frozen=True)
class _Bench:
    """What every part of the work needs."""

    disk: Path
    layout: DiskLayout
    who: Identities
    epoch: int
    scratch: Path
    log: Path
    env: Mapping[str, str]


def assemble(
    rootfs: Path,
    output: Path,
    layout: DiskLayout,
    *,
    seed: str,
    epoch: int,
    scratch: Path,
    log: Path,
    environment: Mapping[str, str],
    on_advance: Callable[[str], None],
) -> None:
    """Make the disk `output`, a sparse file, from the tar `rootfs`.

    Runs as root. `scratch` is an empty directory on a private tmpfs with room for the unpacked tar; what is in it
    afterwards is of no use. `seed` (hex) gives the disk its identities, `epoch` (seconds) its times: the same tar, seed
    and epoch give the same bytes. `output` is not flushed to the device.

    Raises DiskTooSmall, BootloaderMissing, DiskFull, ProgramMissing, ProgramFailed, ProgramTimeout.
    """
    bench = _Bench(output, layout, identities(seed), epoch, scratch, log, environment)
    tree = scratch / "rootfs"
    # A program dies with the thread that started it (process.py), so the thread lives as long as the pool.
    with _space(output), ThreadPoolExecutor(max_workers=1) as beside:
        _create(output, layout.size)
        frame = beside.submit(_frame, bench)
        archive.extract(rootfs, tree, env=environment, log=log)
        _mount_points(tree, epoch)
        frame.result()
        on_advance("root file system unpacked")
        bios = grub.bios_parts(tree) if "bios" in layout.firmware else None
        efi = grub.efi_parts(tree) if "uefi" in layout.firmware else None
        boot = beside.submit(_boot, bench, bios, efi)
        _fill(bench, tree)
        boot.result()
    on_advance("disk assembled")


def _frame(bench: _Bench) -> None:
    """What can be made before the content is known: the partition table and an empty EFI system partition."""
    sfdisk.write(bench.disk, bench.layout, bench.who, env=bench.env)
    efi = bench.layout.find("efi")
    if efi is not None:
        fat.make(
            bench.disk,
            efi.start,
            efi.size,
            serial=bench.who.fat_serial,
            label=EFI_LABEL,
            env=bench.env,
            epoch=bench.epoch,
        )


def _boot(bench: _Bench, bios: grub.BiosParts | None, efi: grub.EfiParts | None) -> None:
    """Both boot loaders. Runs beside mke2fs, on other bytes of the same file."""
    search = grub.search(bench.who.filesystem)
    at_efi, at_bios = bench.layout.find("efi"), bench.layout.find("bios")
    if efi is not None and at_efi is not None:
        config = bench.scratch / "efi.cfg"
        config.write_text(search + "configfile $prefix/grub.cfg\n")
        fat.copy(bench.disk, at_efi.start, grub.efi_files(efi, config), env=bench.env, epoch=bench.epoch)
    if bios is not None and at_bios is not None:
        config, core = bench.scratch / "bios.cfg", bench.scratch / "core.img"
        config.write_text(search)
        grub.core_image(bios, config, core, env=bench.env)
        grub.install_bios(bench.disk, at_bios, (bios.modules / "boot.img").read_bytes(), core.read_bytes())


def _mount_points(tree: Path, epoch: int) -> None:
    for name in MOUNT_POINTS:
        folder = tree / name
        if not os.path.lexists(folder):
            folder.mkdir()
            folder.chmod(0o755)  # whatever our umask is
            os.utime(folder, (epoch, epoch))


def _fill(bench: _Bench, tree: Path) -> None:
    root = bench.layout.root
    ext4.make(
        bench.disk,
        root.start,
        root.size,
        tree,
        uuid=bench.who.filesystem,
        hash_seed=bench.who.hash_seed,
        label=ROOT_LABEL,
        epoch=bench.epoch,
        scratch=bench.scratch,
        log=bench.log,
        env=bench.env,
    )
    ext4.settle_times(bench.disk, root.start, epoch=bench.epoch, env=bench.env)


def _create(output: Path, size: int) -> None:
    """A new file of `size` zero bytes that takes no space; an older one of that name goes away first."""
    output.unlink(missing_ok=True)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.truncate(descriptor, size)
    finally:
        os.close(descriptor)


@contextmanager
def _space(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull(f"no room for {output}: {error.strerror}") from error
        raise
