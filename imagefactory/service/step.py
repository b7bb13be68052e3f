"""The process of one step: it reads an errand, does it, and says what came of it, in the language of hands.

It ends when its worker does, and with it everything that it has started.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from imagefactory import wiring
from imagefactory.errors import RequestInvalid
from imagefactory.factory.line import BootTest
from imagefactory.factory.loop import Factory
from imagefactory.hands.protocol import Document, say, serve
from imagefactory.model import plan
from imagefactory.model.job import Role
from imagefactory.progress import Advance, Event, Note, StepAdvanced, StepStarted
from imagefactory.service import keeping_steps, making, publishing_steps, signing_steps
from imagefactory.service.asking import EXPIRIES
from imagefactory.service.outcome import Errand, Order, Outcome
from imagefactory.service.role_hands import RoleHands
from imagefactory.settings import read_settings
from imagefactory.steps.boot_test import boot_test
from imagefactory.store.job_rows import Call
from imagefactory.store.jobs import Jobs
from imagefactory.store.records import Records

OF_JOBS: Final[Mapping[tuple[Role, str], Callable[[Errand, Order, Factory], Outcome]]] = {
    **{(role, step): making.make for step, role in making.ROLES.items()},
    (Role.SIGN, making.CHECK): signing_steps.check,
    (Role.SIGN, plan.SIGN): signing_steps.sign,
    (Role.SIGN, EXPIRIES): signing_steps.expiries,
    (Role.PUBLISH, plan.PUBLISH): publishing_steps.publish,
    (Role.LIFECYCLE, "apply"): keeping_steps.apply,
    (Role.LIFECYCLE, "audit"): keeping_steps.audit,
    (Role.LIFECYCLE, "refresh"): keeping_steps.refresh,
}
ALONE: Final[Mapping[tuple[Role, str], Callable[[Errand, Factory], Outcome]]] = {
    **{(Role.SIGN, step): signing_steps.in_catalogue for step in signing_steps.CATALOGUE_ACTIONS},
    **{(Role.PUBLISH, step): publishing_steps.in_cloud for step in publishing_steps.CLOUD_ACTIONS},
}
"""What each role does, and nothing else: of jobs, and for somebody who waits for it."""
STEPS: Final = frozenset(step for _, step in (*OF_JOBS, *ALONE))


def do(errand: Errand, factory: Factory) -> Outcome:
    """Do what a role was told to do. Raises RequestInvalid for what is not its own, and whatever the step raises."""
    key = (errand.role, errand.step)
    if errand.order is not None and key in OF_JOBS:
        return OF_JOBS[key](errand, errand.order, factory)
    if errand.order is None and key in ALONE:
        return ALONE[key](errand, factory)
    raise RequestInvalid(f"{errand.role} does no {errand.step}")


@dataclass(frozen=True)
class _Told:
    """Tells the worker how far a step is."""

    advance: Advance

    def __call__(self, event: Event) -> None:
        match event:
            case StepStarted():
                self.advance(f"{event.step}: {event.reason}")
            case StepAdvanced():
                self.advance(f"{event.step}: {event.text}" if event.text else event.step, event.done, event.total)
            case Note():
                say({"note": event.text, "level": event.level})


def run(request: Document, advance: Advance, boot_test: BootTest = boot_test) -> dict[str, Any]:
    """Do the errand of a request, with what the environment says."""
    errand, settings = Errand.from_json(request["errand"]), read_settings()

    def tell(call: Call) -> None:
        say({"call": [call.role, call.task_id]})

    def others(records: Records) -> RoleHands:
        return RoleHands(settings, errand.role, Jobs(records), tell)

    with wiring.factory(settings, _Told(advance), boot_test, others) as factory:
        return do(errand, factory).to_json()


if __name__ == "__main__":
    sys.exit(serve({"run": run}))
