"""The step from a root file system to a measurement of it by a published standard.

OpenSCAP judges a system from inside: its offline mode does not find the packages. So the scanner runs in a throwaway
overlay of the root file system, beside it and not registered with dpkg. It is the image's own libraries that it runs
with, so the image cannot be believed more than it is believed already: it can lie about itself, and do nothing to its
surroundings (tools/sandbox.py).
"""

import os
import shutil
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

from imagefactory.errors import InputsChanged, ProgramFailed, ProgramTimeout, ScanFailed, TailoringInvalid
from imagefactory.model.compliance import Scan, Standard, is_live
from imagefactory.tools import archive, oscap, sandbox
from imagefactory.tools.durable import write_new
from imagefactory.tools.guest_scan import ATTEMPTS, GuestScan
from imagefactory.tools.process import Limits, run
from imagefactory.tools.scap import DataStream, Kit, unpack
from signing.digest import read_document
from signing.errors import SigningError

# Counts in the digest of the inputs: raise it when a change here alters what comes out.
REVISION = 1

TIMEOUT = 300.0  # seconds; ten are usual
LIMITS = Limits(memory=4 << 30, cpu=600, file_size=oscap.MAX_RESULTS)
MAX_REPORT = oscap.MAX_RESULTS  # bytes
RULE_FAILS = 2  # oscap's exit status when a rule fails

RESULTS, REPORT = "compliance-results.xml", "compliance-report.html"
CONTENT, TAILORING = sandbox.FOLDER / "content.xml", sandbox.FOLDER / "tailoring.xml"
# In an image these may be links to the same names below /usr, which would hide what a package brings there.
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


@dataclass(frozen=True)
class Scanned:
    """A measurement, with the scanner's report for people (HTML) and its results (XCCDF 1.2)."""

    scan: Scan
    report: Path
    results: Path


@dataclass(frozen=True)
class _Standard:
    """What is measured by: what oscap is given, read once, and what it means."""

    files: Mapping[str, bytes]
    content: oscap.Content
    profile: oscap.Profile

    @property
    def argv(self) -> list[str]:
        tailored = self.profile.id in self.content.tailored
        return ["--profile", self.profile.id, *(["--tailoring-file", str(TAILORING)] if tailored else [])]


def scan(
    rootfs: Path,
    kit: Kit,
    profile: str,
    tailoring: Path | None,
    output: Path,
    *,
    scratch: Path,
    log: Path,
    environment: Mapping[str, str],
    on_advance: Callable[[str], None],
) -> Scanned:
    """Measure the tar `rootfs` by `profile` (short name or id); report and results go to the directory `output`.

    Runs as root, in a mount and PID namespace that the caller made. `scratch` is an empty directory on a private tmpfs
    with room for the unpacked tar; what is in it afterwards is of no use.

    Raises InputsChanged, ContentInvalid, TailoringInvalid, ProfileUnknown, RootfsUnreadable, ScanFailed, DiskFull,
    ProgramMissing, ProgramFailed, ProgramTimeout.
    """
    standard = _standard(kit, profile, tailoring)
    tree, layer, written = (scratch / name for name in ("rootfs", "scanner", "written"))
    archive.extract(rootfs, tree, env=environment, log=log)
    _unpack_scanner(kit, layer, tree, environment)
    root = _overlay(tree, layer, scratch, environment)
    on_advance("root file system unpacked")
    written.mkdir()
    files = {sandbox.FOLDER / name: scratch / name for name in standard.files}
    for name, content in standard.files.items():
        write_new(scratch / name, content)
    outputs = ["--results", str(sandbox.OUTPUT / RESULTS), "--report", str(sandbox.OUTPUT / REPORT)]
    evaluate = partial(
        sandbox.run_inside,
        root,
        ["oscap", "xccdf", "eval", *standard.argv, *outputs, CONTENT],
        files=files,
        output=written,
        env=environment,
        timeout=TIMEOUT,
        log=log,
        limits=LIMITS,
        accept=(0, RULE_FAILS),
    )
    try:
        until_it_ends(evaluate, on_advance)
    except ProgramFailed as error:
        raise ScanFailed(f"the scanner failed: {error.message}", log=log, lines=error.lines) from error
    results, report = _taken(written / RESULTS, oscap.MAX_RESULTS), _taken(written / REPORT, MAX_REPORT)
    said = Standard(
        profile=standard.profile.name,
        title=standard.profile.title,
        benchmark=standard.content.benchmark,
        content=kit.sha256,
        version=kit.version,
        scanner=kit.scanner_version,
    )
    measured = oscap.scan_of(standard.content, standard.profile, oscap.read_results(results), said)
    on_advance(f"{len(measured.rules)} rules judged")
    return Scanned(measured, _kept(output / REPORT, report), _kept(output / RESULTS, results))


def until_it_ends(evaluate: Callable[[], object], on_advance: Callable[[str], None]) -> None:
    """Run the scanner, and again if it does not end: OpenSCAP 1.3 may wait for itself for ever.

    Raises ProgramTimeout when it never does, and what it raises.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            evaluate()
        except ProgramTimeout:
            on_advance(f"the scanner did not end within {TIMEOUT:.0f} s and is asked again")
        else:
            return
    evaluate()


def profile_id(content: DataStream, profile: str, tailoring: Path | None) -> str:
    """The id of the profile of the content itself that `profile` is, or is tailored from. Raises as `guest_scan`."""
    standard = _standard(Kit(content.path, content.sha256, content.version, (), ""), profile, tailoring)
    return standard.content.base(standard.profile).id


def guest_scan(disk: Path, kit: Kit, profile: str, tailoring: Path | None) -> GuestScan | None:
    """What a guest is asked when it measures itself, with the scanner on `disk`: the rules that no file answers. None
    where the profile has no such rule.

    Raises InputsChanged, ContentInvalid, TailoringInvalid, ProfileUnknown.
    """
    standard = _standard(kit, profile, tailoring)
    rules = {each.id: name for name, each in standard.content.selection(standard.profile).items() if is_live(name)}
    tailored = standard.profile.id in standard.content.tailored
    return GuestScan(disk, standard.profile.id, tailored, rules) if rules else None


def _standard(kit: Kit, profile: str, tailoring: Path | None) -> _Standard:
    files = {CONTENT.name: read_document(kit.content, most=oscap.MAX_CONTENT)}
    if sha256(files[CONTENT.name]).hexdigest() != kit.sha256:
        raise InputsChanged(f"{kit.content} changed since it was looked at")
    content = oscap.read_content(files[CONTENT.name])
    if tailoring is not None:
        files[TAILORING.name] = read_tailoring(tailoring)
        content = oscap.tailor(content, files[TAILORING.name])
    return _Standard(files, content, content.profile(profile))


def read_tailoring(path: Path) -> bytes:
    """The bytes of a tailoring file. Raises TailoringInvalid."""
    try:
        return read_document(path, most=oscap.MAX_TAILORING)
    except SigningError as error:
        raise TailoringInvalid(f"the tailoring file cannot be read: {error.message}") from None


def _unpack_scanner(kit: Kit, layer: Path, tree: Path, environment: Mapping[str, str]) -> None:
    """What is to lie under the root file system: the scanner, and a place for each mount."""
    layer.mkdir()
    for package in kit.scanner:
        unpack(package, layer, environment=environment)
    for name in MERGED:
        if (layer / name).is_dir() and (tree / name).is_symlink():
            shutil.copytree(layer / name, layer / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(layer / name)
    for name in (*sandbox.MOUNT_POINTS, "tmp"):
        (layer / name).mkdir(exist_ok=True)


def _overlay(tree: Path, layer: Path, scratch: Path, environment: Mapping[str, str]) -> Path:
    """The root file system with the scanner under it: where both have a file, the image's is seen, and directories
    have the owners and modes that they have in the image."""
    upper, work, merged = (scratch / name for name in ("upper", "work", "merged"))
    for each in (upper, work, merged):
        each.mkdir()
    # The root of an overlay is its upper directory's.
    owner = tree.stat()
    os.chown(upper, owner.st_uid, owner.st_gid)
    upper.chmod(stat.S_IMODE(owner.st_mode))
    options = f"lowerdir={tree}:{layer},upperdir={upper},workdir={work}"
    run(["mount", "-t", "overlay", "-o", options, "overlay", merged], env=environment, timeout=10.0)
    return merged


def _taken(path: Path, most: int) -> bytes:
    """What the scanner wrote: a regular file, and no larger than it may be."""
    try:
        return read_document(path, most=most)
    except SigningError as error:
        raise ScanFailed(f"the scanner left no {path.name}: {error.message}") from None


def _kept(path: Path, content: bytes) -> Path:
    path.unlink(missing_ok=True)
    write_new(path, content)
    return path
