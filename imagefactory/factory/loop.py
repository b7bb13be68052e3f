"""The loop: look at what is there, plan, do the first thing that is to be done, look again."""

import errno
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from imagefactory.errors import ComplianceFailed, DiskFull, FactoryError, Interrupted, StateConflict
from imagefactory.factory import standard, vulnerabilities
from imagefactory.factory.catalogues import Catalogues
from imagefactory.factory.forecast import Forecast, forecast
from imagefactory.factory.inputs import Inputs, gather
from imagefactory.factory.keeping import Office
from imagefactory.factory.line import BootTest, Line
from imagefactory.factory.places import Errand, Outcomes, failure, publish_all
from imagefactory.factory.publishing import Desk, Published, published
from imagefactory.factory.recipes import recipe_of
from imagefactory.factory.release import SigningDesk, check
from imagefactory.factory.stations import attested, perform
from imagefactory.factory.view import Lookout, Packages, View
from imagefactory.model import plan
from imagefactory.model.build import BuildState
from imagefactory.model.plan import Action
from imagefactory.model.recipe import LoadedRecipe
from imagefactory.model.recipe_targets import CatalogueTarget, CloudTarget
from imagefactory.model.target import CloudPlace
from imagefactory.progress import Progress, StepFinished, StepStarted
from imagefactory.settings import Settings
from imagefactory.store.artifacts import ArtifactStore
from imagefactory.store.lock import lock, shared
from imagefactory.store.records import Records, release_version
from imagefactory.store.tables import Build, Publication, Release, StepResult
from signing.errors import SigningError
from signing.keys import KeyRing
from signing.manifest import PROVENANCE_FILE
from signing.trust import Trust, find_trust, load_trust


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


@dataclass(frozen=True)
class Factory:
    """Turns recipes into releases."""

    settings: Settings
    records: Records
    artifacts: ArtifactStore
    progress: Progress
    boot_test: BootTest

    @property
    def lookout(self) -> Lookout:
        return Lookout(self.records, self.artifacts)

    def plan(self, loaded: LoadedRecipe, *, fresh: bool = False, publish: bool = True) -> tuple[Action, ...]:
        """Which steps would run, and why. Fetches package lists; builds nothing and reserves nothing.

        Raises Busy, errors of gathering, MirrorUnreachable, PackageMissing.
        """
        with lock(self.settings.home / "locks", loaded.recipe.name):
            inputs = gather(loaded, self.settings, self.progress)
            packages = self.lookout.packages(inputs, self.settings.environment)
            return plan.plan(self.lookout.view(inputs, packages, self._trust(), fresh, frozenset(), publish).situation)

    def build(self, loaded: LoadedRecipe, *, fresh: bool = False, publish: bool = True) -> Outcome:
        """Do what the plan says until nothing is left to do.

        Raises Busy, Interrupted, and whatever a step raises; what was finished before is kept.
        """
        with lock(self.settings.home / "locks", loaded.recipe.name):
            self._bury(loaded.recipe.name)
            KeyRing(self.settings.keys)
            trust_file = find_trust(self.settings.trust_files())
            trust = load_trust(trust_file)
            run = _Run(self, gather(loaded, self.settings, self.progress), trust, trust_file, fresh, publish)
            with self._recorded(run):
                return run.to_the_end()

    def publish(self, release: Release, target: CatalogueTarget | CloudTarget, *, deep: bool = False) -> Published:
        """Publish a release, again or anew, and verify it there, reading an image back from its cloud when `deep`.
        Raises Busy while somebody cleans up, and what publishing and verifying raise."""
        (done,) = self.publish_all(release, [Errand(target, "somebody asks for it")], deep=deep).values()
        if not isinstance(done, Published):
            raise done
        return done

    def publish_all(self, release: Release, errands: Sequence[Errand], *, deep: bool = False) -> Outcomes:
        """The same for several places at once; what goes wrong in one of them is returned. Raises Busy while somebody
        cleans up."""
        trust_file = find_trust(self.settings.trust_files())
        with shared(self.settings.home / "locks"):
            return publish_all(self._desk(trust_file), release, errands, deep=deep)

    def forecast(self, release: Release, errands: Sequence[Errand]) -> tuple[Forecast, ...]:
        """What publish_all() would do, as far as the records tell. Raises what verifying the release raises."""
        return forecast(release, errands, self.artifacts, load_trust(find_trust(self.settings.trust_files())))

    def withdraw(self, release: Release, publication: Publication, reason: str) -> None:
        """Take a publication back, and say why. Raises Busy while somebody cleans up, and what withdrawing raises."""
        trust_file = find_trust(self.settings.trust_files())
        with shared(self.settings.home / "locks"):
            self._desk(trust_file).withdraw(release, publication, reason)

    @property
    def office(self) -> Office:
        """Who looks after what it has released. Raises NoTrustRoot."""
        return self._office(find_trust(self.settings.trust_files()))

    def _office(self, trust_file: Path) -> Office:
        return Office(self.settings, self.records, self.artifacts, self.progress, trust_file)

    def _desk(self, trust_file: Path) -> Desk:
        keeper = self._office(trust_file).keeper
        return Desk(self.settings, self.records, self.artifacts, self.progress, trust_file, keeper)

    def wish(self, release: Release, place: CloudPlace) -> Mapping[str, Any]:
        """How a release is to be published to a cloud, as far as anybody said so: the last time it was published
        there, or else in its recipe. Raises errors of the room signing."""
        for publication in release.publications:
            if publication.target == str(place) and "wish" in publication.details:
                return {**publication.details["wish"]}
        trust = load_trust(find_trust(self.settings.trust_files()))
        provenance = self.artifacts.require(release.files[PROVENANCE_FILE])
        targets = recipe_of(provenance, trust).get("publish", ())
        return next((each for each in targets if each.get("cloud") == place.cloud), {})

    def _trust(self) -> Trust | None:
        """Whom this factory trusts; a plan may be made before there are keys."""
        with suppress(SigningError):
            return load_trust(find_trust(self.settings.trust_files()))
        return None

    # -- the records of a run ------------------------------------------------------------------------------------------

    def _bury(self, name: str) -> None:
        """Builds that died without a word, and what they left; we hold the lock, so nobody works on them."""
        for build in self.records.abandoned(name):
            self.records.move_build(build, BuildState.INTERRUPTED, ("interrupted", "it died"))
        left = {path.name for path in self.settings.work.iterdir()}
        for build in self.records.builds(name) if left else ():
            if build.id in left:
                shutil.rmtree(self.settings.work / build.id, ignore_errors=True)

    @contextmanager
    def _recorded(self, run: "_Run") -> Iterator[None]:
        try:
            yield
        except (FactoryError, SigningError) as error:
            with suppress(DiskFull):  # of the records: the next build of this name sees that this one is dead
                run.end(BuildState.FAILED, (error.code, error.message))
            raise
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            full = DiskFull(f"no space for {error.filename or 'the build'}")
            with suppress(DiskFull):
                run.end(BuildState.FAILED, (full.code, full.message))
            raise full from error
        except KeyboardInterrupt as error:
            run.end(BuildState.INTERRUPTED, ("interrupted", "somebody stopped it"))
            raise Interrupted("stopped") from error
        finally:
            run.clean()


class _Run:
    """One run of the loop."""

    def __init__(
        self, factory: Factory, inputs: Inputs, trust: Trust, trust_file: Path, fresh: bool, publish: bool
    ) -> None:
        self._factory = factory
        self._inputs = inputs
        self._trust = trust
        self._trust_file = trust_file
        self._fresh = fresh
        self._publish = publish
        self._line: Line | None = None
        self._packages: Packages | None = None
        self._done: frozenset[str] = frozenset()
        self._worked = False

    def to_the_end(self) -> Outcome:
        """Look, plan, act, until the plan has nothing to run."""
        self._packages = self._factory.lookout.packages(self._inputs, self._factory.settings.environment)
        told: set[str] = set()
        while True:
            view = self._look()
            actions = plan.plan(view.situation)
            coming = plan.coming(actions)
            for action in actions[: actions.index(coming[0])] if coming else actions:
                if action.title not in told | self._done:
                    told.add(action.title)
                    self._factory.progress(StepFinished(action.title, action.reason, reused=True, seconds=0.0))
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
                    records = self._factory.records
                    records.remember(measured.key, measured.step, measured.name, measured.outputs, measured.facts)
            raise

    def end(self, state: BuildState, error: tuple[str, str] | None = None) -> None:
        if self._line is not None and self._line.build.state == BuildState.RUNNING:
            self._factory.records.move_build(self._line.build, state, error)

    def clean(self) -> None:
        if self._line is not None:
            shutil.rmtree(self._line.work, ignore_errors=True)

    def _look(self) -> View:
        assert self._packages is not None  # noqa: S101 - to_the_end() sets it first
        lookout = self._factory.lookout
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
        self._factory.progress(StepStarted(action.title, action.reason, log))
        outcome = self._perform(action, view)
        self._done |= {action.title}
        self._worked = True
        seconds = time.monotonic() - started
        self._factory.progress(StepFinished(action.title, outcome, reused=False, seconds=seconds))

    def _perform(self, action: Action, view: View) -> str:
        """Do one step and say in one line what came of it."""
        line = self._reserved()
        if action.step == plan.SIGN:
            log = line.log(plan.SIGN)
            release = self._signing.sign(attested(line, view), line.build, line.directory("sign"), log)
            return f"{release.name}@{release_version(release)}"
        assert self._packages is not None  # noqa: S101 - to_the_end() sets it first
        said = perform(line, action, view, self._packages.in_release)
        if action.step == plan.ROOTFS:
            self._packages = replace(self._packages, changes=())
        return said

    @property
    def _signing(self) -> SigningDesk:
        factory = self._factory
        return SigningDesk(factory.settings, factory.records, factory.artifacts, self._trust_file, factory.progress)

    def _publish_all(self, actions: Sequence[Action], view: View) -> None:
        """Publish to all targets at once. Raises the error of a single one, PlacesFailed for several."""
        assert view.release is not None  # noqa: S101 - the plan signs before it publishes
        targets = {action.subject: action for action in actions}
        errands = [Errand(self._inputs.targets[place], each.reason) for place, each in targets.items() if place]
        outcomes = self._factory.publish_all(view.release, errands)
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
            factory, loaded = self._factory, self._inputs.loaded
            self._require_catalogues()
            signed = check(self._inputs, factory.settings, self._trust, self._trust_file)
            build = factory.records.reserve(
                loaded.recipe.name, loaded.files[0], loaded.digest, factory.settings.logs, after=signed
            )
            factory.records.move_build(build, BuildState.RUNNING)
            self._line = Line(
                self._inputs,
                build,
                factory.settings,
                factory.records,
                factory.artifacts,
                self._trust,
                self._trust_file,
                factory.progress,
                factory.boot_test,
            )
            self._line.work.mkdir(parents=True)
        return self._line

    def _require_catalogues(self) -> None:
        """Raises CatalogueUninitialised."""
        catalogues = Catalogues(self._factory.settings, self._trust_file)
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
