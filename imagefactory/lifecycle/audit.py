"""An audit: what every cloud has of ours, held against what was signed and what the records say.

What an image says of itself can be put right. What no record knows, and what is not ours, is told and never touched.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from imagefactory.lifecycle.clouds import Clouds, look_document, owner_of
from imagefactory.lifecycle.keeper import Keeper
from imagefactory.lifecycle.places import Order
from imagefactory.model.drift import Finding
from imagefactory.model.survey import OtherImage, Survey, SurveyedImage, duplicates, intruders, strays
from imagefactory.model.target import CloudPlace, parse_place
from imagefactory.progress import Progress
from imagefactory.store.artifacts import ArtifactStore
from imagefactory.store.lock import place_lock
from imagefactory.tools.side_by_side import FAILURES, Failure, side_by_side
from imagefactory.tools.strays import remember
from signing.manifest import MANIFEST_FILE

SAID = 200  # characters of what a cloud says that go into the audit log


@dataclass(frozen=True)
class Question:
    """What is wanted: of the images `names`, in all clouds or only in `cloud`; with every byte if `deep`, and put right
    if `fix`."""

    names: Sequence[str]
    cloud: str | None = None
    deep: bool = False
    fix: bool = False


@dataclass(frozen=True)
class Stray:
    """An image of ours that no record knows; `since` is when an earlier audit saw it first, None if none did."""

    image: SurveyedImage
    since: datetime | None


@dataclass
class Audited:
    """What there is to be said of one cloud. `failures` are by the name that could not be asked about, or by the whole
    project; what else is told holds all the same."""

    target: str
    findings: list[Finding] = field(default_factory=list)
    strays: list[Stray] = field(default_factory=list)
    duplicates: list[tuple[SurveyedImage, ...]] = field(default_factory=list)
    intruders: list[OtherImage] = field(default_factory=list)
    failures: list[tuple[str, Failure]] = field(default_factory=list)

    @property
    def drifted(self) -> bool:
        """Whether something is not as it should be, and was not put right."""
        others = self.strays or self.duplicates or self.intruders
        return bool(others) or not all(each.right for each in self.findings)


@dataclass(frozen=True)
class Inspection:
    """Audits the clouds that a keeper's releases are in; `trust` is what their manifests are verified with, and
    `memory` the directory where strays are remembered."""

    keeper: Keeper
    clouds: Clouds
    artifacts: ArtifactStore
    trust: Path
    memory: Path

    def audit(self, question: Question, now: datetime) -> list[Audited]:
        """What every cloud says at `now` (aware). One that cannot be asked stops no other."""
        wanted = defaultdict[CloudPlace, list[str]](list)
        for name in question.names:
            for target in self.keeper.ledger.places(name):
                place = parse_place(target)
                if isinstance(place, CloudPlace) and question.cloud in {None, place.cloud}:
                    wanted[place].append(name)
        works = {
            str(place): partial(self._place, question, place, names, now)
            for place, names in sorted(wanted.items(), key=str)
        }
        done = side_by_side(works, self.keeper.progress) if works else {}
        return [
            each if isinstance(each, Audited) else Audited(target, failures=[(target, each)])
            for target, each in done.items()
        ]

    def _place(
        self, question: Question, place: CloudPlace, names: Sequence[str], now: datetime, progress: Progress
    ) -> Audited:
        audited = Audited(str(place))
        projects = defaultdict[str | None, set[str]](set)  # and the names that are to be ours there
        for name in names:
            for order in self.keeper.looks(name, str(place)):
                shown = projects[owner_of(order.publication)]
                if not order.look.hidden:
                    shown.add(order.look.name)
        for owner, shown in sorted(projects.items(), key=str):
            try:
                survey = self.clouds.survey(place, owner, progress, shown)
                self._compare(audited, survey, question.names, shown, now)
            except FAILURES as error:
                audited.failures.append((f"project {owner}" if owner else str(place), error))
                continue
            for name in names:
                try:
                    audited.findings += self._name(question, place, owner, name, progress)
                except FAILURES as error:
                    audited.failures.append((name, error))
        return audited

    def _compare(
        self, audited: Audited, survey: Survey, names: Collection[str], shown: Collection[str], now: datetime
    ) -> None:
        """Add what a project has that the records do not have. Raises Unwritable."""
        found = strays(survey, self.keeper.ledger.image_ids())
        before = remember(self.memory, f"{audited.target} {survey.owner}", [each.id for each in found], now)
        audited.strays += [Stray(each, before.get(each.id)) for each in found if _name_of(each) in names]
        audited.duplicates += [same for same in duplicates(survey) if _name_of(same[0]) in names]
        for name in sorted(shown):
            audited.intruders += intruders(survey, name)

    def _name(
        self, question: Question, place: CloudPlace, owner: str | None, name: str, progress: Progress
    ) -> list[Finding]:
        """What the images of one name are like. What is put right is put right as the only one who works there."""
        with ExitStack() as stack:
            if question.fix:
                stack.enter_context(place_lock(self.keeper.locks, name, str(place)))
            orders = [each for each in self.keeper.looks(name, str(place)) if owner_of(each.publication) == owner]
            if not orders:
                return []
            request = {
                "owner": owner,
                "trust": str(self.trust),
                "deep": question.deep,
                "fix": question.fix,
                "images": [self._image(place, order) for order in orders],
            }
            said = self.clouds.audit(place, request, progress)["images"]
            findings = [Finding.from_document(each) for each in said]
            self._record(place, findings)
        return findings

    def _image(self, place: CloudPlace, order: Order) -> dict[str, Any]:
        return {
            "image_id": order.publication.image_id,
            "release": str(order.ref),
            "manifest": str(self.artifacts.path(order.release.files[MANIFEST_FILE])),
            "look": look_document(order),
            "target": {**order.publication.details.get("wish", {}), "cloud": place.cloud},
        }

    def _record(self, place: CloudPlace, findings: Sequence[Finding]) -> None:
        for finding in findings:
            for drift in finding.drift:
                if drift.fixed:
                    self.keeper.audit.append(
                        "mended",
                        about=finding.release,
                        target=str(place),
                        image=finding.image_id,
                        what=drift.what[:SAID].encode("ascii", "replace").decode(),
                        account=self.keeper.account,
                    )


def _name_of(image: SurveyedImage) -> str:
    return image.release.partition("@")[0]
