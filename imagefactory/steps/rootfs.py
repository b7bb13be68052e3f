"""The root file system: elements and packages become one normalised tar.

Runs as root, in a mount and PID namespace that the caller made, with `scratch` on a private tmpfs: whatever is mounted
or left here goes when the namespace ends. Equal package sets and elements give equal bytes; the element rootfs-tar
says how.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imagefactory.model.packages import Source
from imagefactory.tools.apt import ARCHIVE_KEYRING, through
from imagefactory.tools.dib import disk_image_create
from imagefactory.tools.process import run

# Counts in the digest of the inputs: raise it when a change here alters what comes out.
REVISION = 1

TIMEOUT = 3600.0
KEYRINGS = Path("/etc/apt/keyrings")
CANONICAL = ("http://deb.debian.org/debian", "http://security.debian.org/debian-security")


@dataclass(frozen=True)
class RootfsRequest:
    """What the root file system is made of.

    `sources` are used to build; `image_sources` are what the image's own apt will use (empty: the distribution's
    canonical ones). `keyrings` maps a file name to the file of a recipe's repository key. `standard` is the SCAP
    content, and the id of a profile in it, that elements apply; `base` is the tar to start from. Paths are absolute.
    """

    codename: str
    arch: str
    elements: tuple[str, ...]
    elements_path: tuple[Path, ...]
    packages: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    sources: tuple[Source, ...]
    image_sources: tuple[Source, ...]
    keyrings: Mapping[str, Path]
    ca_certificates: tuple[Path, ...]
    proxy: str | None = field(repr=False)
    standard: tuple[Path, str] | None = None
    base: Path | None = None


@dataclass(frozen=True)
class Rootfs:
    """What came out: the tar, the dpkg status file beside it, a directory with the package lists that apt had, and the
    time that stands for "now" in the image (SOURCE_DATE_EPOCH, seconds)."""

    tar: Path
    dpkg_status: Path
    lists: Path
    epoch: int


def build(
    request: RootfsRequest,
    output: Path,
    *,
    scratch: Path,
    log: Path,
    environment: Mapping[str, str],
    on_advance: Callable[[str], None],
) -> Rootfs:
    """Build into the directory `output`.

    Raises RootfsFailed, PackageMissing, MirrorUnreachable, DiskFull, ProgramTimeout.
    """
    _offer_keyrings(request.keyrings, scratch, environment)
    stem = output / "rootfs"
    disk_image_create(
        request.elements,
        stem,
        env=_environment(request, scratch, environment),
        log=log,
        timeout=TIMEOUT,
        on_advance=on_advance,
    )
    shutil.rmtree(f"{stem}.d", ignore_errors=True)
    epoch = int(Path(f"{stem}.epoch").read_text())
    return Rootfs(Path(f"{stem}.tar"), Path(f"{stem}.dpkg-status"), Path(f"{stem}.lists"), epoch)


def _environment(request: RootfsRequest, scratch: Path, environment: Mapping[str, str]) -> dict[str, str]:
    sources = _write(scratch / "sources.list", request.sources)
    lasting = _write(scratch / "image.list", image_sources(request))
    content, profile = request.standard or (None, None)
    certificates = scratch / "ca-certificates"
    certificates.mkdir()
    for number, certificate in enumerate(request.ca_certificates):
        shutil.copyfile(certificate, certificates / f"{number:03}-{certificate.stem}.crt")
    return {
        **through(request.proxy, environment),
        **request.environment,
        "HOME": "/root",
        "ARCH": request.arch,
        "ELEMENTS_PATH": ":".join(map(str, request.elements_path)),
        "TMP_DIR": str(scratch),
        "DIB_IMAGE_CACHE": str(scratch / "cache"),
        "DIB_LOCKFILES": str(scratch / "locks"),
        "DIB_NO_TMPFS": "1",
        "DIB_RELEASE": request.codename,
        "DIB_SOE_SOURCES": str(sources),
        "DIB_SOE_IMAGE_SOURCES": str(lasting),
        "DIB_SOE_KEYRINGS": str(scratch / "keyrings"),
        "DIB_SOE_CA_CERTIFICATES": str(certificates),
        "DIB_SOE_PACKAGES": ",".join(request.packages),
        **({"DIB_SOE_BASE": str(request.base)} if request.base else {}),
        **({"DIB_SOE_SCAP_CONTENT": str(content), "DIB_SOE_SCAP_PROFILE": profile} if profile else {}),
    }


def image_sources(request: RootfsRequest) -> Sequence[Source]:
    """What /etc/apt/sources.list of the image says: never the mirror that happened to be near the build."""
    if request.image_sources:
        return request.image_sources
    main, security = CANONICAL
    suites = ((main, ""), (main, "-updates"), (security, "-security"))
    return [Source(uri, f"{request.codename}{pocket}", ("main",), ARCHIVE_KEYRING) for uri, pocket in suites]


def _offer_keyrings(keyrings: Mapping[str, Path], scratch: Path, environment: Mapping[str, str]) -> None:
    """Repository keys lie at one path for the host's apt, the image's apt at build time, and the image later. The
    mount is visible in our namespace only."""
    offered = scratch / "keyrings"
    offered.mkdir()
    for name, path in keyrings.items():
        shutil.copyfile(path, offered / name)
    if keyrings:
        run(["mount", "--bind", offered, KEYRINGS], env=environment, timeout=10.0)


def _write(path: Path, sources: Iterable[Source]) -> Path:
    path.write_text("".join(f"{source.apt_line()}\n" for source in sources))
    return path
