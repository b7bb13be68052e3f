"""What somebody has to do now and then, so that nothing is lost: any number of beats may do it at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from threading import Event
from typing import Final

from sqlalchemy.orm import Session

from imagefactory.errors import FactoryError
from imagefactory.model.job import AS_IT_IS, JobOrder, NewTask, Role
from imagefactory.service.asking import EXPIRIES, PLAN
from imagefactory.service.logs import logger
from imagefactory.service.notify import Notifier
from imagefactory.service.settling import Settling
from imagefactory.store.job_rows import Call
from imagefactory.store.jobs import Jobs
from imagefactory.store.notices import Notices
from imagefactory.store.records import Records
from imagefactory.store.schedules import Claim, Kind, Schedules

EVERY: Final = 2.0  # seconds between two looks
ACCOUNT: Final = "schedule"  # who asks for what is due

FIRST: Final[Mapping[Kind, NewTask]] = {
    Kind.REBUILD: PLAN,
    Kind.LIFECYCLE: NewTask(Role.LIFECYCLE, "apply"),
    Kind.AUDIT: NewTask(Role.LIFECYCLE, "audit"),
    Kind.REFRESH: NewTask(Role.LIFECYCLE, "refresh"),
    Kind.KEYS: NewTask(Role.SIGN, EXPIRIES),
}
"""What a run of each kind of schedule begins with."""


@dataclass(frozen=True)
class Beat:
    """What one look needs. `tell` tells workers, `notifier` people."""

    records: Records
    tell: Callable[[Sequence[Call]], None]
    notifier: Notifier
    host: str

    def tick(self) -> None:
        """Ask for what is due, begin again or fail what died, tell of what waits and of what has ended. What cannot be
        done now is done the next time, and keeps nothing else from being done."""
        for part in (self._claim, self._sweep, self._settle):
            try:
                part()
            except FactoryError as error:
                logger().warning("the beat waits", code=error.code, why=error.message)

    def notify(self) -> int:
        """Send notices that wait; how many were taken."""
        return self.notifier.flush(Notices(self.records))

    def _claim(self) -> None:
        jobs, calls = Jobs(self.records), list[Call]()

        def ask(session: Session, claim: Claim) -> None:
            order = order_of(claim)
            job, call = jobs.request_in(session, order, FIRST[claim.kind])
            calls.extend([call] if call else [])
            logger().info("a schedule is due", name=claim.name, kind=claim.kind, job=job.id)

        Schedules(self.records).claim_due(also=ask)
        self.tell(calls)

    def _sweep(self) -> None:
        jobs = Jobs(self.records)
        swept = jobs.sweep()
        if swept.again or swept.failed or swept.cancelled:
            logger().warning("tasks had died", again=swept.again, failed=swept.failed, cancelled=swept.cancelled)
        while calls := jobs.untold():
            self.tell(calls)

    def _settle(self) -> None:
        receivers = self.notifier.config.wanting
        Settling(self.records, lambda kind: [each.name for each in receivers(kind)], self.host).settle()


def order_of(claim: Claim) -> JobOrder:
    """What a run that is due asks for: the recipe as it is when work begins."""
    fresh = claim.kind is Kind.REBUILD and not claim.schedule.only_if_changed
    planned = claim.planned.astimezone(UTC).replace(tzinfo=None)
    recipe = str(claim.recipe_file) if claim.kind is Kind.REBUILD else ""
    return JobOrder(claim.name, recipe, AS_IT_IS, claim.reason, ACCOUNT, fresh=fresh, scheduled=planned)


def run(beat: Beat, stop: Event, on_tick: Callable[[], None] = lambda: None, every: float = EVERY) -> None:
    """Look every so many seconds until `stop`; `on_tick` is called each time."""
    while not stop.is_set():
        on_tick()
        beat.tick()
        stop.wait(every)


def run_notices(beat: Beat, stop: Event, every: float = EVERY) -> None:
    """Send notices until `stop`: beside the rest, because receivers may be slow."""
    while not stop.is_set():
        try:
            beat.notify()
        except FactoryError as error:
            logger().warning("notices wait", code=error.code, why=error.message)
        stop.wait(every)
