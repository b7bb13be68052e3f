"""Steps of those who build and test: each looks where its job stands, does its own part, and says what comes next."""

import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from imagefactory.errors import InputsChanged, RequestInvalid
from imagefactory.factory.attested import logs_in
from imagefactory.factory.course import Course
from imagefactory.factory.loop import Factory
from imagefactory.factory.run import Run
from imagefactory.factory.stations import attested
from imagefactory.factory.view import View
from imagefactory.model import plan
from imagefactory.model.build import BuildState
from imagefactory.model.job import AS_IT_IS, JobState, NewTask, Role
from imagefactory.model.plan import Action
from imagefactory.model.recipe import LoadedRecipe
from imagefactory.service.outcome import Errand, Order, Outcome, logged, passes
from imagefactory.store.records import release_version
from imagefactory.tools.elements import search_path
from imagefactory.tools.recipe_file import check_elements, load_recipe

PLAN: Final = "plan"
ATTEST: Final = "attest"
CHECK: Final = "check"

ROLES: Final[Mapping[str, Role]] = {
    PLAN: Role.BUILD,
    plan.ROOTFS: Role.BUILD,
    plan.COMPLIANCE: Role.BUILD,
    plan.DISK: Role.BUILD,
    plan.CONVERT: Role.BUILD,
    ATTEST: Role.BUILD,
    plan.SBOM: Role.TEST,
    plan.VULNERABILITIES: Role.TEST,
    plan.BOOT: Role.TEST,
}
"""Who does which of these steps: what runs as root or has the key of provenance is not who reads hostile images."""


def make(errand: Errand, order: Order, factory: Factory) -> Outcome:
    """Do one of these steps, unless it has been done meanwhile. Raises RequestInvalid for a recipe that nobody put
    where recipes are, InputsChanged when it is another one than when the job began, and whatever the step raises."""
    course = Course.from_json(order.course) if order.course else Course()
    loaded = _recipe(order, course, factory)
    course = replace(course, recipe=loaded.digest)
    with factory.locks.name(order.name):
        factory.bury(order.name, but=course.build)
        run = Run(factory, loaded, fresh=order.fresh, publish=order.publish, course=course)
        with factory.recorded(run, passes):
            return _Making(errand, run).go_on()


def _recipe(order: Order, course: Course, factory: Factory) -> LoadedRecipe:
    path = Path(order.recipe_file)
    if not any(path.is_relative_to(each) for each in factory.settings.recipes) or ".." in path.parts:
        raise RequestInvalid(
            f"{order.recipe_file} is in none of the folders that IMAGEFACTORY_RECIPES names",
            advice="put recipes there, and ask for them by these paths",
        )
    loaded = load_recipe(path)
    if loaded.recipe.name != order.name:
        raise InputsChanged(f"{order.recipe_file} is the recipe of {loaded.recipe.name}, not of {order.name}")
    expected = course.recipe or order.recipe_digest
    if expected not in {loaded.digest, AS_IT_IS}:
        raise InputsChanged(
            f"{order.recipe_file} has changed since this build was asked for", advice="ask for another build"
        )
    check_elements(loaded, search_path(loaded.files[0], factory.settings.elements_path))
    return loaded


class _Making:
    """One step of a run."""

    def __init__(self, errand: Errand, run: Run) -> None:
        self._errand = errand
        self._run = run
        self._said = "nothing was left to be done"

    def go_on(self) -> Outcome:
        run, title = self._run, self._errand.title
        if title == PLAN:
            run.ask()
        view, coming = run.coming()
        if title == PLAN:
            self._said = coming[0].reason if coming else "nothing is to be done"
        if title == ATTEST and coming and coming[0].step == plan.SIGN:
            return self._attest(view)
        if coming and coming[0].title == title:
            self._said = run.step(coming[0], view)
            view, coming = run.coming()
        run.require_new(coming)
        return self._next(view, coming)

    def _attest(self, view: View) -> Outcome:
        made = attested(self._run.line, view)
        payload = {"attested": made.to_json(), "build": self._run.line.build.id, "targets": self._targets(None)}
        self._said = f"{made.name}@{made.version} is attested"
        return self._outcome([NewTask(Role.SIGN, plan.SIGN, payload=payload)])

    def _next(self, view: View, coming: tuple[Action, ...]) -> Outcome:
        if not coming:
            return self._ended(view)
        first = coming[0]
        if first.step == plan.PUBLISH and self._errand.role is not Role.TEST:
            return self._publish(view, coming)
        # Who tests has nothing published: a builder looks what there is.
        step = ATTEST if first.step in {plan.SIGN, plan.PUBLISH} else first.step
        task = NewTask(ROLES[step], step, first.subject)
        if self._run.course.checked:
            return self._outcome([task])
        catalogues = [target["catalogue"] for target in self._targets(None) if "catalogue" in target]
        then = {"role": task.role, "step": task.step, "subject": task.subject}
        payload = {"order": self._run.order(), "catalogues": catalogues, "then": then}
        return self._outcome([NewTask(Role.SIGN, CHECK, payload=payload)])

    def _ended(self, view: View) -> Outcome:
        reproduced = self._run.end(BuildState.REPRODUCED)
        return self._outcome([], JobState.REPRODUCED if reproduced else JobState.UNCHANGED, _ref(view))

    def _publish(self, view: View, coming: tuple[Action, ...]) -> Outcome:
        """What is there already goes where it is missing."""
        reproduced = self._run.end(BuildState.REPRODUCED)
        end = JobState.REPRODUCED if reproduced else JobState.RELEASED
        targets = self._targets({action.subject for action in coming})
        payload = {"release": _ref(view), "targets": targets, "end": end}
        return self._outcome([NewTask(Role.PUBLISH, plan.PUBLISH, payload=payload)])

    def _targets(self, places: set[str | None] | None) -> list[dict[str, Any]]:
        return [
            target.model_dump(mode="json", exclude_defaults=True)
            for place, target in self._run.targets.items()
            if places is None or place in places
        ]

    def _outcome(self, then: list[NewTask], end: JobState | None = None, release: str | None = None) -> Outcome:
        course = self._run.course
        result: dict[str, Any] = {"said": self._said, "host": socket.gethostname()}
        if course.build is not None:
            directory = self._run.line.log(ATTEST).parent
            found = logs_in(directory)
            result |= logged(*(directory / name for name in found if found[name] != course.logs.get(name)))
            course = self._run.logged(found)
        return Outcome(result, then, course.to_json(), end, release)


def _ref(view: View) -> str:
    assert view.release is not None  # noqa: S101 - a plan signs before it publishes, and before it has nothing to do
    return f"{view.release.name}@{release_version(view.release)}"
