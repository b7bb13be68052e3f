"""The step from a root file system to a disk: a tar becomes a raw disk that boots, with no loop device and no mount."""

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from imagefactory.errors import DiskFull
from imagefactory.model.disk import EFI_LABEL, ROOT_LABEL, DiskLayout, Identities, identities, separate
from imagefactory.model.fstab import EFI_PATH, fstab
from imagefactory.model.mounts import EXECUTABLE, ROOT_FREE, SEPARATE, Mount, Need
from imagefactory.tools import archive, ext4, fat, grub, sfdisk, tree

# Counts in the digest of the inputs: raise it when a change here alters what comes out.
REVISION = 3

# A tar leaves them out where the build had something mounted there; without them systemd stops at the start.
MOUNT_POINTS = ("/proc", "/sys", "/dev", "/run")


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

    @property
    def tree(self) -> Path:
        """The unpacked root file system."""
        return self.scratch / "rootfs"


def assemble(
    rootfs: Path,
    output: Path,
    layout: DiskLayout,
    *,
    sizes: Mapping[str, int] | None = None,
    seed: str,
    epoch: int,
    scratch: Path,
    log: Path,
    environment: Mapping[str, str],
    on_advance: Callable[[str], None],
) -> None:
    """Make the disk `output`, a sparse file, from the tar `rootfs`.

    Unless `sizes` is None, the directories of `model.mounts` get file systems of their own, as big as their content
    and its free space want, or as many bytes as `sizes` says by path. Runs as root. `scratch` is an empty directory on
    a private tmpfs with room for the unpacked tar; what is in it afterwards is of no use. `seed` (hex) gives the disk
    its identities, `epoch` (seconds) its times: the same tar, seed, epoch, layout and sizes give the same bytes.
    `output` is not flushed to the device.

    Raises DiskTooSmall, RootfsUnfit, BootloaderMissing, DiskFull, ProgramMissing, ProgramFailed, ProgramTimeout.
    """
    bench = _Bench(output, layout, identities(seed), epoch, scratch, log, environment)
    # A program dies with the thread that started it (process.py), so the thread lives as long as the pool.
    with _space(output), ThreadPoolExecutor(max_workers=1) as beside:
        _create(output, layout.size)
        esp = beside.submit(_empty_esp, bench)
        archive.extract(rootfs, bench.tree, env=environment, log=log)
        bench = _laid_out(bench, sizes)
        esp.result()
        on_advance("root file system unpacked")
        sfdisk.write(output, bench.layout, bench.who, env=environment)
        bios = grub.bios_parts(bench.tree) if "bios" in layout.firmware else None
        efi = grub.efi_parts(bench.tree) if "uefi" in layout.firmware else None
        boot = beside.submit(_boot, bench, bios, efi)
        _fill(bench, boot)
        boot.result()
    on_advance("disk assembled")


def _empty_esp(bench: _Bench) -> None:
    """The EFI system partition, which lies at the same place whatever the content is."""
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


def _laid_out(bench: _Bench, sizes: Mapping[str, int] | None) -> _Bench:
    """The bench with its final layout, the tree with its mount points and its fstab."""
    mounts = SEPARATE if sizes is not None else ()
    for path in MOUNT_POINTS:
        tree.directory(bench.tree, path, epoch=bench.epoch)
    for mount in mounts:
        tree.directory(bench.tree, mount.path, epoch=bench.epoch, mode=mount.mode)
    if bench.layout.find("efi") is not None:
        tree.directory(bench.tree, EFI_PATH, epoch=bench.epoch)
    executable = EXECUTABLE if sizes is not None else ()
    for path in executable:
        tree.directory(bench.tree, path, epoch=bench.epoch)  # cloud-init makes its own only when it starts
    before = tree.read_fstab(bench.tree, epoch=bench.epoch)
    if sizes is not None:
        needs = {mount.path: _need(bench, mount) for mount in mounts}
        root = ext4.needed(bench.tree, free=ROOT_FREE, without=_folders(bench.tree))
        bench = replace(bench, layout=separate(bench.layout, needs, sizes, root))
    text = fstab(bench.layout, bench.who, executable=executable, before=before)
    tree.write(bench.tree, tree.FSTAB, text, epoch=bench.epoch)
    _renewed(bench)
    return bench


def _renewed(bench: _Bench) -> None:
    """Let upgrades inside the image renew the boot loader on this disk.

    Debian's grub-cloud-amd64 does so where a file says it may, for both firmwares at once: on a disk for one of them it
    would fail, and the upgrade with it.
    """
    path = bench.tree / grub.RENEWAL[1:]
    if {"bios", "uefi"} <= set(bench.layout.firmware) and path.parent.is_dir() and not os.path.lexists(path):
        tree.write(bench.tree, grub.RENEWAL, "", epoch=bench.epoch)


def _need(bench: _Bench, mount: Mount) -> Need:
    folder, others = bench.tree / mount.path[1:], _folders(bench.tree)
    return Need(ext4.needed(folder, without=others), ext4.needed(folder, free=mount.free, without=others))


def _folders(root: Path) -> set[Path]:
    return {root / mount.path[1:] for mount in SEPARATE}


def _boot(bench: _Bench, bios: grub.BiosParts | None, efi: grub.EfiParts | None) -> None:
    """Both boot loaders. Runs beside mke2fs, on other bytes of the same file."""
    folder = "/boot/grub" if bench.layout.boot == "root" else "/grub"
    search = grub.search(bench.who.filesystem(bench.layout.boot), folder)
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


def _fill(bench: _Bench, boot: Future[None]) -> None:
    """Every file system, the innermost first: what has been written is set aside, and an empty directory stays."""
    for mount in sorted(bench.layout.mounts, key=lambda mount: mount.path.count("/"), reverse=True):
        folder = bench.tree / mount.path[1:]
        _fill_one(bench, mount.role, folder, label=mount.role)
        boot.result()  # it reads the tree as it was
        tree.set_aside(folder, bench.scratch / f"done-{mount.role}")
    _fill_one(bench, "root", bench.tree, label=ROOT_LABEL)


def _fill_one(bench: _Bench, role: str, folder: Path, *, label: str) -> None:
    partition = bench.layout.find(role)
    if partition is None:
        raise ValueError(f"the layout has no partition {role}")
    ext4.make(
        bench.disk,
        partition.start,
        partition.size,
        folder,
        uuid=bench.who.filesystem(role),
        hash_seed=bench.who.hash_seed(role),
        label=label,
        epoch=bench.epoch,
        scratch=bench.scratch,
        log=bench.log,
        env=bench.env,
    )
    if role != "root":
        ext4.adopt_root(bench.disk, partition.start, folder, scratch=bench.scratch, epoch=bench.epoch, env=bench.env)
    ext4.settle_times(bench.disk, partition.start, epoch=bench.epoch, env=bench.env)


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
