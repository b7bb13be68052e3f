"""Accounts in the PostgreSQL of the service: one for each role, one for the beat, one for people; and what each may do.

Everybody reads everything. Tables and columns are granted; which rows, and to what they may be changed, is said by
policies, and by one trigger: a policy does not see a row as it was and as it is to be side by side.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from imagefactory.errors.service import DatabaseRefused
from imagefactory.model.broker import account_name
from imagefactory.model.build import BUILD_TRANSITIONS, BuildState
from imagefactory.model.job import TELLS, Role, TaskState
from imagefactory.store.database import NOT_ALLOWED, ServiceDatabase
from imagefactory.store.job_rows import UNENDED
from imagefactory.store.tables import (
    Approval,
    Artifact,
    Base,
    Build,
    Job,
    Lease,
    Move,
    Notice,
    Publication,
    Release,
    ScheduleRow,
    StepResult,
    Task,
)

BEAT, OPERATOR = "beat", "operator"
ACCOUNTS: Final = (*map(str, Role), BEAT, OPERATOR)


@dataclass(frozen=True)
class Grant:
    """What some may do with a table, besides reading it: INSERT, DELETE, and UPDATE of columns."""

    table: type[Base]
    who: tuple[str, ...]
    words: tuple[str, ...] = ()
    update: tuple[str, ...] = ()


_ENDS = ("state", "finished", "error_code", "error_message")
_RESULT = ("step", "name", "outputs", "facts", "created")
_ARTIFACT = ("kind", "size", "created")
_STAGE = ("state", "changed", "stage", "since", "settled")
_RUN = ("next_run", "begins", "paused", "pause_reason", "failures")
_RAN = ("claimed_run", "last_run", "ended_run", "last_outcome", "last_error")
_CLAIM = ("attempt", "claimed", "progress", "result")
_LEASED = ("not_before", "sent", "worker", "lease_until", "cancel")

GRANTS: Final = (
    Grant(Lease, ACCOUNTS, ("INSERT", "DELETE"), ("until",)),
    Grant(Job, ACCOUNTS, (), (*_ENDS, "touched", "ending")),
    Grant(Job, tuple(Role), (), ("course", "release")),
    Grant(Job, (BEAT, OPERATOR), ("INSERT",), ("joined",)),
    Grant(Job, (BEAT,), (), ("told",)),
    Grant(Task, tuple(Role), ("INSERT",), (*_ENDS, *_LEASED, *_CLAIM)),
    Grant(Task, (BEAT,), ("INSERT",), (*_ENDS, *_LEASED)),
    Grant(Task, (OPERATOR,), ("INSERT",), ("state", "finished", "cancel", "sent")),
    Grant(Build, (Role.BUILD,), ("INSERT",), _ENDS),
    Grant(Build, (Role.TEST, BEAT), (), _ENDS),
    Grant(Build, (Role.SIGN,), (), ("state", "finished")),
    Grant(StepResult, (Role.BUILD, Role.TEST), ("INSERT",), _RESULT),
    Grant(StepResult, (OPERATOR,), ("INSERT", "DELETE"), _RESULT),  # plan notes that nothing is new; gc
    Grant(Artifact, (Role.BUILD, Role.TEST, Role.SIGN), ("INSERT",), _ARTIFACT),
    Grant(Artifact, (OPERATOR,), ("DELETE",)),  # gc
    Grant(Release, (Role.SIGN,), ("INSERT",)),
    Grant(Release, (OPERATOR,), (), ("channel", "held", "held_reason")),
    Grant(Publication, (Role.PUBLISH, OPERATOR), ("INSERT",), (*_STAGE, "verified", "image_id", "details")),
    Grant(Publication, (Role.LIFECYCLE,), (), _STAGE),
    Grant(Approval, (OPERATOR,), ("INSERT",)),
    Grant(ScheduleRow, (BEAT,), (), (*_RUN, *_RAN)),
    Grant(ScheduleRow, (OPERATOR,), ("INSERT", "DELETE"), (*_RUN, "recipe_file", "spec")),
    Grant(Notice, (BEAT,), ("INSERT",), ("due", "attempts", "sent", "error_code")),
    Grant(Move, (Role.PUBLISH, Role.LIFECYCLE, OPERATOR), ("INSERT",)),
)
"""All that anybody may do; who signs, say, is the only one who adds a release."""


@dataclass(frozen=True)
class Policy:
    """Which rows of a table some may read, add or change: as they are (`using`), as they are to be (`check`)."""

    table: type[Base]
    name: str
    word: str
    who: tuple[str, ...]
    using: str | None = None
    check: str | None = None


def _among(values: Iterable[str]) -> str:
    return f"({', '.join(repr(str(each)) for each in sorted(values))})"


_GOING_ON = f"state in {_among(state for state in BuildState if BUILD_TRANSITIONS[state])}"
_DEAD = (BuildState.FAILED, BuildState.INTERRUPTED)
_UNENDED = f"state in {_among(UNENDED)}"
_NEW = f"state = '{TaskState.QUEUED}' and attempt = 0 and worker is null and lease_until is null and not cancel"


def _first(role: Role, *steps: str) -> str:
    """The first task of a job."""
    return f"{_NEW} and job_id is not null and role = '{role}' and step in {_among(steps)}"


POLICIES: Final = (
    Policy(Build, "everybody reads", "SELECT", ACCOUNTS, using="true"),
    Policy(Build, "reserve", "INSERT", (Role.BUILD,), check=f"state = '{BuildState.RESERVED}'"),
    Policy(Build, "end", "UPDATE", (Role.BUILD, Role.TEST), _GOING_ON, f"state <> '{BuildState.RELEASED}'"),
    Policy(Build, "bury", "UPDATE", (BEAT,), _GOING_ON, f"state in {_among(_DEAD)}"),
    Policy(Build, "release", "UPDATE", (Role.SIGN,), _GOING_ON, f"state = '{BuildState.RELEASED}'"),
    Policy(Task, "everybody reads", "SELECT", ACCOUNTS, using="true"),
    Policy(Task, "what has ended stays", "UPDATE", ACCOUNTS, _UNENDED, "true"),
    *(
        Policy(Task, f"{role} tells", "INSERT", (role,), check=f"{_NEW} and role in {_among(TELLS[role])}")
        for role in Role
    ),
    Policy(Task, "a build begins", "INSERT", (BEAT, OPERATOR), check=_first(Role.BUILD, "plan")),
    Policy(Task, "a schedule is due", "INSERT", (BEAT,), check=_first(Role.LIFECYCLE, "apply", "audit", "refresh")),
    Policy(Task, "keys are to be looked at", "INSERT", (BEAT,), check=_first(Role.SIGN, "expiries")),
)

GUARD: Final = "imagefactory_tasks_guard"
# Of a task of its own a role may change what was granted to it. The beat ends leases and begins nothing. Of all others
# somebody may say that nobody is to do it: what waits is cancelled, what runs is told to stop. And that it is to be
# told of again.
_GUARD_BODY = f"""
declare
    said constant text[] := array['state', 'finished', 'cancel', 'sent'];
    same boolean := to_jsonb(new) - said = to_jsonb(old) - said
        and (new.cancel or not old.cancel)
        and (new.sent is null or new.sent is not distinct from old.sent)
        and (
            (new.state = old.state and new.finished is not distinct from old.finished)
            or (old.state = '{TaskState.QUEUED}' and new.state = '{TaskState.CANCELLED}')
        );
begin
    if current_user = '{account_name("")}' || old.role then
        return new;
    elsif current_user = '{account_name(BEAT)}' then
        same := new.state <> '{TaskState.DONE}' and (new.state = old.state or new.state <> '{TaskState.RUNNING}');
    elsif current_user not in {_among(map(account_name, ACCOUNTS))} then
        return new;  -- whom the tables belong to
    end if;
    if not same then
        raise insufficient_privilege using message = 'a task of ' || old.role || ' is not for ' || current_user;
    end if;
    return new;
end
"""


def granted(database: ServiceDatabase) -> bool:
    """Whether grants were ever made in a database, so that its accounts need them anew after an upgrade. Raises
    DatabaseUnreachable, DatabaseRefused."""
    rows = text("select relrowsecurity from pg_class where oid = to_regclass(:table)").bindparams(
        table=Task.__tablename__
    )
    try:
        with database.engine.connect() as connection:
            return bool(connection.scalar(rows))
    except DBAPIError as error:
        raise database.failure(error) from error
    finally:
        database.engine.dispose()


def grant(database: ServiceDatabase, passwords: Mapping[str, str], *, dry_run: bool = False) -> bool:
    """Have the accounts and their rights be as they are here, whatever was granted before; whether that changed
    something. Those named in `passwords` get theirs, of which the server never sees more than a verifier. All of it
    happens or nothing, and nothing at all in a `dry_run`.

    Raises DatabaseUnreachable; DatabaseRefused, also for an account that could do more than is granted.
    """
    try:
        with Session(database.engine) as session, session.begin():
            database.alone(session, "migrate")
            connection = session.connection()
            before = _state(connection)
            _Granting(connection).everything(passwords)
            changed = _state(connection) != before
            if dry_run:
                session.rollback()
    except DBAPIError as error:
        failure = database.failure(error)
        if getattr(error.orig, "sqlstate", None) == NOT_ALLOWED:
            advice = (
                "let IMAGEFACTORY_DATABASE name an account that owns the tables and may create roles (CREATEROLE), or "
                "a superuser"
            )
            raise DatabaseRefused(failure.message, advice=advice) from error
        raise failure from error
    finally:
        database.engine.dispose()
    return changed


class _Granting:
    """The statements, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._quote = connection.dialect.identifier_preparer.quote_identifier
        self._everybody = ", ".join(self._name(account) for account in ACCOUNTS)

    def everything(self, passwords: Mapping[str, str]) -> None:
        self._accounts(passwords)
        self._take_all()
        self._tables()
        self._rows()

    def _accounts(self, passwords: Mapping[str, str]) -> None:
        """Raises DatabaseRefused."""
        names = [account_name(account) for account in ACCOUNTS]
        there = set(self._connection.scalars(text("select rolname from pg_roles")))
        for account in ACCOUNTS:
            if account_name(account) not in there:
                self._do(f"create role {self._name(account)} login")
        excess = self._connection.scalars(_EXCESS, {"names": names}).all()
        if excess:
            raise DatabaseRefused(
                f"{', '.join(excess)} can do more in PostgreSQL than a role of the service may",
                advice="take away its attributes (CREATEDB, SUPERUSER ...), its memberships and what it owns",
            )
        for account, password in passwords.items():
            self._do(f"alter role {self._name(account)} login password '{self._verifier(account, password)}'")

    def _verifier(self, account: str, password: str) -> str:
        """What SCRAM-SHA-256 needs to recognise a password, which does not leave this process: no log has it."""
        driver = self._connection.connection.driver_connection
        assert driver is not None  # noqa: S101 - a connection in use has one
        made: bytes = driver.pgconn.encrypt_password(
            password.encode(), account_name(account).encode(), b"scram-sha-256"
        )
        return made.decode()

    def _take_all(self) -> None:
        """Whatever was granted before, by whichever version. The database is for those accounts alone."""
        database = self._quote(str(self._connection.scalar(text("select current_database()"))))
        schema = self._quote(str(self._connection.scalar(text("select current_schema()"))))
        for what in (f"database {database}", f"schema {schema}"):
            self._do(f"revoke all on {what} from public, {self._everybody}")
        self._do(f"grant connect on database {database} to {self._everybody}")
        self._do(f"grant usage on schema {schema} to {self._everybody}")
        for kind in ("tables", "sequences"):
            self._do(f"revoke all on all {kind} in schema {schema} from public, {self._everybody}")

    def _tables(self) -> None:
        for table in ("alembic_version", *Base.metadata.tables):
            self._do(f"grant select on {self._quote(table)} to {self._everybody}")
        for each in GRANTS:
            name, who = each.table.__tablename__, ", ".join(map(self._name, each.who))
            columns = ", ".join(map(self._quote, each.update))
            for word in (*each.words, *([f"update ({columns})"] if columns else [])):
                self._do(f"grant {word} on {self._quote(name)} to {who}")
            sequence = self._connection.scalar(_SEQUENCE, {"table": name}) if "INSERT" in each.words else None
            if sequence is not None:
                self._do(f"grant usage on sequence {sequence} to {who}")

    def _rows(self) -> None:
        for table, name in self._connection.execute(_POLICIES).all():
            self._do(f"drop policy {self._quote(name)} on {self._quote(table)}")
        for table in sorted({each.table.__tablename__ for each in POLICIES}):
            self._do(f"alter table {self._quote(table)} enable row level security")
        for each in POLICIES:
            who = ", ".join(map(self._name, each.who))
            using = f" using ({each.using})" if each.using else ""
            check = f" with check ({each.check})" if each.check else ""
            on = f"on {self._quote(each.table.__tablename__)} for {each.word} to {who}"
            self._do(f"create policy {self._quote(each.name)} {on}{using}{check}")
        self._do(
            f"create or replace function {GUARD}() returns trigger language plpgsql "
            f"set search_path = pg_catalog, pg_temp as $guard${_GUARD_BODY}$guard$"
        )
        self._do(f"revoke all on function {GUARD}() from public, {self._everybody}")  # a trigger needs no right to it
        self._do(
            f"create or replace trigger {GUARD} before update on {self._quote(Task.__tablename__)} "
            f"for each row execute function {GUARD}()"
        )

    def _name(self, account: str) -> str:
        return self._quote(account_name(account))

    def _do(self, statement: str) -> None:
        self._connection.exec_driver_sql(statement)


def _state(connection: Connection) -> frozenset[str]:
    """All that PostgreSQL knows of these rights."""
    return frozenset(connection.scalars(_STATE, {"names": [account_name(account) for account in ACCOUNTS]}))


_EXCESS = text("""
select rolname from pg_roles as r
where rolname = any(:names) and (
    rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls
    or exists (select from pg_auth_members where member = r.oid)
    or exists (select from pg_class where relowner = r.oid)
    or exists (select from pg_database where datdba = r.oid)
)
order by rolname
""")
_SEQUENCE = text(
    "select pg_get_serial_sequence(:table, column_name) from information_schema.columns "
    "where table_schema = current_schema() and table_name = :table and column_name = 'id'"
)
_POLICIES = text("select tablename, policyname from pg_policies where schemaname = current_schema()")
_STATE = text("""
select concat_ws(' ', 'role', rolname, rolcanlogin) from pg_roles where rolname = any(:names)
union all
select concat_ws(' ', 'database', grantee::regrole, privilege_type)
from pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) where datname = current_database()
union all
select concat_ws(' ', 'schema', grantee::regrole, privilege_type)
from pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner))) where nspname = current_schema()
union all
select concat_ws(' ', relname, relrowsecurity, grantee::regrole, privilege_type)
from pg_class left join lateral aclexplode(relacl) on true where relnamespace = current_schema()::regnamespace
union all
select concat_ws(' ', relname, attname, grantee::regrole, privilege_type)
from pg_class join pg_attribute on attrelid = pg_class.oid, aclexplode(attacl)
where relnamespace = current_schema()::regnamespace
union all
select concat_ws(' ', 'policy', tablename, policyname, cmd, roles, qual, with_check)
from pg_policies where schemaname = current_schema()
union all
select concat_ws(' ', 'function', proname, prosrc, proconfig, proacl) from pg_proc
where pronamespace = current_schema()::regnamespace
union all
select pg_get_triggerdef(pg_trigger.oid) from pg_trigger join pg_class on pg_class.oid = tgrelid
where relnamespace = current_schema()::regnamespace and not tgisinternal
""")
