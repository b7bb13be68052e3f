"""An audit: what every cloud has of ours, held against what was signed and what the records say.

What an image says of itself can be put right. What no record knows is told, and retired if that is wanted and it has
been there for long enough. What is not ours is told and never touched.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from imagefactory.lifecycle.clouds import Clouds, look_document, owner_of
from imagefactory.lifecycle.keeper import Keeper
from imagefactory.lifecycle.places import Order
from imagefactory.model.drift import Finding
from imagefactory.model.strays import Retired, Stray
from imagefactory.model.survey import OtherImage, Survey, SurveyedImage, duplicates, intruders, strays
from imagefactory.model.target import CloudPlace, parse_place
from imagefactory.progress import Progress
from imagefactory.store.artifacts import ArtifactStore
from imagefactory.tools.side_by_side import FAILURES, Failure, side_by_side
from imagefactory.tools.strays import remember
from signing.manifest import MANIFEST_FILE

SAID = 200  # characters of what a cloud says that go into the audit log


@dataclass(frozen=True)
class Question:
    """What is wanted: of the images `names`, in all clouds or only in `cloud`; with every byte if `deep`, put right if
    `fix`, and with strays that are due retired if `retire_strays`."""

    names: Sequence[str]
    cloud: str | None = None
    deep: bool = False
    fix: bool = False
    retire_strays: bool = False


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
        """Whether something is not as it should be, and was not put right. What is retired is out of the way."""
        out = {each.image.id for each in self.strays if each.retired}
        strays = len(out) < len(self.strays)
        duplicates = any(sum(each.id not in out for each in same) > 1 for same in self.duplicates)
        others = strays or duplicates or bool(self.intruders)
        return others or not all(each.right for each in self.findings)


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
                found = self._compare(audited, survey, question.names, shown, now)
            except FAILURES as error:
                audited.failures.append((f"project {owner}" if owner else str(place), error))
                continue
            if question.retire_strays:
                found = self._retired(audited, place, survey.owner, found, now, progress)
            audited.strays += found
            for name in names:
                try:
                    audited.findings += self._name(question, place, owner, name, progress)
                except FAILURES as error:
                    audited.failures.append((name, error))
        return audited

    def _compare(
        self, audited: Audited, survey: Survey, names: Collection[str], shown: Collection[str], now: datetime
    ) -> list[Stray]:
        """Add what a project has that is there twice or is not ours; the strays. Raises Unwritable."""
        found = strays(survey, self.keeper.ledger.image_ids())
        before = remember(self.memory, f"{audited.target} {survey.owner}", [each.id for each in found], now)
        audited.duplicates += [same for same in duplicates(survey) if _name_of(same[0]) in names]
        for name in sorted(shown):
            audited.intruders += intruders(survey, name)
        return [Stray.seen(each, before.get(each.id), now) for each in found if _name_of(each) in names]

    def _retired(
        self,
        audited: Audited,
        place: CloudPlace,
        owner: str,
        found: Sequence[Stray],
        now: datetime,
        progress: Progress,
    ) -> list[Stray]:
        """The strays as they are after those that are due were retired, name by name."""
        due = defaultdict[str, list[Stray]](list)
        for each in found:
            if each.due <= now and not each.retired and each.kept_by is None:
                due[_name_of(each.image)].append(each)
        told = dict[str, Retired]()
        for name, mine in sorted(due.items()):
            try:
                told |= self._retire(place, owner, name, mine, progress)
            except FAILURES as error:
                audited.failures.append((f"strays of {name}", error))
        return [
            replace(each, done=said.done, code=said.code, message=said.message)
            if (said := told.get(each.image.id))
            else each
            for each in found
        ]

    def _retire(
        self, place: CloudPlace, owner: str, name: str, found: Sequence[Stray], progress: Progress
    ) -> dict[str, Retired]:
        """What became of strays of one name, by image id, as the only one who publishes that name there: what was
        recorded meanwhile is none any more. The audit log has them first. Raises Busy, errors of the cloud."""
        with self.keeper.locks.place(name, str(place)):
            wanted = strays(Survey(owner, tuple(each.image for each in found)), self.keeper.ledger.image_ids())
            for image in wanted:
                self.keeper.audit.append(
                    "stray-retired",
                    about=_plain(image.release),
                    target=str(place),
                    image=image.id,
                    account=self.keeper.account,
                )
            asked = [{"image_id": each.id, "release": each.release} for each in wanted]
            return self.clouds.retire(place, owner, asked, progress) if asked else {}

    def _name(
        self, question: Question, place: CloudPlace, owner: str | None, name: str, progress: Progress
    ) -> list[Finding]:
        """What the images of one name are like. What is put right is put right as the only one who works there."""
        with ExitStack() as stack:
            if question.fix:
                stack.enter_context(self.keeper.locks.place(name, str(place)))
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
        digest = order.release.files[MANIFEST_FILE]
        # Of one that is nowhere the publisher says so, and looks at the others.
        manifest = self.artifacts.require(digest) if self.artifacts.has(digest) else self.artifacts.path(digest)
        return {
            "image_id": order.publication.image_id,
            "release": str(order.ref),
            "manifest": str(manifest),
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
                        what=_plain(drift.what),
                        account=self.keeper.account,
                    )


def _name_of(image: SurveyedImage) -> str:
    return image.release.partition("@")[0]


def _plain(said: str) -> str:
    """What a cloud said, as the audit log takes it."""
    return said[:SAID].encode("ascii", "replace").decode()
