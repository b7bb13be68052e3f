"""The files of an ext4 file system inside a disk file, read as data: no mount, no root.

The library ext4 reads the structures; what it says is hostile still. A file system is read here only after e2fsck has
found it sound (tools/ext4.py), and with features that the library knows whole: anything else would be read wrong.

Formats: the kernel's Documentation/filesystems/ext4 and fs/ext4/acl.h; xattr(7) and posix_acl_xattr.h for what a
program sees of an access control list.
"""

import os
import stat
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ext4

from imagefactory.errors import BaseDamaged, BaseTooLarge, BaseUnsupported, FactoryError

MAGIC_AT = 1024 + 56  # bytes from the start of the file system (struct ext4_super_block)
MAGIC = b"\x53\xef"

MOST_FILES = 2_000_000
MOST_DEPTH = 200  # directories, one in the other
MOST_PATH = 4000  # bytes; PATH_MAX is 4096
MOST_LINK = 4095  # bytes that a symbolic link holds
PIECE = 1 << 20  # bytes read at a time

# Incompatible features (s_feature_incompat) that are read right: file types, extents, 64 bits, flexible block groups,
# a seed for checksums, large directories.
_FEATURES: Mapping[int, str] = {0x2: "filetype", 0x40: "extent", 0x80: "64bit", 0x200: "flex_bg", 0x2000: "csum_seed"}
_EXTENTS, _INLINE, _ENCRYPTED = 0x80000, 0x10000000, 0x800  # i_flags
_UNWRITTEN = 32768  # ee_len of an extent that reads as zeros is greater
_FAST_LINK = 60  # bytes: a shorter link lies in its inode
_OLD = "the base has files without extents, as ext2 and ext3 have"
_ACL = {"system.posix_acl_access", "system.posix_acl_default"}
_ON_DISK, _SEEN = 1, 2  # versions of access control lists
_WITH_ID = {2, 8}  # ACL_USER, ACL_GROUP
_NO_ID = 0xFFFFFFFF


@dataclass(frozen=True)
class Node:
    """A file, of whatever kind: `path` from the root without a slash at the front (os.fsdecode), `mode` with the kind
    as in stat(2), `modified` in nanoseconds since 1970, `size` in bytes, `link` what a symbolic link holds, and the
    extended attributes as programs see them. Files with one `inode` are one file."""

    path: str
    inode: int
    mode: int
    uid: int
    gid: int
    modified: int
    size: int
    link: str
    attributes: Mapping[str, bytes]


class Ext4:
    """A file system that was opened by `opened`."""

    def __init__(self, volume: ext4.Volume, descriptor: int, offset: int) -> None:
        self._volume, self._descriptor, self._offset = volume, descriptor, offset
        self._block = int(volume.block_size)

    def walk(self) -> Iterator[Node]:
        """Every file but the root itself, a directory before what is in it, sorted by name.

        Raises BaseDamaged, BaseTooLarge, BaseUnsupported.
        """
        with _sound():
            yield from self._walk()

    def _walk(self) -> Iterator[Node]:
        count = 0
        waiting: list[tuple[bytes, ext4.Inode, int]] = [(b"", self._volume.root, 0)]
        seen = {int(self._volume.root.i_no)}
        while waiting:
            path, inode, depth = waiting.pop()
            if path:
                count += 1
                if count > MOST_FILES:
                    raise BaseTooLarge(f"there are more than {MOST_FILES} files in the base")
                yield self._node(path, inode)
            if not isinstance(inode, ext4.Directory):
                continue
            if depth > MOST_DEPTH:
                raise BaseUnsupported(f"directories of the base are more than {MOST_DEPTH} deep")
            for name, number in sorted(self._entries(inode).items(), reverse=True):
                child = self._volume.inodes[number]
                if isinstance(child, ext4.Directory):
                    if number in seen:
                        raise BaseDamaged("a directory of the base is in two places")
                    seen.add(number)
                waiting.append((_joined(path, name), child, depth + 1))

    def root(self) -> Node:
        """The root directory itself, with the path ".". Raises BaseDamaged."""
        with _sound():
            return self._node(b".", self._volume.root)

    def content(self, node: Node) -> Iterator[bytes]:
        """The bytes of a regular file, in pieces, holes as zeros; exactly `node.size` of them.

        Raises BaseDamaged, BaseUnsupported.
        """
        with _sound():
            yield from self._read(self._volume.inodes[node.inode], node.size)

    def _read(self, inode: ext4.Inode, size: int) -> Iterator[bytes]:
        if size and not _has(inode, _EXTENTS):
            raise BaseUnsupported(_OLD)
        at = 0
        for extent in sorted(inode.extents, key=lambda each: int(each.ee_block)):
            start = min(int(extent.ee_block) * self._block, size)
            length = int(extent.ee_len)
            if start < at:
                raise BaseDamaged("extents of a file of the base overlap")
            yield from _zeros(start - at)
            hole = length > _UNWRITTEN
            end = min(start + (length - _UNWRITTEN if hole else length) * self._block, size)
            yield from _zeros(end - start) if hole else self._blocks(int(extent.ee_start), end - start)
            at = end
        yield from _zeros(size - at)

    def _blocks(self, first: int, size: int) -> Iterator[bytes]:
        position = self._offset + first * self._block
        while size > 0:
            piece = os.pread(self._descriptor, min(size, PIECE), position)
            if not piece:
                raise BaseDamaged("a file of the base lies beyond its disk")
            yield piece
            position, size = position + len(piece), size - len(piece)

    def _entries(self, directory: ext4.Directory) -> dict[bytes, int]:
        if not _has(directory, _EXTENTS):
            raise BaseUnsupported(_OLD)
        found: dict[bytes, int] = {}
        for entry, _ in directory.opendir():
            name = bytes(entry.name_bytes)
            if name in {b".", b".."}:
                continue
            if not name or b"/" in name or b"\0" in name or name in found:
                raise BaseDamaged(f"a directory of the base has a name that is none, or twice: {name[:80]!r}")
            if len(found) > MOST_FILES:
                raise BaseTooLarge(f"there are more than {MOST_FILES} files in the base")
            found[name] = int(entry.inode)
        return found

    def _node(self, path: bytes, inode: ext4.Inode) -> Node:
        if _has(inode, _INLINE | _ENCRYPTED):
            raise BaseUnsupported("the base has encrypted files, or files inside their inodes")
        mode, size = _number(inode.i_mode), int(inode.i_size)
        return Node(
            path=os.fsdecode(path),
            inode=int(inode.i_no),
            mode=mode,
            uid=int(inode.i_uid) | int(inode.osd2.linux2.l_i_uid_high) << 16,
            gid=int(inode.i_gid) | int(inode.osd2.linux2.l_i_gid_high) << 16,
            modified=_modified(inode),
            size=size if stat.S_ISREG(mode) else 0,
            link=os.fsdecode(self._link(inode, size)) if stat.S_ISLNK(mode) else "",
            attributes={name: _as_seen(name, value) for name, value in inode.xattrs},
        )

    def _link(self, inode: ext4.Inode, size: int) -> bytes:
        """What a symbolic link holds: a short one in its inode, where others have their extents."""
        if not 0 < size <= MOST_LINK:
            raise BaseDamaged("a symbolic link of the base has no end")
        if size < _FAST_LINK and not _has(inode, _EXTENTS):
            return bytes(inode.i_block)[:size]
        return b"".join(self._read(inode, size))


@contextmanager
def opened(disk: Path, offset: int) -> Iterator[Ext4]:
    """The file system at `offset` (bytes) in `disk`.

    Raises BaseDamaged, and BaseUnsupported for features that are not known here.
    """
    with disk.open("rb") as stream:
        with _sound():
            volume = ext4.Volume(stream, offset=offset)
            unknown = _number(volume.superblock.s_feature_incompat) & ~sum(_FEATURES)
            if unknown:
                raise BaseUnsupported(f"the base's file system has features that are not known here: {unknown:#x}")
        yield Ext4(volume, stream.fileno(), offset)


@contextmanager
def _sound() -> Iterator[None]:
    """Whatever goes wrong with the library inside is wrong with the bytes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # by which the library says that something is not as it should be
            yield
    except FactoryError:
        raise
    except MemoryError as error:
        raise BaseTooLarge("the base's file system takes too much memory to read") from error
    except Exception as error:  # of a dozen classes, and no common one
        raise BaseDamaged(f"the base's file system cannot be read: {str(error)[:200]!r}") from error


def is_ext4(descriptor: int, offset: int) -> bool:
    """Whether a file system of the ext family begins at `offset` (bytes) of an open file."""
    return os.pread(descriptor, len(MAGIC), offset + MAGIC_AT) == MAGIC


def _number(field: Any) -> int:  # noqa: ANN401 - one of ctypes' numbers, or a number
    """A field that the library has as an enumeration."""
    return int(getattr(field, "value", field))


def _has(inode: ext4.Inode, flags: int) -> bool:
    return _number(inode.i_flags) & flags != 0


def _joined(folder: bytes, name: bytes) -> bytes:
    path = folder + b"/" + name if folder else name
    if len(path) > MOST_PATH:
        raise BaseUnsupported(f"the base has a path of more than {MOST_PATH} bytes")
    return path


def _zeros(count: int) -> Iterator[bytes]:
    while count > 0:
        yield bytes(min(count, PIECE))
        count -= PIECE


def _modified(inode: ext4.Inode) -> int:
    """i_mtime, and what i_mtime_extra adds where the inode has it: 2 bits of seconds, 30 of nanoseconds."""
    seconds = int(inode.i_mtime)
    seconds -= (seconds & 0x80000000) << 1
    end = type(inode).i_mtime_extra.offset + 4
    if not inode.has_hi or 128 + int(inode.i_extra_isize) < end:
        return seconds * 1_000_000_000
    extra = int(inode.i_mtime_extra)
    return (seconds + ((extra & 3) << 32)) * 1_000_000_000 + min(extra >> 2, 999_999_999)


def _as_seen(name: str, value: bytes) -> bytes:
    """An extended attribute as a program would see it: on the disk, access control lists have a form of their own."""
    if name not in _ACL:
        return value
    (version,) = struct.unpack_from("<I", value)
    if version != _ON_DISK:
        raise BaseDamaged("the base has an access control list of another version")
    seen, at = struct.pack("<I", _SEEN), 4
    while at < len(value):
        tag, permissions = struct.unpack_from("<HH", value, at)
        at += 4
        who = _NO_ID
        if tag in _WITH_ID:
            (who,) = struct.unpack_from("<I", value, at)
            at += 4
        seen += struct.pack("<HHI", tag, permissions, who)
    return seen
