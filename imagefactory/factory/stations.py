"""What is done at each step of a build, on its line, and said of it in one line of text. Decides nothing."""

from collections.abc import Callable, Mapping

from imagefactory.factory.attested import Attested, Made, attest
from imagefactory.factory.line import Line
from imagefactory.factory.view import View
from imagefactory.model import plan
from imagefactory.model.compliance import Scan, percent
from imagefactory.model.plan import Action
from imagefactory.model.vulnerabilities import VulnerabilityScan, summary
from imagefactory.store.tables import StepResult

# Steps that want nothing but a root file system.
OF_ROOTFS = plan.FOUND_OUT | {plan.DISK}


def perform(line: Line, action: Action, view: View, in_release: str) -> str:
    """Do one step that makes or finds out something; `in_release` is the digest of what the mirrors say. Raises
    whatever that step raises."""
    if action.step == plan.ROOTFS:
        made = line.rootfs(in_release)
        return f"{len(made.facts['packages'])} packages, sha256:{made.outputs['rootfs'][:12]}"
    if view.rootfs is None or (view.disk is None and action.step not in OF_ROOTFS):
        raise AssertionError("a plan never puts a step before what it needs")
    if action.step in OF_ROOTFS:
        return _of_rootfs(line, view.rootfs)[action.step]()
    assert view.disk is not None  # noqa: S101
    if action.step == plan.CONVERT and action.subject is not None:
        made = line.convert(view.disk, action.subject)
        return f"{made.facts['size']} bytes, sha256:{made.outputs['image'][:12]}"
    assert action.step == plan.BOOT  # noqa: S101 - signing and publishing have desks of their own
    return _booted(line.boot(view.images, view.rootfs))


def attested(line: Line, view: View) -> Attested:
    """Attest what is there now, which is all that a release needs. Raises what `attest` raises."""
    assert view.rootfs is not None and view.disk is not None  # noqa: S101, PT018
    assert view.sbom is not None and view.boot is not None  # noqa: S101, PT018
    found = (view.sbom, view.compliance, view.vulnerabilities)
    return attest(line, Made(view.rootfs, *found, view.disk, view.images, view.boot))


def _of_rootfs(line: Line, rootfs: StepResult) -> Mapping[str, Callable[[], str]]:
    """What can be done with nothing but a root file system, by step. Each says in one line what came of it."""
    measuring, feed = line.inputs.measuring, line.inputs.feed
    steps: dict[str, Callable[[], str]] = {
        plan.SBOM: lambda: f"{line.sbom(rootfs).facts['components']} components",
        plan.DISK: lambda: f"sha256:{line.disk(rootfs).outputs['disk'][:12]}",
    }
    if measuring is not None:
        steps[plan.COMPLIANCE] = lambda: _measured(line.compliance(rootfs, measuring))
    if feed is not None:
        steps[plan.VULNERABILITIES] = lambda: _scanned(line.vulnerabilities(rootfs, feed))
    return steps


def _measured(result: StepResult) -> str:
    scan = Scan.from_json(result.facts["scan"])
    return f"{percent(scan.score)} of {scan.applicable} rules of {scan.standard.profile}"


def _scanned(result: StepResult) -> str:
    scan = VulnerabilityScan.from_json(result.facts["scan"])
    return f"{summary(scan.counts)} in {scan.sources} source packages, known on {scan.feed.dated}"


def _booted(result: StepResult) -> str:
    boots = [piece for piece in result.facts["evidence"] if piece["kind"] == "boot"]
    firmware = ", ".join(boots[0]["facts"].get("firmware", {})) if boots else ""
    return f"booted, checked, shut down and booted again: {firmware}"
