"""What follows from the end of a job, for its schedule and for people."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from imagefactory.errors import FactoryError
from imagefactory.errors.service import NotifyRefused, NotifyUnreachable
from imagefactory.model.build import BuildState
from imagefactory.model.event import Due, Event, EventKind
from imagefactory.model.job import AS_IT_IS, JobOrder, JobState, Role, TaskState
from imagefactory.model.notify import Notify
from imagefactory.model.recipe_schedule import Schedule
from imagefactory.service.asking import PLAN
from imagefactory.service.beat import Beat
from imagefactory.service.notify import Notifier
from imagefactory.service.settling import Settling
from imagefactory.store.job_rows import Call
from imagefactory.store.jobs import Jobs
from imagefactory.store.leases import Leases
from imagefactory.store.notices import HOLD, MOST_ATTEMPTS, Notices
from imagefactory.store.records import Records
from imagefactory.store.schedules import Kind, Schedules
from imagefactory.store.tables import Job, Notice, ScheduleRow

RECIPE = Path("/recipes/soe.yaml")
NIGHTLY = Schedule.model_validate({"cron": "30 2 * * *", "pause_after": 2})
WANTED = {EventKind.JOB_FAILED: ["chat", "mail"], EventKind.SCHEDULE_PAUSED: ["mail"], EventKind.EXPIRY_SOON: ["mail"]}


class World:
    """Records with one schedule, and a beat that looks when it is told to."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.jobs = Jobs(records)
        self.calls: list[Call] = []
        self.runs = 0
        self.settling = Settling(records, lambda kind: WANTED.get(kind, []), "here")

    def make_due(self, name: str = "soe") -> None:
        """As if time had come to the next run, each a minute later than the one before."""
        self.runs += 1
        with self.records.session() as session:
            row = session.get(ScheduleRow, name)
            assert row is not None
            row.begins = row.next_run = datetime(2026, 1, 1, 0, self.runs)

    def tick(self) -> None:
        Beat(self.records, self.calls.extend, Notifier(Notify()), "here").tick()

    def run(self, code: str | None = None) -> Job:
        """A run that is due is claimed, and its first task is done or fails for good."""
        self.make_due()
        self.tick()
        call = self.calls.pop()
        held = self.jobs.claim(call.task_id, call.role, "worker", 60.0)
        assert held is not None
        assert held.job is not None
        if code is None:
            self.jobs.done(held, {}, end=JobState.UNCHANGED)
        else:
            self.jobs.fail(held, code, "it broke", again=False)
        return self.jobs.job(held.job.id)

    def notices(self) -> list[Notice]:
        with self.records.session() as session:
            return list(session.query(Notice).order_by(Notice.id))

    def change(self, **values: object) -> None:
        with self.records.session() as session:
            session.execute(update(Notice).values(**values))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    records = Records(tmp_path / "db")
    Schedules(records).register("soe", RECIPE, NIGHTLY)
    yield World(records)
    records.close()


def test_what_is_due_is_asked_for_once_as_the_recipe_is_then(world: World) -> None:
    world.make_due()
    world.tick()
    world.tick()
    (job,) = world.jobs.jobs()
    assert (job.name, job.recipe_file, job.recipe_digest, job.account) == ("soe", str(RECIPE), "0" * 64, "schedule")
    assert job.reason.startswith("schedule: due ")
    assert not job.fresh
    (task,) = world.jobs.tasks(job.id)
    assert (task.role, task.step, task.state) == (Role.BUILD, "plan", TaskState.QUEUED)
    assert [call.task_id for call in world.calls] == [task.id]


def test_who_wants_a_build_whatever_has_changed_gets_it_fresh(world: World) -> None:
    always = Schedule.model_validate({"cron": "30 2 * * *", "only_if_changed": False})
    Schedules(world.records).register("soe", RECIPE, always)
    world.make_due()
    world.tick()
    assert world.jobs.jobs()[0].fresh


@pytest.mark.parametrize("kind", [Kind.LIFECYCLE, Kind.AUDIT, Kind.REFRESH])
def test_what_is_looked_after_is_the_keepers_work(world: World, kind: Kind) -> None:
    Schedules(world.records).register(f".{kind}", Path(), NIGHTLY, kind=kind)
    world.make_due(f".{kind}")
    world.tick()
    (job,) = world.jobs.jobs()
    assert [task.role for task in world.jobs.tasks(job.id)] == [Role.LIFECYCLE]


def test_keys_that_expire_soon_are_told_of_once(world: World) -> None:
    Schedules(world.records).register(".keys", Path(), NIGHTLY, kind=Kind.KEYS)
    soon, late = (datetime.now(UTC) + timedelta(days=days) for days in (5, 500))
    keys = [{"purpose": "glance", "keyid": f"{each:%Y}" * 16, "expires": each.isoformat()} for each in (soon, late)]
    for _ in range(2):
        world.make_due(".keys")
        world.tick()
        call = world.calls.pop()
        assert call.role is Role.SIGN
        held = world.jobs.claim(call.task_id, call.role, "worker", 60.0)
        assert held is not None
        world.jobs.done(held, {"expiries": keys, "host": "signer"}, end=JobState.DONE)
        world.settling.settle()
    (notice,) = world.notices()
    assert "expires in 5 days" in notice.document["what"]
    assert notice.document["where"] == "signer"


def test_failures_in_a_row_pause_it_and_are_told(world: World) -> None:
    world.run(code="disk-full")
    assert world.settling.settle() == 1
    assert world.settling.settle() == 0
    assert [(each.receiver, each.document["kind"]) for each in world.notices()] == [
        ("chat", "job.failed"),
        ("mail", "job.failed"),
    ]
    schedules = Schedules(world.records)
    assert not schedules.one("soe").paused
    world.run()
    world.settling.settle()
    assert schedules.one("soe").failures == 0
    for _ in range(2):
        world.run(code="disk-full")
        world.settling.settle()
    assert schedules.one("soe").paused
    assert [each.document["kind"] for each in world.notices()][-1] == "schedule.paused"
    assert "disk-full" in world.notices()[-1].document["what"]


def test_the_build_of_a_job_that_failed_ends_as_it(world: World) -> None:
    build, other = (world.records.reserve(name, RECIPE, "d" * 64, Path("/logs")) for name in ("soe", "soe-other"))
    world.records.move_build(build, BuildState.RUNNING)
    world.run("mirror-unreachable")
    world.tick()
    (after,) = world.records.builds("soe")
    assert (after.state, after.error_code, after.error_message) == ("failed", "mirror-unreachable", "it broke")
    assert world.records.builds(other.name)[0].state == "reserved", "nobody's concern"


def test_the_build_of_a_job_that_was_called_off_is_interrupted(world: World) -> None:
    world.records.reserve("soe", RECIPE, "d" * 64, Path("/logs"))
    world.make_due()
    world.tick()
    (job,) = world.jobs.jobs("soe")
    world.jobs.cancel(job.id, "anna")
    world.tick()
    (after,) = world.records.builds("soe")
    assert (after.state, after.error_code, after.error_message) == ("interrupted", "cancelled", "cancelled by anna")


@pytest.mark.parametrize("who", ["a job", "somebody"])
def test_a_build_may_be_anothers(world: World, who: str) -> None:
    """Who has begun since the job failed, of which a beat learns late."""
    failed = world.run("mirror-unreachable")
    world.records.reserve("soe", RECIPE, "d" * 64, Path("/logs"))
    with ExitStack() as stack:
        if who == "a job":
            _, call = world.jobs.request(JobOrder("soe", str(RECIPE), AS_IT_IS, "", "anna"), PLAN)
            assert call is not None
            assert world.jobs.claim(call.task_id, call.role, "worker", 60.0)
        else:
            stack.enter_context(Leases(world.records).hold("soe", "somebody builds it"))
        world.settling.settle()
    assert world.jobs.job(failed.id).told
    assert world.records.builds("soe")[0].state == "reserved"


def test_who_dies_between_two_steps_tells_of_it_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run(code="disk-full")

    def die(*_: object) -> None:
        raise FactoryError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Jobs, "settled", die)
        with pytest.raises(FactoryError):
            world.settling.settle()
    assert world.notices() == []
    world.settling.settle()
    assert len(world.notices()) == 2
    assert Schedules(world.records).one("soe").failures == 1


def test_a_notice_is_somebodys_and_then_anybodys_and_then_nobodys(world: World) -> None:
    world.run(code="disk-full")
    world.settling.settle()
    notices = Notices(world.records)
    (chat, mail) = sorted(notices.due(10), key=lambda due: due.receiver)
    assert isinstance(chat.event, Event)
    assert chat.event.kind is EventKind.JOB_FAILED
    assert notices.due(10) == []
    notices.sent(chat)
    world.change(due=datetime(2020, 1, 1, tzinfo=UTC).replace(tzinfo=None))  # who had them is dead
    assert [due.receiver for due in notices.due(10)] == ["mail"], "what was sent is not sent again"
    notices.failed(mail, NotifyUnreachable("away"))
    row = world.notices()[1]
    assert (row.error_code, row.sent) == ("notify-unreachable", None)
    assert row.due is not None
    assert row.due < datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=HOLD)
    notices.failed(mail, NotifyRefused("no"))
    assert world.notices()[1].due is None


def test_nobody_is_tried_for_ever(world: World) -> None:
    world.run(code="disk-full")
    world.settling.settle()
    notices = Notices(world.records)
    for _ in range(MOST_ATTEMPTS):
        world.change(due=datetime(2020, 1, 1))
        for due in notices.due(10):
            notices.failed(due, NotifyUnreachable("away"))
    assert [row.due for row in world.notices()] == [None, None]
    assert notices.due(10) == []


def test_an_event_comes_back_as_it_was(world: World) -> None:
    event = Event(EventKind.TEST, "1", "soe", datetime.now(UTC), "a", "b\nc", "d", "e", {"f": "g"})
    with world.records.session() as session:
        Notices(world.records).add(session, event, ["chat", "chat"])
        Notices(world.records).add(session, event, ["chat"])
    assert Notices(world.records).due(10) == [Due(event, "chat")]
