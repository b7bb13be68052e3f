"""One build: look at what is there, plan, do what is to be done first, look again."""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime

from imagefactory.errors import ComplianceFailed, DiskFull, StateConflict
from imagefactory.factory import standard, vulnerabilities
from imagefactory.factory.catalogues import Catalogues
from imagefactory.factory.inputs import gather
from imagefactory.factory.line import Line
from imagefactory.factory.means import Means
from imagefactory.factory.places import Errand, failure
from imagefactory.factory.publishing import Published, published
from imagefactory.factory.release import check
from imagefactory.factory.stations import attested, perform
from imagefactory.factory.view import Packages, View
from imagefactory.model import plan
from imagefactory.model.build import BuildState
from imagefactory.model.plan import Action
from imagefactory.model.recipe import LoadedRecipe
from imagefactory.model.recipe_targets import CatalogueTarget
from imagefactory.progress import StepFinished, StepStarted
from imagefactory.store.records import release_version
from imagefactory.store.tables import Build, Release, StepResult
from signing.trust import load_trust


@dataclass(frozen=True)
class Outcome:
    """How a build ended: the release that has the wanted content, where of its recipe's targets it is published, and
    whether any work was needed. `build` is None when none was."""

    release: Release
    published: Mapping[str, Published]
    verified: Mapping[str, datetime]
    worked: bool
    reproduced: bool
    build: Build | None


class Run:
    """One build of one recipe, as far as it has come."""

    def __init__(self, means: Means, loaded: LoadedRecipe, *, fresh: bool, publish: bool) -> None:
        """Look whom the factory trusts, and at what goes in. Raises NoTrustRoot, TrustInvalid, errors of gathering."""
        self._means = means
        self._trust_file = means.trust_file
        self._trust = load_trust(self._trust_file)
        self._inputs = gather(loaded, means.settings, means.progress)
        self._fresh = fresh
        self._publish = publish
        self._line: Line | None = None
        self._packages: Packages | None = None
        self._done: frozenset[str] = frozenset()
        self._worked = False

    def to_the_end(self) -> Outcome:
        """Look, plan, act, until the plan has nothing to run. Raises whatever a step raises."""
        self._packages = self._means.lookout.packages(self._inputs, self._means.settings.environment)
        told: set[str] = set()
        while True:
            view = self._look()
            actions = plan.plan(view.situation)
            coming = plan.coming(actions)
            for action in actions[: actions.index(coming[0])] if coming else actions:
                if action.title not in told | self._done:
                    told.add(action.title)
                    self._means.progress(StepFinished(action.title, action.reason, reused=True, seconds=0.0))
            with self._refused_is_last(view.compliance):
                if not coming or coming[0].step not in {plan.ROOTFS, *plan.FOUND_OUT}:
                    self._hold_to_gates(view)
                if not coming:
                    return self._outcome(view)
                self._do(coming, view)

    def _hold_to_gates(self, view: View) -> None:
        """Nothing is made of a root file system that does not keep its standard or has vulnerabilities that the recipe
        does not let pass; and what was made of it is not passed over in silence when more of them become known.

        Raises ComplianceFailed, VulnerabilitiesFound.
        """
        recipe = self._inputs.recipe
        if recipe.compliance is not None and view.compliance is not None:
            standard.require_files(recipe.compliance, view.compliance)
        if recipe.vulnerabilities is not None and view.vulnerabilities is not None:
            vulnerabilities.require(recipe.vulnerabilities, view.vulnerabilities)

    @contextmanager
    def _refused_is_last(self, measured: StepResult | None) -> Iterator[None]:
        """What is refused may have been measured long ago. Now it is the last one, which people are told to look at."""
        try:
            yield
        except ComplianceFailed:
            if measured is not None:
                with suppress(DiskFull):
                    records = self._means.records
                    records.remember(measured.key, measured.step, measured.name, measured.outputs, measured.facts)
            raise

    def end(self, state: BuildState, error: tuple[str, str] | None = None) -> None:
        if self._line is not None and self._line.build.state == BuildState.RUNNING:
            self._means.records.move_build(self._line.build, state, error)

    def clean(self) -> None:
        if self._line is not None:
            shutil.rmtree(self._line.work, ignore_errors=True)

    def _look(self) -> View:
        assert self._packages is not None  # noqa: S101 - to_the_end() sets it first
        lookout = self._means.lookout
        return lookout.view(self._inputs, self._packages, self._trust, self._fresh, self._done, self._publish)

    def _do(self, actions: Sequence[Action], view: View) -> None:
        """Do what comes next: one step, or several publications."""
        for action in actions:
            if action.title in self._done:
                raise StateConflict(f"{action.title} is done and has no effect: {action.reason}")
        if actions[0].step == plan.PUBLISH:
            self._publish_all(actions, view)
        else:
            self._step(actions[0], view)

    def _step(self, action: Action, view: View) -> None:
        started = time.monotonic()
        log = str(self._reserved().log(action.title))
        self._means.progress(StepStarted(action.title, action.reason, log))
        outcome = self._perform(action, view)
        self._done |= {action.title}
        self._worked = True
        seconds = time.monotonic() - started
        self._means.progress(StepFinished(action.title, outcome, reused=False, seconds=seconds))

    def _perform(self, action: Action, view: View) -> str:
        """Do one step and say in one line what came of it."""
        line = self._reserved()
        if action.step == plan.SIGN:
            log = line.log(plan.SIGN)
            release = self._means.signing.sign(attested(line, view), line.build, line.directory("sign"), log)
            return f"{release.name}@{release_version(release)}"
        assert self._packages is not None  # noqa: S101 - to_the_end() sets it first
        said = perform(line, action, view, self._packages.in_release)
        if action.step == plan.ROOTFS:
            self._packages = replace(self._packages, changes=())
        return said

    def _publish_all(self, actions: Sequence[Action], view: View) -> None:
        """Publish to all targets at once. Raises the error of a single one, PlacesFailed for several."""
        assert view.release is not None  # noqa: S101 - the plan signs before it publishes
        targets = {action.subject: action for action in actions}
        errands = [Errand(self._inputs.targets[place], each.reason) for place, each in targets.items() if place]
        outcomes = self._means.publish_all(view.release, errands)
        done = {targets[place].title for place, each in outcomes.items() if isinstance(each, Published)}
        self._done |= done
        self._worked = self._worked or bool(done)
        for each in outcomes.values() if len(outcomes) == 1 else ():
            if not isinstance(each, Published):
                raise each
        failed = failure(view.release, outcomes)
        if failed is not None:
            raise failed

    def _reserved(self) -> Line:
        """The build that this run's work belongs to; its version is reserved when the first step needs it."""
        if self._line is None:
            means, loaded = self._means, self._inputs.loaded
            self._require_catalogues()
            signed = check(self._inputs, means.settings, self._trust, self._trust_file)
            build = means.records.reserve(
                loaded.recipe.name, loaded.files[0], loaded.digest, means.settings.logs, after=signed
            )
            means.records.move_build(build, BuildState.RUNNING)
            self._line = Line(
                self._inputs,
                build,
                means.settings,
                means.records,
                means.artifacts,
                self._trust,
                self._trust_file,
                means.progress,
                means.boot_test,
            )
            self._line.work.mkdir(parents=True)
        return self._line

    def _require_catalogues(self) -> None:
        """Raises CatalogueUninitialised."""
        catalogues = Catalogues(self._means.settings, self._trust_file)
        for target in self._inputs.targets.values() if self._publish else ():
            if isinstance(target, CatalogueTarget):
                catalogues.require_ready(target.place.root)

    def _outcome(self, view: View) -> Outcome:
        assert view.release is not None  # noqa: S101 - the plan signs before it has nothing left to run
        reproduced = self._line is not None and self._line.build.state == BuildState.RUNNING
        if reproduced:
            self.end(BuildState.REPRODUCED)
        there = {
            (where := published(view.release, publication)).target: (where, publication.verified)
            for publication in view.release.publications
            if view.situation.targets.get(publication.target)
        }
        return Outcome(
            release=view.release,
            published={target: where for target, (where, _) in there.items()},
            verified={target: at for target, (_, at) in there.items() if at is not None},
            worked=self._worked,
            reproduced=reproduced,
            build=self._line.build if self._line else None,
        )
