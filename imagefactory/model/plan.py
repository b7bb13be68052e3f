"""What would be done, and why: from what is wanted and what is there to a list of actions. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from imagefactory.model.packages import Change, summary

ROOTFS, SBOM, COMPLIANCE, VULNERABILITIES = "rootfs", "sbom", "compliance", "vulnerabilities"
DISK, CONVERT, BOOT, SIGN, PUBLISH = "disk", "convert", "boot-test", "sign", "publish"
FOUND_OUT = frozenset({SBOM, COMPLIANCE, VULNERABILITIES})
"""Steps that find something out about a root file system. No image depends on what they find."""


@dataclass(frozen=True)
class Action:
    """One step, on `subject` where there are several (a format, a target): run it or leave it, and the reason."""

    step: str
    run: bool
    reason: str
    subject: str | None = None

    @property
    def title(self) -> str:
        return f"{self.step} {self.subject}" if self.subject else self.step

    def to_json(self) -> dict[str, Any]:
        return {"step": self.step, "subject": self.subject, "run": self.run, "reason": self.reason}


@dataclass(frozen=True)
class Situation:
    """What is there already.

    `rootfs` says why the root file system must be built (None: it need not be, for the reason `rootfs_kept`). `sbom`,
    `compliance` and `vulnerabilities` (None: nobody wants it), `disk` and `boot` tell whether results for the current
    root file system and images are there, `formats` the same for each wanted format. `released` is the release that
    has this very content; where there is none that counts, `unsigned` may say why one does not. `base` says what image
    the root file system starts from, if any. `targets` maps each
    target to whether that release is published and was verified there. `fresh` does every step again that is not in
    `done`.
    """

    rootfs: str | None
    rootfs_kept: str
    sbom: bool
    compliance: bool | None
    vulnerabilities: bool | None
    disk: bool
    formats: Mapping[str, bool]
    boot: bool
    released: str | None
    targets: Mapping[str, bool]
    fresh: bool = False
    done: frozenset[str] = field(default_factory=frozenset)
    unsigned: str | None = None
    base: str | None = None


def plan(situation: Situation) -> tuple[Action, ...]:
    """Every step in order. The first that says run is what comes next; what follows it is a forecast."""
    s = situation
    actions: list[Action] = []
    again = "--fresh builds everything again"

    def add(step: str, reason: str | None, kept: str, subject: str | None = None) -> None:
        before = next((action for action in actions if action.run and action.step not in {*FOUND_OUT, PUBLISH}), None)
        title = f"{step} {subject}" if subject else step
        if s.fresh and title not in s.done and step not in {SIGN, PUBLISH}:
            reason = reason or again
        if before is not None and reason is None:
            reason = f"after {before.title}, unless that gives what it gave before"
        actions.append(Action(step, reason is not None, kept if reason is None else reason, subject))

    same = "the root file system is the same"
    add(ROOTFS, s.rootfs, s.rootfs_kept)
    if s.base is not None:
        actions[0] = replace(actions[0], reason=f"{actions[0].reason}; starts from {s.base}")
    add(SBOM, None if s.sbom else "nobody listed what is in this root file system", same)
    if s.compliance is not None:
        add(COMPLIANCE, None if s.compliance else "nobody measured this root file system", same)
    if s.vulnerabilities is not None:
        unknown = "nobody looked up this root file system in this feed"
        add(VULNERABILITIES, None if s.vulnerabilities else unknown, "the root file system and the feed are the same")
    add(DISK, None if s.disk else "there is no disk of this root file system", same)
    for name, there in s.formats.items():
        add(CONVERT, None if there else f"there is no {name} of this disk", "the disk is the same", name)
    add(BOOT, None if s.boot else "these images have not been booted", "these very images have been booted")
    unsigned = s.unsigned or "this content is not signed"
    add(SIGN, None if s.released else unsigned, f"this content is {s.released}")
    for target, there in s.targets.items():
        add(PUBLISH, None if there else "it is not published there", "published and verified there", target)
    return tuple(actions)


def coming(actions: Sequence[Action]) -> tuple[Action, ...]:
    """What is to be done next, at once: the first that is to run; where that is a publication, all publications, of
    which none waits for another. Empty when nothing is left."""
    first = next((action for action in actions if action.run), None)
    if first is None or first.step != PUBLISH:
        return () if first is None else (first,)
    return tuple(action for action in actions if action.run and action.step == PUBLISH)


def why_rootfs(
    inputs: Mapping[str, Any],
    known: Mapping[str, Any] | None,
    newest: Mapping[str, Any] | None,
    changes: Sequence[Change],
) -> str | None:
    """Why a root file system must be built, or None.

    `inputs` are today's, `known` those of the result that has the same digest (None: there is none), `newest` those of
    the last result of the same name, `changes` what an upgrade would bring.
    """
    if known is not None:
        return f"newer packages: {summary(changes)}" if changes else None
    if newest is None:
        return "it was never built"
    changed = [key for key in (*inputs, *(newest.keys() - inputs.keys())) if inputs.get(key) != newest.get(key)]
    return f"changed since the last build: {', '.join(changed)}" if changed else "its artifact is not kept any more"
