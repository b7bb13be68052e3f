"""One release to several places at once. Each has its own state in the records; what fails in one place neither holds
back nor undoes what is done in another."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

from imagefactory.errors import PlacesFailed
from imagefactory.factory.publishing import Desk, Published
from imagefactory.model import plan
from imagefactory.model.recipe_targets import CatalogueTarget, CloudTarget
from imagefactory.progress import Progress, StepFailed, StepFinished, StepStarted
from imagefactory.store.records import release_version
from imagefactory.store.tables import Release
from imagefactory.tools.side_by_side import FAILURES, Failure, Work, side_by_side

Outcomes: TypeAlias = Mapping[str, Published | Failure]
"""What came of each place, in the order in which they were named."""


@dataclass(frozen=True)
class Errand:
    """A place to go to, and why."""

    target: CatalogueTarget | CloudTarget
    reason: str

    @property
    def place(self) -> str:
        return str(self.target.place)

    @property
    def title(self) -> str:
        return f"{plan.PUBLISH} {self.place}"


def publish_all(desk: Desk, release: Release, errands: Sequence[Errand], *, deep: bool = False) -> Outcomes:
    """Publish a release to several places, of which none is named twice, and verify it from each.

    Raises what has no name, such as KeyboardInterrupt; all that has one is in what is returned.
    """
    ended: dict[str, Published | Failure] = {}
    pieces: dict[str, Work[Published]] = {}
    unasked = _open_keys(desk, errands)
    with ExitStack() as held:
        # In the same order by everybody: two who want the same places do not get half of them each.
        for errand in sorted(errands, key=lambda each: each.place):
            alone = held.enter_context(ExitStack())
            try:
                alone.enter_context(desk.alone(release, errand.place))
            except FAILURES as busy:
                ended[errand.title] = busy
                continue
            if unasked is not None and isinstance(errand.target, CatalogueTarget):
                ended[errand.title] = unasked
            else:
                pieces[errand.title] = partial(_go, desk, release, errand, deep, alone, len(errands) == 1)
        ended.update(side_by_side(pieces, desk.progress))
    return {errand.place: ended[errand.title] for errand in errands}


def failure(release: Release, outcomes: Outcomes) -> PlacesFailed | None:
    """The error that tells of every place, if one of them failed."""
    if not any(isinstance(each, FAILURES) for each in outcomes.values()):
        return None
    told = {place: each.to_json() if isinstance(each, Published) else each for place, each in outcomes.items()}
    return PlacesFailed(f"{release.name}@{release_version(release)}", told)


def _open_keys(desk: Desk, errands: Sequence[Errand]) -> Failure | None:
    """Ask for a passphrase before anything else goes on at the terminal. What is wrong with the keys is the
    catalogues' concern alone."""
    if len(errands) > 1 and any(isinstance(each.target, CatalogueTarget) for each in errands):
        try:
            desk.hands.open_keys()
        except FAILURES as error:
            return error
    return None


def _go(
    desk: Desk, release: Release, errand: Errand, deep: bool, alone: ExitStack, only: bool, progress: Progress
) -> Published:
    """One errand, for which `alone` is held; who is done lets go of it. A failure is told while others go on."""
    with alone:
        log = desk.settings.publisher_log(errand.target.cloud) if isinstance(errand.target, CloudTarget) else None
        progress(StepStarted(errand.title, errand.reason, str(log) if log else None))
        started = time.monotonic()
        try:
            done = replace(desk, progress=progress).publish(release, errand.target, deep=deep)
        except FAILURES as error:
            if not only:
                progress(StepFailed(errand.title, f"{error.message} [{error.code}]"))
            raise
        seconds = time.monotonic() - started
        progress(StepFinished(errand.title, f"verified in {done.text}", reused=False, seconds=seconds))
        return done
