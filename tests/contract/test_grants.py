"""What each account of the service can do in a real PostgreSQL, by the code that does it, and what it cannot."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from sqlalchemy import text

from imagefactory.errors.service import DatabaseRefused
from imagefactory.model.broker import account_name
from imagefactory.model.build import BuildState, PublicationState
from imagefactory.model.job import TELLS, JobState, NewTask, Role, TaskState
from imagefactory.service.beat import FIRST
from imagefactory.store.database import ServiceDatabase
from imagefactory.store.grants import ACCOUNTS, BEAT, OPERATOR, grant, granted
from imagefactory.store.jobs import Jobs
from imagefactory.store.leases import Leases
from imagefactory.store.records import Records
from imagefactory.store.schedules import Kind
from imagefactory.store.tables import Release
from tests.servers.postgres import remember
from tests.servers.postgres_fixtures import Place
from tests.unit.test_jobs import BOOT, LEASE, PLAN, order

PASSWORDS = {account: f"the password of {account}" for account in ACCOUNTS}
SIGN = NewTask(Role.SIGN, "sign")


@pytest.fixture
def accounts(service_database: Place) -> Iterator[Mapping[str, Records]]:
    """The records as each account sees them."""
    grant(ServiceDatabase(service_database.parsed()), PASSWORDS)
    with ExitStack() as stack:
        seen = {}
        for account, password in PASSWORDS.items():
            remember(service_database.server, account_name(account), password)
            records = Records(service_database.parsed(account_name(account)))
            seen[account] = stack.enter_context(closing(records))
        yield seen


def refused(records: Records, statement: str) -> None:
    with pytest.raises(DatabaseRefused), records.session() as session:
        session.execute(text(statement))


def released(accounts: Mapping[str, Records], name: str = "soe") -> Release:
    build = accounts[Role.BUILD].reserve(name, Path("/r.yaml"), "d" * 64, Path("/logs"))
    accounts[Role.BUILD].move_build(build, BuildState.RUNNING)
    return accounts[Role.SIGN].add_release(build, content_digest="c" * 64, files={}, images={}, evidence={})


def test_done_twice_it_changes_nothing(service_database: Place) -> None:
    database = ServiceDatabase(service_database.parsed())
    assert grant(database, PASSWORDS, dry_run=True)
    assert not granted(database)
    assert grant(database, PASSWORDS)
    assert granted(database)
    assert not grant(database, PASSWORDS)
    with database.engine.begin() as connection:
        connection.execute(text('grant delete on releases to "imagefactory-test"'))
        connection.execute(text('create policy "mine" on tasks for update to "imagefactory-test" using (true)'))
    assert grant(database, {}), "what was granted beside it is taken away"
    assert not grant(database, {})


def test_who_could_do_more_is_refused(service_database: Place) -> None:
    database = ServiceDatabase(service_database.parsed())
    grant(database, PASSWORDS)
    with database.engine.begin() as connection:
        connection.execute(text('alter role "imagefactory-test" createrole'))
    try:
        with pytest.raises(DatabaseRefused, match="imagefactory-test can do more"):
            grant(database, PASSWORDS)
    finally:
        with database.engine.begin() as connection:
            connection.execute(text('alter role "imagefactory-test" nocreaterole'))
        database.engine.dispose()


def test_passwords_are_in_no_log_and_open_the_door(service_database: Place, accounts: Mapping[str, Records]) -> None:
    with accounts[BEAT].session() as session:
        assert session.scalar(text("select current_user")) == "imagefactory-beat"
    log = service_database.server.log.read_text()
    assert not [password for password in PASSWORDS.values() if password in log]


@pytest.mark.parametrize("role", Role)
def test_a_role_does_its_own_tasks_and_no_other(role: Role, accounts: Mapping[str, Records]) -> None:
    jobs = {account: Jobs(records) for account, records in accounts.items()}
    asker = next(other for other in Role if role in TELLS[other]) if role is not Role.LIFECYCLE else None
    if asker is None:
        job, call = jobs[BEAT].request(order(), NewTask(Role.LIFECYCLE, "apply"))
        assert call is not None
    else:
        job, call = None, jobs[asker].ask(NewTask(role, "step"))
    for other in (*Role, OPERATOR):
        if other != role:
            with pytest.raises(DatabaseRefused):
                jobs[other].claim(call.task_id, role, "thief", LEASE)
    held = jobs[role].claim(call.task_id, role, "mine", LEASE)
    assert held is not None
    for other in (*Role, BEAT, OPERATOR):
        if other != role:
            with pytest.raises(DatabaseRefused):
                jobs[other].done(held, {}, end=JobState.DONE if job else None)
    assert jobs[role].beat(held, LEASE, {"text": "on"}).alive
    jobs[role].hand_back(held)
    held = jobs[role].claim(call.task_id, role, "mine", LEASE)
    assert held is not None
    jobs[role].done(held, {"it": "is done"}, end=JobState.DONE if job else None)
    refused_or_nothing = "update tasks set state = 'queued'"
    with accounts[role].session() as session:
        session.execute(text(refused_or_nothing))
    found = jobs[role].task(call.task_id)
    assert found is not None
    assert found.state == TaskState.DONE, "what has ended stays"


def test_who_may_not_build_learns_whom_to_ask(accounts: Mapping[str, Records]) -> None:
    with pytest.raises(DatabaseRefused) as refusal:
        accounts[OPERATOR].reserve("soe", Path("/r.yaml"), "d" * 64, Path("/logs"))
    assert "imagefactory builds request" in refusal.value.advice


def test_a_beat_buries_builds_and_does_nothing_else_with_them(accounts: Mapping[str, Records]) -> None:
    builds = [accounts[Role.BUILD].reserve("soe", Path("/r.yaml"), "d" * 64, Path("/logs")) for _ in range(2)]
    refused(accounts[BEAT], "update builds set state = 'running'")
    accounts[Role.BUILD].move_build(builds[0], BuildState.RUNNING)
    refused(accounts[BEAT], "update builds set state = 'released'")
    refused(accounts[BEAT], "update builds set state = 'reproduced'")
    refused(accounts[BEAT], "update builds set version_number = 7")
    accounts[BEAT].move_build(builds[0], BuildState.FAILED, ("mirror-unreachable", "it was gone"))
    accounts[BEAT].move_build(builds[1], BuildState.INTERRUPTED, ("cancelled", "cancelled by ana"))
    done = released(accounts)
    with accounts[BEAT].session() as session:
        session.execute(text("update builds set state = 'failed'"))
    assert accounts[BEAT].builds("soe")[2].id == done.build_id
    states = [build.state for build in accounts[BEAT].builds("soe")]
    assert states == ["failed", "interrupted", "released"], "what has ended stays"


@pytest.mark.parametrize("role", Role)
def test_whose_tasks_a_role_may_add(role: Role, accounts: Mapping[str, Records]) -> None:
    jobs = Jobs(accounts[role])
    for other in Role:
        if other in TELLS[role]:
            assert jobs.call_off(jobs.ask(NewTask(other, "step")).task_id)
        else:
            with pytest.raises(DatabaseRefused):
                jobs.ask(NewTask(other, "step"))


def test_who_asks_for_builds(accounts: Mapping[str, Records]) -> None:
    for number, account in enumerate((BEAT, OPERATOR)):
        jobs = Jobs(accounts[account])
        assert jobs.request(order(f"soe-{number}"), PLAN)[1]
        assert jobs.request(order(f"soe-{number}"), PLAN)[0].joined == 1
        with pytest.raises(DatabaseRefused):
            jobs.request(order("other"), SIGN)
    for role in Role:
        with pytest.raises(DatabaseRefused):
            Jobs(accounts[role]).request(order("third"), PLAN)


def test_a_job_that_ends_takes_others_tasks_along(accounts: Mapping[str, Records]) -> None:
    jobs = {account: Jobs(records) for account, records in accounts.items()}
    job, call = jobs[OPERATOR].request(order(), PLAN, told=False)
    waiting, _ = jobs[OPERATOR].request(order(digest="e" * 64), PLAN)
    assert [each.task_id for each in jobs[BEAT].untold()] == [call.task_id] if call else False
    assert call is not None
    plan = jobs[Role.BUILD].claim(call.task_id, Role.BUILD, "a", LEASE)
    assert plan is not None
    calls = jobs[Role.BUILD].done(plan, {}, [BOOT, BOOT, PLAN, PLAN])
    failing = jobs[Role.TEST].claim(calls[0].task_id, Role.TEST, "t", LEASE)
    running = jobs[Role.BUILD].claim(calls[2].task_id, Role.BUILD, "b", LEASE)
    assert failing is not None
    assert running is not None
    jobs[Role.TEST].fail(failing, "boot-failed", "it did not boot", again=False)
    assert jobs[Role.BUILD].beat(running, LEASE).cancel
    jobs[Role.BUILD].stopped(running)
    assert jobs[BEAT].job(job.id).state == JobState.FAILED
    states = sorted(task.state for task in jobs[BEAT].tasks(job.id))
    assert states == ["cancelled", "cancelled", "cancelled", "done", "failed"]
    assert [each.role for each in jobs[BEAT].untold()] == [Role.BUILD], "who waited for it is told of again"
    assert jobs[OPERATOR].cancel(waiting.id, "ana").state == JobState.CANCELLED


def test_the_beat_sweeps(accounts: Mapping[str, Records]) -> None:
    jobs = {account: Jobs(records) for account, records in accounts.items()}
    _, call = jobs[OPERATOR].request(order(), PLAN)
    assert call is not None
    assert jobs[Role.BUILD].claim(call.task_id, Role.BUILD, "a", -1.0)
    assert jobs[BEAT].sweep().again == (call.task_id,)
    refused(accounts[BEAT], "update tasks set state = 'running'")
    refused(accounts[BEAT], "update tasks set state = 'done'")


@pytest.mark.parametrize("kind", Kind)
def test_the_beat_begins_what_each_kind_of_schedule_begins_with(kind: Kind, accounts: Mapping[str, Records]) -> None:
    job, call = Jobs(accounts[BEAT]).request(order(kind), FIRST[kind])
    assert call is not None
    held = Jobs(accounts[call.role]).claim(call.task_id, call.role, "a", LEASE)
    assert held is not None
    Jobs(accounts[call.role]).done(held, {}, end=JobState.DONE)
    assert Jobs(accounts[BEAT]).job(job.id).state == JobState.DONE


def test_a_release_from_its_reservation_to_its_place(accounts: Mapping[str, Records]) -> None:
    accounts[Role.TEST].remember("k" * 64, "sbom", "soe", {}, {})
    accounts[Role.SIGN].add_artifact("a" * 64, "document", 1)
    release = released(accounts)
    publication = accounts[Role.PUBLISH].intend(release, "cloud:one", "i" * 36)
    accounts[Role.PUBLISH].describe_publication(publication, "j" * 36, {})
    accounts[Role.PUBLISH].move_publication(publication, PublicationState.PUBLISHED)
    accounts[OPERATOR].move_publication(publication, PublicationState.VERIFIED)
    accounts[OPERATOR].forget_result("k" * 64)
    accounts[OPERATOR].forget_artifact("a" * 64)
    for role in Role:
        with pytest.raises(DatabaseRefused):
            accounts[role].forget_result("k" * 64)


def test_everybody_has_leases(accounts: Mapping[str, Records]) -> None:
    for records in accounts.values():
        with Leases(records).hold("name soe", "taken"):
            pass


@pytest.mark.parametrize("account", ACCOUNTS)
def test_what_nobody_does(account: str, accounts: Mapping[str, Records]) -> None:
    for statement in (
        "drop table tasks",
        "truncate tasks",
        "delete from tasks",
        "delete from releases",
        "create table mine (id int)",
        "create temporary table mine (id int)",
        "alter table tasks disable row level security",
        "alter role postgres password 'x'",
        "set role postgres",
        "update alembic_version set version_num = '0'",
        "update tasks set payload = '{}'",
        "update tasks set role = 'test'",
        "update tasks set step = 'x'",
        "update tasks set job_id = null",
        "update releases set files = '{}'",
        "select * from pg_authid",
    ):
        refused(accounts[account], statement)
    for records in accounts.values():
        with records.session() as session:  # PostgreSQL only warns whoever may not
            session.execute(text("grant delete on tasks to public"))
        refused(records, "delete from tasks")


def test_who_else_is_kept_out(accounts: Mapping[str, Records], service_database: Place) -> None:
    release = released(accounts)
    only: dict[str, set[str]] = {
        "insert into releases (name) values ('x')": {Role.SIGN},
        "update releases set held = null": {OPERATOR},
        "insert into builds (id) values ('x')": {Role.BUILD},
        "update publications set state = 'failed'": {Role.PUBLISH, Role.LIFECYCLE, OPERATOR},
        "update step_results set facts = '{}'": {Role.BUILD, Role.TEST, OPERATOR},
        "insert into approvals (account) values ('x')": {OPERATOR},
        "update builds set state = 'failed'": {Role.BUILD, Role.TEST, Role.SIGN, BEAT},
    }
    for statement, who in only.items():
        for account in set(ACCOUNTS) - who:
            refused(accounts[account], statement)
    accounts[Role.BUILD].reserve("soe", Path("/r.yaml"), "d" * 64, Path("/logs"))
    refused(accounts[Role.BUILD], "update builds set state = 'released' where state = 'reserved'")
    refused(accounts[Role.SIGN], "update builds set state = 'failed' where state = 'reserved'")
    service_database.server.add_user("stranger")
    try:
        with pytest.raises(DatabaseRefused):
            Records(service_database.parsed("stranger"))
    finally:
        service_database.server.delete_user("stranger")
    assert release.id
