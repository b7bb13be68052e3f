"""A running guest gets its kernel and its boot loader anew, as it would by an upgrade: the packages come on a read-only
disk, apt installs them, and their maintainer scripts write what the next boot starts from.
"""

import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagefactory.errors import PackageMissing
from imagefactory.model.packages import Change, Package
from imagefactory.tools import data_disk, package_cache
from imagefactory.tools.apt import Archive, Index
from imagefactory.tools.console import printable
from imagefactory.tools.durable import held
from imagefactory.tools.guest_checks import INLINE, GuestCheck
from imagefactory.tools.inventory import MAX_STATUS, read_status
from signing.digest import read_document

LABEL = "UPGRADE"
# Not grub-cloud-amd64: it renews the boot loader when GRUB's other packages are upgraded, unless it is itself (its
# postinst, 0.0.5).
CONCERNED = re.compile(r"linux-image-[a-z0-9.+-]+|grub(?!-cloud-)[a-z0-9.+-]*|shim-[a-z0-9.+-]+")
MOST_WRITTEN = 50  # files that the evidence names
# What any kernel's and any boot loader's upgrade writes.
CONFIGURATION = "/boot/grub/grub.cfg"
INITRD = "/boot/initrd.img-"


@dataclass(frozen=True)
class GuestUpgrade:
    """The `disk` with the packages, and the `changes` that they make: the same version again, a newer one, or none
    before."""

    disk: Path
    changes: Sequence[Change]

    def install(self, seconds: int) -> GuestCheck:
        """What installs them in the guest: it ends with status 0, and all that it writes is newer than a file of its
        own."""
        program = _INSTALL.format(label=LABEL, began=BEGAN)
        return GuestCheck("upgrade", program.encode(), INLINE, sudo=True, seconds=seconds)

    def missing(self, said: str) -> tuple[str, ...]:
        """The packages ("NAME VERSION") that are not installed, by what LOOK said."""
        there = {line.removeprefix("installed=") for line in said.splitlines() if line.startswith("installed=")}
        wanted = (f"{change.name} {change.new}" for change in self.changes)
        return tuple(each for each in wanted if f"{each} installed" not in there)


def written(said: str) -> tuple[str, ...]:
    """The files below /boot that LOOK saw written, in the order of their names."""
    lines = sorted(line for line in said.splitlines() if line.startswith("written=/boot/"))
    return tuple(printable(line.removeprefix("written="), 200) for line in lines)


BEGAN = "/run/upgrade-began"
# Like a user's own upgrade, and without a network. A configuration file that the image has changed stays as it is.
_INSTALL = """\
mkdir -p /run/upgrade
mount -o ro,nosuid,nodev /dev/disk/by-label/{label} /run/upgrade
touch {began}
DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 \\
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \\
    --no-install-recommends --reinstall install /run/upgrade/*.deb
umount /run/upgrade
"""
# For POSIX sh, as the default user, when that has ended. GRUB's modules and languages are many, and come with its core.
LOOK = f"""\
set -eu
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
dpkg-query -W -f 'installed=${{Package}} ${{Version}} ${{db:Status-Status}}\\n'
sudo -n find /boot -newer {BEGAN} -type f ! -name '*.mod' ! -name '*.mo' -printf 'written=%p\\n'
"""


def prepare(directory: Path, status: Path, index: Index, work: Path) -> GuestUpgrade:
    """Fetch what a system whose dpkg status file is `status` boots from, and make the disk in the directory `work`.

    Raises PackageMissing, MirrorUnreachable, ProgramMissing, ProgramFailed, DiskFull.
    """
    before = {package.name: package for package in read_status(read_document(status, most=MAX_STATUS))}
    names = sorted(name for name in before if CONCERNED.fullmatch(name))
    archives = index.archives(names, status, again=True) if names else ()
    if not archives:
        raise PackageMissing("no source offers what the image boots from", lines=tuple(names))
    with held(directory):
        files = package_cache.kept(directory, "boot", archives, index)
        disk = _disk(archives, files, work, index.environment)
    return GuestUpgrade(disk, changes(before, archives))


def changes(before: Mapping[str, Package], archives: Collection[Archive]) -> tuple[Change, ...]:
    """What installing `archives` changes."""
    packages = (archive.package for archive in archives)
    return tuple(
        Change(each.name, before[each.name].version if each.name in before else None, each.version) for each in packages
    )


def _disk(archives: Sequence[Archive], files: Sequence[Path], work: Path, environment: Mapping[str, str]) -> Path:
    tree = work / "upgrade"
    tree.mkdir()
    for archive, file in zip(archives, files, strict=True):
        shutil.copyfile(file, tree / f"{archive.package.name}.deb")
    disk = data_disk.make(work / "upgrade.iso", LABEL, tree, environment=environment)
    shutil.rmtree(tree)
    return disk
