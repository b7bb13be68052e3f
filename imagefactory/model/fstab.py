"""fstab(5), written from a disk's layout. Text only."""

from collections.abc import Collection, Iterator
from posixpath import normpath

from imagefactory.model.disk import EFI_LABEL, ROOT_LABEL, DiskLayout, Identities
from imagefactory.model.mounts import NOTHING_RUNS

EFI_PATH = "/boot/efi"


def fstab(layout: DiskLayout, who: Identities, *, executable: Collection[str] = (), before: str = "") -> str:
    """The fstab of a disk.

    Entries for other directories stay as they are in `before`; comments go. `executable` are directories that stay
    executable where the file system that they lie on is not. What is mounted inside another comes after it.
    """
    own = dict(_entries(layout, who, executable))
    kept = [line for line in before.splitlines() if (path := _mount_point(line)) is not None and path not in own]
    ordered = [own[path] for path in sorted(own, key=_nesting)]
    return "".join(f"{line}\n" for line in (*ordered, *kept))


def _entries(layout: DiskLayout, who: Identities, executable: Collection[str]) -> Iterator[tuple[str, str]]:
    """Each mount point with its line."""
    yield "/", f"LABEL={ROOT_LABEL} / ext4 defaults,discard,errors=remount-ro 0 1"
    for mount in layout.mounts:
        options = ",".join(("defaults", "discard", *mount.options))
        # A UUID, because a volume that somebody attaches may well be labelled home.
        yield mount.path, f"UUID={who.filesystem(mount.role)} {mount.path} ext4 {options} 0 2"
    if layout.find("efi") is not None:
        hard = f",{','.join(NOTHING_RUNS)}" if layout.mounts else ""
        yield EFI_PATH, f"LABEL={EFI_LABEL} {EFI_PATH} vfat umask=0077,nofail{hard} 0 0"
    for path in executable:
        # A bind mount has flags of its own: mount(8), "Bind mount operation".
        yield path, f"{path} {path} none bind,exec,nosuid,nodev 0 0"


def _mount_point(line: str) -> str | None:
    """The directory that a line of fstab is about; None for a comment, an empty line or one that is none."""
    fields = line.split()
    if len(fields) < 2 or fields[0].startswith("#"):
        return None
    # Two leading slashes would stay: POSIX gives them a meaning of their own.
    return normpath(fields[1]) if not fields[1].startswith("/") else normpath("/" + fields[1].lstrip("/"))


def _nesting(path: str) -> list[str]:
    return [part for part in path.split("/") if part]
