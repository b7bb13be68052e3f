"""The image that a recipe starts from, taken apart: what is in its root file system becomes a tar.

Nothing here is root, and nothing is mounted. The image is inspected before qemu-img reads it, its file system checked
by e2fsck before it is read, and what is told from a path, such as whose keys let in, is told before any path exists:
the tar has neither identities nor a way out of the directory that it will be unpacked in.
"""

import os
import re
import stat
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from imagefactory.errors import (
    BaseChanged,
    BaseForeign,
    BaseMissing,
    BaseNotAnImage,
    BaseTooLarge,
    BaseUnsupported,
    BaseWithoutPackages,
    FormatUnknown,
    ImageTooLarge,
    RootfsUnreadable,
)
from imagefactory.model.identity import LARGEST_REWRITTEN, is_left_out, is_rewritten, rewrite
from imagefactory.model.quantity import format_size
from imagefactory.model.recipe import OperatingSystem
from imagefactory.model.recipe_base import MOST_DISK, MOST_FILE
from imagefactory.tools import ext4, ext4_tree, qemu_img, sfdisk
from imagefactory.tools.ext4_tree import Ext4, Node
from imagefactory.tools.inspect import inspect, opened
from imagefactory.tools.inventory import MAX_STATUS, STATUS, read_status
from signing.digest import FileState, hash_stream
from signing.errors import SigningError

FORMATS: Final = ("raw", "qcow2")
MOST_READ: Final = 1 << 20  # bytes of os-release and fstab

# The build writes below these by their paths from outside: links there could lead it anywhere.
_FOLDERS: Final = re.compile(
    r"boot|dev|home|proc|root|run|sys|tmp"
    r"|etc(?:/apt(?:/(?:apt\.conf|sources\.list|trusted\.gpg)\.d|/keyrings)?|/default|/dpkg(?:/dpkg\.cfg\.d)?)?"
    r"|usr(?:/bin|/lib|/sbin|/share(?:/doc)?|/local(?:/bin)?)?|(?:usr/)?lib/diskimage-builder"
    r"|var(?:/cache(?:/apt(?:/archives)?|/debconf|/ldconfig)?|/log(?:/apt)?|/tmp)?"
    r"|var/lib(?:/apt(?:/lists(?:/auxfiles|/partial)?)?|/dbus|/dpkg)?"
)
_MERGED: Final = re.compile(r"bin|sbin|lib|lib32|lib64|libx32")  # may be links to those of /usr
_FILES: Final = re.compile(
    r"etc/apt/(?:apt\.conf\.d/.+|sources\.list)|etc/dpkg/dpkg\.cfg\.d/.+|etc/hostname|usr/sbin/policy-rc\.d"
    r"|(?:usr/)?lib/diskimage-builder/.+",
    re.DOTALL,
)
_ATTRIBUTES: Final = re.compile(r"security\.capability|system\.posix_acl_(?:access|default)|user\..+")
_OS_RELEASE: Final = ("etc/os-release", "usr/lib/os-release")
_FSTAB: Final = "etc/fstab"
_LOCAL: Final = re.compile(r"(?:UUID|LABEL|PARTUUID|PARTLABEL)=|/dev/(?!fd|sr|cdrom)")
_ELSEWHERE: Final = frozenset(("/", "/boot/efi", "/efi", "none", "swap"))
_RPM: Final = ("var/lib/rpm", "usr/lib/sysimage/rpm")
_OTHERS: Final[Mapping[str, tuple[int, bytes]]] = {
    "XFS": (0, b"XFSB"),
    "Btrfs": (0x10040, b"_BHRfS_M"),
    "LVM": (0x218, b"LVM2 001"),
    "LUKS": (0, b"LUKS\xba\xbe"),
    "F2FS": (0x400, b"\x10\x20\xf5\xf2"),
}


@dataclass(frozen=True)
class Unpacked:
    """What came out: the `tar`, the `format` of the image, how many `files` the tar has, and how many files of the base
    were `left_out` of it because of what they are: devices, sockets, marks of one machine."""

    tar: Path
    format: str
    files: int
    left_out: int


@dataclass
class _Found:
    """What was seen in the tree on the way: contents by path, and whether there is a database of RPM."""

    contents: dict[str, bytes] = field(default_factory=dict)
    rpm: bool = False
    files: int = 0
    left_out: int = 0


def unpack(
    image: Path,
    sha256: str,
    system: OperatingSystem,
    output: Path,
    *,
    most: int,
    scratch: Path,
    log: Path,
    environment: Mapping[str, str],
) -> Unpacked:
    """Make the tar `output` of what is in the root file system of `image`, whose SHA-256 (hex) is pinned and whose
    operating system must be `system`; `most` bounds the contents of its files, in bytes. `scratch` is a directory with
    room for the image's disk.

    Raises BaseMissing, BaseChanged, BaseNotAnImage, BaseTooLarge, BaseUnsupported, BaseDamaged, BaseForeign,
    BaseWithoutPackages, ImageUnsafe, ImageDamaged, ProgramMissing, ProgramTimeout, DiskFull.
    """
    disk = scratch / "base.raw"
    found_format = _to_raw(image, sha256, disk, log=log, environment=environment)
    offset = _root_of(disk, environment)
    ext4.check(disk, offset, env=environment, log=log)
    found = _Found()
    with ext4_tree.opened(disk, offset) as tree, _new_tar(output) as tar:
        _Writer(tar, tree, most, found).write()
    disk.unlink()
    _require_whole(found)
    _require_system(found, system)
    return Unpacked(output, found_format, found.files, found.left_out)


# -- from an image to a disk -------------------------------------------------------------------------------------------


def _to_raw(image: Path, sha256: str, disk: Path, *, log: Path, environment: Mapping[str, str]) -> str:
    """Write the disk that an image describes to `disk`; returns the image's format."""
    try:
        with opened(image) as descriptor:
            before = FileState.of(descriptor)
            if before.size > MOST_FILE:
                raise BaseTooLarge(f"{image.name} has more than {format_size(MOST_FILE)}")
            digest = hash_stream(descriptor, algorithms=("sha256",)).sha256
            if digest != sha256:
                raise BaseChanged(f"{image.name} has sha256 {digest}, pinned is {sha256}")
            found = _inspected(descriptor, image.name)
            if found[0] == "qcow2":
                qemu_img.check(descriptor, image.name, environment)
            qemu_img.convert(
                descriptor,
                found[0],
                disk,
                "raw",
                name=image.name,
                size=found[1],
                options=qemu_img.Qcow2Options(),
                environment=environment,
                log=log,
                on_bytes=lambda _done, _total: None,
            )
            if FileState.of(descriptor) != before:
                raise BaseChanged(f"{image.name} changed while it was read")
    except SigningError as why:
        raise BaseMissing(f"the base cannot be read: {why.message}") from None
    return found[0]


def _inspected(descriptor: int, name: str) -> tuple[str, int]:
    """The format of an open image and the size of its disk, in bytes."""
    try:
        seen = inspect(descriptor, name, largest=MOST_DISK)
    except ImageTooLarge as error:
        raise BaseTooLarge(error.message) from error
    except FormatUnknown as error:
        raise BaseNotAnImage(error.message) from error
    if seen.format not in FORMATS:
        raise BaseNotAnImage(f"{name} is {seen.format}, and a base is {' or '.join(FORMATS)}")
    return seen.format, seen.virtual_size


# -- from a disk to its root file system -------------------------------------------------------------------------------


def _root_of(disk: Path, environment: Mapping[str, str]) -> int:
    """Where the one ext4 file system of a disk begins, in bytes."""
    with opened(disk) as descriptor:
        if ext4_tree.is_ext4(descriptor, 0):
            return 0
        starts = sfdisk.starts(disk, env=environment)
        found = [start for start in starts if ext4_tree.is_ext4(descriptor, start)]
        others = [name for start in starts or (0,) if (name := _other(descriptor, start))]
    if len(found) == 1:
        return found[0]
    if found:
        raise BaseUnsupported(f"the base has {len(found)} ext4 file systems, and only one can be the whole system")
    if others:
        raise BaseUnsupported(f"the base has {', '.join(dict.fromkeys(others))} and no ext4 file system")
    raise BaseNotAnImage("the base has no file system that is known: no partition with ext4, and no ext4 without one")


def _other(descriptor: int, start: int) -> str | None:
    """What else begins there, if anything that we know by name."""
    for name, (at, magic) in _OTHERS.items():
        if os.pread(descriptor, len(magic), start + at) == magic:
            return name
    return None


# -- from a root file system to a tar ----------------------------------------------------------------------------------


def _new_tar(path: Path) -> tarfile.TarFile:
    return tarfile.open(path, "w:", format=tarfile.PAX_FORMAT, encoding="utf-8")


class _Writer:
    """Writes a tree into a tar."""

    def __init__(self, tar: tarfile.TarFile, tree: Ext4, most: int, found: _Found) -> None:
        self._tar, self._tree, self._left, self._found = tar, tree, most, found
        self._places: dict[int, str] = {}  # of the files that the tar has, by inode

    def write(self) -> None:
        self._tar.addfile(_header(self._tree.root()))
        for node in self._tree.walk():
            self._found.rpm = self._found.rpm or node.path in _RPM
            _require_plain(node)
            if is_left_out(node.path) or _is_of_one_machine(node.mode):
                self._found.left_out += 1
                continue
            self._found.files += 1
            self._add(node)

    def _add(self, node: Node) -> None:
        header = _header(node)
        if not stat.S_ISREG(node.mode):
            self._tar.addfile(header)
            return
        wanted = node.path in {*_OS_RELEASE, _FSTAB, STATUS}
        rewritten = is_rewritten(node.path)
        first = None if rewritten or wanted else self._places.setdefault(node.inode, node.path)
        if first is not None and first != node.path:
            header.type, header.linkname, header.size = tarfile.LNKTYPE, first, 0
            self._tar.addfile(header)
            return
        self._left -= node.size
        if self._left < 0:
            raise BaseTooLarge("the files of the base hold more bytes than disk.size of the recipe")
        content = _Stream(self._tree.content(node))
        if rewritten or wanted:
            self._add_read(node, header, content, rewritten)
        else:
            self._tar.addfile(header, content)  # type: ignore[arg-type]  # reads, as all that tarfile wants

    def _add_read(self, node: Node, header: tarfile.TarInfo, content: "_Stream", rewritten: bool) -> None:
        most = LARGEST_REWRITTEN if rewritten else MAX_STATUS if node.path == STATUS else MOST_READ
        if node.size > most:
            raise BaseTooLarge(f"/{node.path} of the base has more than {most} bytes")
        whole = content.read(node.size)
        self._found.contents[node.path] = whole
        whole = rewrite(node.path, whole) if rewritten else whole
        header.size = len(whole)
        self._tar.addfile(header, _Stream(iter((whole,))))  # type: ignore[arg-type]


class _Stream:
    """Pieces, read as a stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""

    def read(self, size: int) -> bytes:
        parts, missing = [self._rest], size - len(self._rest)
        while missing > 0 and (piece := next(self._pieces, b"")):
            parts.append(piece)
            missing -= len(piece)
        whole = b"".join(parts)
        self._rest = whole[size:]
        return whole[:size]


_KINDS: Final[Mapping[int, bytes]] = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


def _header(node: Node) -> tarfile.TarInfo:
    header = tarfile.TarInfo(node.path)
    header.type = _KINDS[stat.S_IFMT(node.mode)]
    header.mode = stat.S_IMODE(node.mode)
    header.uid, header.gid = node.uid, node.gid
    header.size, header.linkname = node.size, node.link
    seconds, nanoseconds = divmod(node.modified, 1_000_000_000)
    header.mtime = seconds
    # An attribute is bytes; tarfile writes them as they are if they come like this.
    header.pax_headers = {
        f"SCHILY.xattr.{name}": value.decode("utf-8", "surrogateescape")
        for name, value in sorted(node.attributes.items())
        if _ATTRIBUTES.fullmatch(name)
    }
    if nanoseconds and seconds >= 0:
        header.pax_headers["mtime"] = f"{seconds}.{nanoseconds:09}"
    return header


def _is_of_one_machine(mode: int) -> bool:
    """Devices and sockets: the kernel and the programs of each machine make them."""
    return stat.S_IFMT(mode) not in _KINDS


def _require_plain(node: Node) -> None:
    """Refuse links where the build, outside of the tree, goes by a path."""
    path, mode = node.path, node.mode
    if _FOLDERS.fullmatch(path) and not stat.S_ISDIR(mode):
        raise BaseUnsupported(f"/{path} of the base is no directory")
    if _MERGED.fullmatch(path) and not stat.S_ISDIR(mode) and node.link != f"usr/{path}":
        raise BaseUnsupported(f"/{path} of the base is neither a directory nor a link to usr/{path}")
    if (_FILES.fullmatch(path) or is_rewritten(path)) and not stat.S_ISREG(mode):
        raise BaseUnsupported(f"/{path} of the base is no regular file")


# -- what is in it -----------------------------------------------------------------------------------------------------


def _require_system(found: _Found, system: OperatingSystem) -> None:
    """Raises BaseForeign and BaseWithoutPackages."""
    said = next((found.contents[name] for name in _OS_RELEASE if name in found.contents), b"")
    facts = dict(re.findall(r"""^(ID|VERSION_ID)=["']?([^"'\s]*)["']?$""", said.decode(errors="replace"), re.MULTILINE))
    it_is = " ".join(filter(None, (facts.get("ID"), facts.get("VERSION_ID"))))[:80]
    if STATUS not in found.contents:
        told = "it has a database of RPM" if found.rpm else "no dpkg"
        raise BaseWithoutPackages(f"the base{f', {it_is},' if it_is else ''} has no known package manager: {told}")
    try:
        packages = read_status(found.contents[STATUS])
    except RootfsUnreadable as error:
        raise BaseWithoutPackages(f"the base has no sound list of packages: {error.message}") from error
    architecture = next((package.architecture for package in packages if package.name == "dpkg"), None)
    if architecture is None:
        raise BaseWithoutPackages("dpkg is not installed in the base")
    if (facts.get("ID"), facts.get("VERSION_ID")) != (system.distro, system.version):
        wanted = f"{system.distro} {system.version}"
        raise BaseForeign(f"the base is {it_is or 'of an unknown operating system'}, the recipe says {wanted}")
    if architecture != system.arch:
        raise BaseForeign(f"the base is for {architecture}, the recipe says {system.arch}")


def _require_whole(found: _Found) -> None:
    """Raises BaseUnsupported where the base's fstab mounts another file system of the same disk."""
    for line in found.contents.get(_FSTAB, b"").decode(errors="replace").splitlines():
        fields = line.partition("#")[0].split()
        if len(fields) < 3 or fields[1] in _ELSEWHERE or fields[2] in {"swap", "vfat", "iso9660"}:
            continue
        if _LOCAL.match(fields[0]):
            raise BaseUnsupported(f"{fields[1][:80]} of the base is a file system of its own")
