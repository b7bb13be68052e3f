"""One build: look at what is there, plan, do what is to be done first, look again."""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from imagefactory.errors import ComplianceFailed, DiskFull, StateConflict
from imagefactory.factory import standard, vulnerabilities
from imagefactory.factory.catalogues import Catalogues
from imagefactory.factory.course import Course
from imagefactory.factory.inputs import gather
from imagefactory.factory.line import Line
from imagefactory.factory.means import Means
from imagefactory.factory.places import Errand, failure
from imagefactory.factory.publishing import Published, published
from imagefactory.factory.release import order
from imagefactory.factory.stations import attested, perform
from imagefactory.factory.view import View
from imagefactory.model import plan
from imagefactory.model.build import BuildState
from imagefactory.model.plan import Action
from imagefactory.model.recipe import LoadedRecipe
from imagefactory.model.recipe_targets import CatalogueTarget, CloudTarget
from imagefactory.model.release import Version
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

    def __init__(
        self, means: Means, loaded: LoadedRecipe, *, fresh: bool, publish: bool, course: Course | None = None
    ) -> None:
        """Look whom the factory trusts, and at what goes in; a `course` is where another run of the same build stopped.
        Raises NoTrustRoot, TrustInvalid, errors of gathering."""
        self._means = means
        self._trust_file = means.trust_file
        self._trust = load_trust(self._trust_file)
        self._inputs = gather(loaded, means.settings, means.progress)
        self._fresh = fresh
        self._publish = publish
        self._line: Line | None = None
        self._course = course or Course()
        self._told: set[str] = set()

    def to_the_end(self) -> Outcome:
        """Look, plan, act, until the plan has nothing to run. Raises whatever a step raises."""
        self.ask()
        while True:
            view, coming = self.coming()
            if not coming:
                return self._outcome(view)
            with self._refused_is_last(view.compliance):
                self._do(coming, view)

    def ask(self) -> None:
        """Ask the mirrors what they have now. Raises MirrorUnreachable, PackageMissing."""
        packages = self._means.lookout.packages(self._inputs, self._means.settings.environment)
        self._course = replace(self._course, packages=packages)

    def coming(self) -> tuple[View, tuple[Action, ...]]:
        """What is there, and what is to be done next; nothing where all is done. Raises ComplianceFailed,
        VulnerabilitiesFound."""
        view = self.look()
        actions = plan.plan(view.situation)
        coming = plan.coming(actions)
        for action in actions[: actions.index(coming[0])] if coming else actions:
            if action.title not in self._told | self._course.done:
                self._told.add(action.title)
                self._means.progress(StepFinished(action.title, action.reason, reused=True, seconds=0.0))
        with self._refused_is_last(view.compliance):
            if not coming or coming[0].step not in {plan.ROOTFS, *plan.FOUND_OUT}:
                self._hold_to_gates(view)
        return view, coming

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

    @property
    def course(self) -> Course:
        """How far this is."""
        return self._course

    def logged(self, digests: Mapping[str, str]) -> Course:
        """The same, with these logs, by the name of their file; each with its SHA-256."""
        self._course = replace(self._course, logs={**self._course.logs, **digests})
        return self._course

    @property
    def targets(self) -> Mapping[str, CatalogueTarget | CloudTarget]:
        """Where the recipe publishes to, by place; nothing where that is not wanted."""
        return self._inputs.targets if self._publish else {}

    def end(self, state: BuildState, error: tuple[str, str] | None = None) -> bool:
        """Its build, if there is one and it runs, has ended so. Returns whether there was one."""
        build = self._line.build if self._line else self._going_on()
        if build is None or build.state != BuildState.RUNNING:
            return False
        self._means.records.move_build(build, state, error)
        return True

    def clean(self) -> None:
        if self._line is not None:
            shutil.rmtree(self._line.work, ignore_errors=True)

    def look(self) -> View:
        """What is there."""
        course, lookout = self._course, self._means.lookout
        assert course.packages is not None  # noqa: S101 - ask() comes first
        return lookout.view(self._inputs, course.packages, self._trust, self._fresh, course.done, self._publish)

    def _do(self, actions: Sequence[Action], view: View) -> None:
        """Do what comes next: one step, or several publications."""
        self.require_new(actions)
        if actions[0].step == plan.PUBLISH:
            self._publish_all(actions, view)
        else:
            self.step(actions[0], view)

    def require_new(self, actions: Sequence[Action]) -> None:
        """Raises StateConflict when what is to be done has been done."""
        for action in actions:
            if action.title in self._course.done:
                raise StateConflict(f"{action.title} is done and has no effect: {action.reason}")

    def step(self, action: Action, view: View) -> str:
        """Do one step that is no publication. Returns in one line what came of it; raises whatever it raises."""
        started = time.monotonic()
        log = str(self.line.log(action.title))
        self._means.progress(StepStarted(action.title, action.reason, log))
        outcome = self._perform(action, view)
        self._note(action.title)
        seconds = time.monotonic() - started
        self._means.progress(StepFinished(action.title, outcome, reused=False, seconds=seconds))
        return outcome

    def _note(self, *titles: str) -> None:
        """These are done."""
        self._course = replace(self._course, done=self._course.done | {*titles}, worked=True)

    def _perform(self, action: Action, view: View) -> str:
        """Do one step and say in one line what came of it."""
        line, packages = self.line, self._course.packages
        if action.step == plan.SIGN:
            log = line.log(plan.SIGN)
            release = self._means.signing.sign(attested(line, view), line.build, line.directory("sign"), log)
            return f"{release.name}@{release_version(release)}"
        assert packages is not None  # noqa: S101 - ask() comes first
        if action.step in {plan.COMPLIANCE, plan.BOOT}:  # which take packages to the system
            self._inputs.index(self._means.settings.environment).have(packages.in_release)
        said = perform(line, action, view, packages.in_release)
        if action.step == plan.ROOTFS:
            self._course = replace(self._course, packages=replace(packages, changes=()))
        return said

    def _publish_all(self, actions: Sequence[Action], view: View) -> None:
        """Publish to all targets at once. Raises the error of a single one, PlacesFailed for several."""
        assert view.release is not None  # noqa: S101 - the plan signs before it publishes
        targets = {action.subject: action for action in actions}
        errands = [Errand(self._inputs.targets[place], each.reason) for place, each in targets.items() if place]
        outcomes = self._means.publish_all(view.release, errands)
        done = [targets[place].title for place, each in outcomes.items() if isinstance(each, Published)]
        if done:
            self._note(*done)
        for each in outcomes.values() if len(outcomes) == 1 else ():
            if not isinstance(each, Published):
                raise each
        failed = failure(view.release, outcomes)
        if failed is not None:
            raise failed

    @property
    def line(self) -> Line:
        """The build that this run's work belongs to; its version is reserved when the first step needs it."""
        if self._line is None:
            means = self._means
            build = self._going_on() or self._reserve()
            self._course = replace(self._course, build=build.id)
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
                self._course.logs,
            )
            self._line.work.mkdir(parents=True)
        return self._line

    def _going_on(self) -> Build | None:
        """The build of this course, unless somebody has ended it."""
        builds = self._means.records.builds(self._inputs.recipe.name) if self._course.build else ()
        return next(
            (each for each in builds if each.id == self._course.build and each.state == BuildState.RUNNING), None
        )

    def _reserve(self) -> Build:
        means, loaded, course = self._means, self._inputs.loaded, self._course
        if course.checked:
            signed = Version.parse(course.signed) if course.signed else None
        else:
            self._require_catalogues()
            signed = means.signing.check(self.order())
        build = means.records.reserve(
            loaded.recipe.name, loaded.files[0], loaded.digest, means.settings.logs, after=signed
        )
        means.records.move_build(build, BuildState.RUNNING)
        return build

    def order(self) -> dict[str, Any]:
        """What the signer is asked before any work; the builder's own half of it is seen to be well. Raises errors of
        the builder's own key, StandardMissing and others of `standard.check`."""
        return order(self._inputs, self._means.settings, self._trust, self._trust_file)

    def _require_catalogues(self) -> None:
        """Raises CatalogueUninitialised."""
        catalogues = Catalogues(self._means.settings, self._trust_file, others=self._means.hands)
        for target in self.targets.values():
            if isinstance(target, CatalogueTarget):
                catalogues.require_ready(target.place.root)

    def _outcome(self, view: View) -> Outcome:
        assert view.release is not None  # noqa: S101 - the plan signs before it has nothing left to run
        reproduced = self.end(BuildState.REPRODUCED)
        there = {
            (where := published(view.release, publication)).target: (where, publication.verified)
            for publication in view.release.publications
            if view.situation.targets.get(publication.target)
        }
        return Outcome(
            release=view.release,
            published={target: where for target, (where, _) in there.items()},
            verified={target: at for target, (_, at) in there.items() if at is not None},
            worked=self._course.worked,
            reproduced=reproduced,
            build=self._line.build if self._line else None,
        )
