"""What follows from the end of a job: its build ends, its schedule learns of it, and people are told."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from imagefactory.errors import Busy, catalogue
from imagefactory.model.build import BuildState
from imagefactory.model.event import Event, EventKind, expiry_soon, job_failed, release_published, schedule_paused
from imagefactory.model.job import JobState
from imagefactory.model.release import ReleaseRef
from imagefactory.service.asking import EXPIRIES
from imagefactory.store.jobs import Jobs
from imagefactory.store.leases import Leases
from imagefactory.store.lock import on_name
from imagefactory.store.notices import Notices
from imagefactory.store.records import Records
from imagefactory.store.schedules import Outcome, Schedules
from imagefactory.store.tables import Job, Task

MOST: Final = 100  # jobs at once
Receivers = Callable[[EventKind], Sequence[str]]
"""The names of those who want to know of such events."""

_BROKEN: Final = (JobState.FAILED, JobState.CANCELLED)
_OUTCOMES: Final = {
    JobState.FAILED: Outcome.FAILED,
    JobState.RELEASED: Outcome.RELEASED,
    JobState.REPRODUCED: Outcome.UNCHANGED,
    JobState.UNCHANGED: Outcome.UNCHANGED,
    JobState.DONE: Outcome.DONE,
}


class Settling:
    """Settles the jobs that have ended and of which nobody was told; any number of beats may do it at once."""

    def __init__(self, records: Records, receivers: Receivers, host: str) -> None:
        self._records = records
        self._jobs = Jobs(records)
        # Who loses one here has read and will read again: there is nothing to stop.
        self._leases = Leases(records, stop=lambda: None, kill=lambda: None)
        self._schedules = Schedules(records)
        self._notices = Notices(records)
        self._receivers = receivers
        self._host = host

    def settle(self) -> int:
        """Returns how many jobs. Raises what the database raises."""
        ended = self._jobs.unsettled(MOST)
        for job in ended:
            # Done again when we die in between: a run counts once, and an event has one id.
            if job.state in _BROKEN:
                self._bury(job)
            paused = self._count(job)
            with self._records.session() as session:
                for event in self._events(job, paused=paused):
                    self._notices.add(session, event, self._receivers(event.kind))
                self._jobs.settled(session, job)
        return len(ended)

    def _bury(self, job: Job) -> None:
        """End the builds that this job, which nobody goes on with, leaves open. Where another one of its name has
        begun, or somebody builds it without a job, they may be theirs, who look after them."""
        if not self._records.abandoned(job.name):
            return
        with suppress(Busy), self._leases.hold(job.name, on_name(job.name)):
            if not self._jobs.jobs(job.name, [JobState.RUNNING], most=1):
                for build in self._records.abandoned(job.name):
                    failed = job.state == JobState.FAILED and build.state == BuildState.RUNNING
                    end = BuildState.FAILED if failed else BuildState.INTERRUPTED
                    self._records.move_build(build, end, (job.error_code or job.state, job.error_message or ""))

    def _count(self, job: Job) -> bool:
        """Have the schedule count the run; whether that paused it."""
        outcome = _OUTCOMES.get(JobState(job.state))
        if job.scheduled is None or outcome is None:
            return False
        return self._schedules.record_outcome(job.name, _aware(job.scheduled), outcome, job.error_code)

    def _events(self, job: Job, *, paused: bool) -> list[Event]:
        at = _aware(job.finished or job.touched)
        events = []
        if job.state == JobState.FAILED:
            code = job.error_code or ""
            advice = next((kind.default_advice for kind in catalogue() if kind.code == code), "")
            events.append(job_failed(job.id, job.name, code, job.error_message or "", advice, self._host, at))
        if job.state == JobState.RELEASED and job.release and job.publish:
            ref = ReleaseRef.parse(job.release)
            places = [each.target for each in self._records.release(ref).publications]
            events += [release_published(ref.name, str(ref.version), place, at) for place in places]
        for task in self._jobs.tasks(job.id) if job.state == JobState.DONE else ():
            events += _expiring(task, at)
        if paused:
            reason = self._schedules.one(job.name).pause_reason or ""
            events.append(schedule_paused(job.name, reason, self._host, at))
        return events


def _expiring(task: Task, now: datetime) -> list[Event]:
    """What a signer said of its keys."""
    host = str(task.result.get("host", ""))
    told = (
        expiry_soon(each["purpose"], each["keyid"], datetime.fromisoformat(each["expires"]), now, host)
        for each in task.result.get(EXPIRIES, ())
    )
    return [event for event in told if event is not None]


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)
