"""The loop: what a recipe says is built, and what was released is published."""

import errno
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from imagefactory.errors import DiskFull, FactoryError, Interrupted
from imagefactory.factory.forecast import Forecast, forecast
from imagefactory.factory.inputs import gather
from imagefactory.factory.means import Means
from imagefactory.factory.places import Errand
from imagefactory.factory.publishing import Published
from imagefactory.factory.recipes import recipe_of
from imagefactory.factory.run import Outcome, Run
from imagefactory.model import plan
from imagefactory.model.build import BuildState
from imagefactory.model.plan import Action
from imagefactory.model.recipe import LoadedRecipe
from imagefactory.model.recipe_targets import CatalogueTarget, CloudTarget
from imagefactory.model.target import CloudPlace
from imagefactory.store.tables import Publication, Release
from signing.errors import SigningError
from signing.keys import KeyRing
from signing.manifest import PROVENANCE_FILE
from signing.trust import load_trust


@dataclass(frozen=True)
class Factory(Means):
    """Turns recipes into releases."""

    def plan(self, loaded: LoadedRecipe, *, fresh: bool = False, publish: bool = True) -> tuple[Action, ...]:
        """Which steps would run, and why. Fetches package lists; builds nothing and reserves nothing.

        Raises Busy, errors of gathering, MirrorUnreachable, PackageMissing.
        """
        with self.locks.name(loaded.recipe.name):
            inputs = gather(loaded, self.settings, self.progress)
            packages = self.lookout.packages(inputs, self.settings.environment)
            return plan.plan(self.lookout.view(inputs, packages, self.trust, fresh, frozenset(), publish).situation)

    def build(self, loaded: LoadedRecipe, *, fresh: bool = False, publish: bool = True) -> Outcome:
        """Do what the plan says until nothing is left to do.

        Raises Busy, Interrupted, and whatever a step raises; what was finished before is kept.
        """
        with self.locks.name(loaded.recipe.name):
            self.bury(loaded.recipe.name)
            KeyRing(self.settings.keys)
            run = Run(self, loaded, fresh=fresh, publish=publish)
            with self.recorded(run):
                return run.to_the_end()

    def publish(self, release: Release, target: CatalogueTarget | CloudTarget, *, deep: bool = False) -> Published:
        """Publish a release, again or anew, and verify it there, reading an image back from its cloud when `deep`.
        Raises Busy while somebody cleans up, and what publishing and verifying raise."""
        (done,) = self.publish_all(release, [Errand(target, "somebody asks for it")], deep=deep).values()
        if not isinstance(done, Published):
            raise done
        return done

    def forecast(self, release: Release, errands: Sequence[Errand]) -> tuple[Forecast, ...]:
        """What publish_all() would do, as far as the records tell. Raises what verifying the release raises."""
        return forecast(release, errands, self.artifacts, load_trust(self.trust_file))

    def withdraw(self, release: Release, publication: Publication, reason: str) -> None:
        """Take a publication back, and say why. Raises Busy while somebody cleans up, and what withdrawing raises."""
        desk = self.desk
        with self.locks.shared():
            desk.withdraw(release, publication, reason)

    def wish(self, release: Release, place: CloudPlace) -> Mapping[str, Any]:
        """How a release is to be published to a cloud, as far as anybody said so: the last time it was published
        there, or else in its recipe. Raises errors of the room signing."""
        for publication in release.publications:
            if publication.target == str(place) and "wish" in publication.details:
                return {**publication.details["wish"]}
        trust = load_trust(self.trust_file)
        provenance = self.artifacts.require(release.files[PROVENANCE_FILE])
        targets = recipe_of(provenance, trust).get("publish", ())
        return next((each for each in targets if each.get("cloud") == place.cloud), {})

    # -- the records of a run ------------------------------------------------------------------------------------------

    def bury(self, name: str, but: str | None = None) -> None:
        """Builds that died without a word, and what they left; we hold the lock, so nobody works on them. The one with
        the id `but` goes on: of that, only what lies about."""
        for build in self.records.abandoned(name):
            if build.id != but:
                self.records.move_build(build, BuildState.INTERRUPTED, ("interrupted", "it died"))
        self.clear(name)

    def clear(self, name: str) -> None:
        """Remove what builds left that died; we hold the lock, so nobody works on them."""
        left = {path.name for path in self.settings.work.iterdir()}
        for build in self.records.builds(name) if left else ():
            if build.id in left:
                shutil.rmtree(self.settings.work / build.id, ignore_errors=True)

    @contextmanager
    def recorded(self, run: Run, passes: Callable[[BaseException], bool] = lambda _: False) -> Iterator[None]:
        """Whatever ends a run is recorded with its build. Of what `passes` another run goes on with it."""
        try:
            yield
        except (FactoryError, SigningError) as error:
            if not passes(error):
                with suppress(DiskFull):  # of the records: the next build of this name sees that this one is dead
                    run.end(BuildState.FAILED, (error.code, error.message))
            raise
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            full = DiskFull(f"no space for {error.filename or 'the build'}")
            if not passes(full):
                with suppress(DiskFull):
                    run.end(BuildState.FAILED, (full.code, full.message))
            raise full from error
        except KeyboardInterrupt as error:
            stopped = Interrupted("stopped")
            if not passes(stopped):
                run.end(BuildState.INTERRUPTED, ("interrupted", "somebody stopped it"))
            raise stopped from error
        finally:
            run.clean()
