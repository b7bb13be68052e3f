"""What this machine must have, and whether it does."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from imagefactory.errors import FactoryError, HostError
from imagefactory.settings import Settings
from imagefactory.tools.apt import Index, host_sources
from imagefactory.tools.firmware import probe_kvm
from imagefactory.tools.host_packages import versions
from imagefactory.tools.process import run

# Every program that we start, and the Debian package that brings it. .ci/packages has the same packages; a test
# compares them.
PROGRAMS: Mapping[str, str] = {
    "apt-cache": "apt",
    "apt-get": "apt",
    "bwrap": "bubblewrap",
    "debugfs": "e2fsprogs",
    "dpkg-deb": "dpkg",
    "dpkg-query": "dpkg",
    "dumpe2fs": "e2fsprogs",
    "grub-mkimage": "grub-common",
    "mke2fs": "e2fsprogs",
    "mcopy": "mtools",
    "mformat": "mtools",
    "mmdebstrap": "mmdebstrap",
    "mount": "mount",
    "oscap": "openscap-scanner",
    "prlimit": "util-linux",
    "qemu-img": "qemu-utils",
    "qemu-io": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "setpriv": "util-linux",
    "sfdisk": "fdisk",
    "ssh": "openssh-client",
    "sudo": "sudo",
    "tar": "tar",
    "unshare": "util-linux",
    "xorriso": "xorriso",
}
# Of these, what the builder starts: root does not follow the caller's PATH.
FOR_ROOT = frozenset(
    (
        "bwrap",
        "debugfs",
        "dpkg-deb",
        "dumpe2fs",
        "grub-mkimage",
        "mcopy",
        "mformat",
        "mke2fs",
        "mmdebstrap",
        "mount",
        "oscap",
        "sfdisk",
        "tar",
        "unshare",
    )
)
FIRMWARE: Mapping[str, str] = {
    "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd": "ovmf",
    "/usr/share/OVMF/OVMF_VARS_4M.ms.fd": "ovmf",
    "/usr/share/seabios/bios-256k.bin": "seabios",
}
SPACE = 10 << 30  # bytes that a first build of recipes/soe-debian-12.yaml should find free
MEMORY = 4 << 30  # bytes: the root file system is built on a tmpfs


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: `ok`, `found` in words, and the line that mends it. Without `required`, work goes
    on without it."""

    name: str
    ok: bool
    found: str
    fix: str = ""
    required: bool = True


def examine(settings: Settings, codename: str = "bookworm") -> tuple[Check, ...]:
    """Look at this machine; change nothing but package lists of our own. Takes a few seconds."""
    programs = [_program(name, package, settings) for name, package in PROGRAMS.items()]
    firmware = [
        Check(path, Path(path).is_file(), "there" if Path(path).is_file() else "missing", f"apt-get install {package}")
        for path, package in FIRMWARE.items()
    ]
    rest = (
        _rights(settings),
        _home(settings),
        _space(settings),
        _memory(),
        _kvm(settings),
        _mirrors(settings, codename),
    )
    return (*programs, *firmware, *rest)


def _program(name: str, package: str, settings: Settings) -> Check:
    found = shutil.which(name, path=settings.root_path if name in FOR_ROOT else settings.path)
    if found is None:
        return Check(name, ok=False, found="missing", fix=f"apt-get install {package}")
    version = versions([package], settings.environment).get(package, "unknown version")
    return Check(name, ok=True, found=f"{found} ({package} {version})")


def _rights(settings: Settings) -> Check:
    if os.geteuid() == 0:
        return Check("rights", ok=True, found="root: no-separation, builder and signer share one account")
    try:
        run(["sudo", "-n", "--", "true"], env=settings.environment, timeout=30.0)
    except FactoryError:
        return Check("rights", ok=False, found="neither root nor sudo without a password", fix="sudo -v")
    return Check("rights", ok=True, found="sudo")


def _home(settings: Settings) -> Check:
    fix = "set IMAGEFACTORY_HOME to a directory that you may write to"
    try:
        settings.check_home()
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except HostError as error:
        return Check("home", ok=False, found=error.message, fix=error.advice)
    except OSError as error:
        return Check("home", ok=False, found=f"{settings.home}: {error.strerror}", fix=fix)
    ok = os.access(settings.home, os.W_OK | os.X_OK)
    return Check("home", ok, str(settings.home) if ok else f"{settings.home} may not be written to", fix)


def _space(settings: Settings) -> Check:
    there = next(path for path in (settings.home, *settings.home.parents) if os.path.isdir(path))  # noqa: PTH112 - never raises
    free = shutil.disk_usage(there).free
    return Check(
        "space",
        ok=free >= SPACE,
        found=f"{free >> 30} GiB free at {there}",
        fix=f"free {SPACE >> 30} GiB, or set IMAGEFACTORY_HOME",
        required=False,
    )


def _memory() -> Check:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Check("memory", total >= MEMORY, f"{total >> 20} MiB", f"{MEMORY >> 20} MiB are needed", required=False)


def _kvm(settings: Settings) -> Check:
    try:
        accelerator = probe_kvm(settings.environment)
    except HostError as error:
        return Check("kvm", ok=False, found=error.message, fix=error.advice, required=False)
    fix = "" if accelerator.kind == "kvm" else "boot tests run in software, several times slower"
    return Check("kvm", accelerator.kind == "kvm", f"{accelerator.kind}: {accelerator.reason}", fix, required=False)


def _mirrors(settings: Settings, codename: str) -> Check:
    try:
        sources = host_sources(codename, settings.environment)
        directory = settings.home / "apt" / ".doctor"
        directory.mkdir(parents=True, exist_ok=True)
        Index(directory, sources, settings.environment).refresh()
    except FactoryError as error:
        return Check("mirrors", ok=False, found=error.message, fix=error.advice)
    except OSError as error:
        return Check("mirrors", ok=False, found=f"no place for package lists: {error.strerror}", fix="see home")
    return Check("mirrors", ok=True, found=", ".join(sorted({source.uri for source in sources})))
