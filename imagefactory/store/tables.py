"""The tables. Times are UTC, digests are lower-case hex SHA-256."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, MetaData, String, Text, UniqueConstraint, false, text, true
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

Digest = String(64)


class Base(DeclarativeBase):
    """Constraint names are fixed, so that a migration can name what it changes."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {dict[str, Any]: JSON}  # noqa: RUF012 - SQLAlchemy reads it from the class


class Build(Base):
    """One run of the factory for one version."""

    __tablename__ = "builds"
    __table_args__ = (UniqueConstraint("name", "version_day", "version_number"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(63), index=True)
    version_day: Mapped[int]
    version_number: Mapped[int]
    recipe_file: Mapped[str] = mapped_column(Text)
    recipe_digest: Mapped[str] = mapped_column(Digest)
    state: Mapped[str] = mapped_column(String(16))
    started: Mapped[datetime]
    finished: Mapped[datetime | None]
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(Text)
    logs: Mapped[str] = mapped_column(Text)


class StepResult(Base):
    """What a step made from inputs whose digest is `key`. A result is only a cache: losing one costs time."""

    __tablename__ = "step_results"

    key: Mapped[str] = mapped_column(Digest, primary_key=True)
    step: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(63), index=True)
    outputs: Mapped[dict[str, Any]]
    facts: Mapped[dict[str, Any]]
    created: Mapped[datetime]


class Artifact(Base):
    """A file of the content-addressed store."""

    __tablename__ = "artifacts"

    digest: Mapped[str] = mapped_column(Digest, primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    size: Mapped[int] = mapped_column(BigInteger)
    created: Mapped[datetime]


class Release(Base):
    """NAME@VERSION: what was signed."""

    __tablename__ = "releases"
    __table_args__ = (UniqueConstraint("name", "version_day", "version_number"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(63), index=True)
    version_day: Mapped[int]
    version_number: Mapped[int]
    build_id: Mapped[str] = mapped_column(ForeignKey("builds.id"))
    recipe_digest: Mapped[str] = mapped_column(Digest)
    content_digest: Mapped[str] = mapped_column(Digest, index=True)
    files: Mapped[dict[str, Any]]
    images: Mapped[dict[str, Any]]
    evidence: Mapped[dict[str, Any]]
    created: Mapped[datetime]
    # The same everywhere: how far it was promoted, and why it may not have the name although it is the newest.
    channel: Mapped[str] = mapped_column(String(63), default="stable", server_default="stable")
    held: Mapped[str | None] = mapped_column(String(16))
    held_reason: Mapped[str | None] = mapped_column(Text)
    # By place: several are published to at once, and which of them is the first is chance.
    publications: Mapped[list["Publication"]] = relationship(back_populates="release", order_by="Publication.target")


class Publication(Base):
    """One release in one place."""

    __tablename__ = "publications"
    __table_args__ = (UniqueConstraint("release_id", "target"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    release_id: Mapped[int] = mapped_column(ForeignKey("releases.id"))
    target: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    changed: Mapped[datetime]
    verified: Mapped[datetime | None]
    # In a cloud: the image's id there, recorded before the image is created, and what is known of it.
    image_id: Mapped[str | None] = mapped_column(String(36))
    details: Mapped[dict[str, Any]] = mapped_column(default=dict, server_default="{}")
    # How far it has left this place, since when, and whether the place shows it already.
    stage: Mapped[str] = mapped_column(String(16), default="active", server_default="active")
    since: Mapped[datetime]
    settled: Mapped[bool] = mapped_column(default=True, server_default=true())
    release: Mapped[Release] = relationship(back_populates="publications")


class Approval(Base):
    """Somebody says that a release may become stable."""

    __tablename__ = "approvals"
    __table_args__ = (UniqueConstraint("release_id", "account"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    release_id: Mapped[int] = mapped_column(ForeignKey("releases.id"))
    account: Mapped[str] = mapped_column(String(255))
    at: Mapped[datetime]


class Move(Base):
    """One change of how a release stands, everywhere or in one place. It outlives the accounts that it names."""

    __tablename__ = "moves"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    account: Mapped[str] = mapped_column(String(255))
    verb: Mapped[str] = mapped_column(String(32))
    name: Mapped[str] = mapped_column(String(63), index=True)
    version: Mapped[str] = mapped_column(String(32))
    target: Mapped[str | None] = mapped_column(Text)
    before: Mapped[str | None] = mapped_column(String(63))
    after: Mapped[str] = mapped_column(String(63))
    reason: Mapped[str | None] = mapped_column(Text)


class Job(Base):
    """One request to build a recipe. Of what is the same there is one at a time that has not ended, and of one name one
    that is running."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index(
            "uq_jobs_active",
            "name",
            "recipe_digest",
            "fresh",
            "publish",
            unique=True,
            sqlite_where=text("state in ('queued', 'running') and ending is null"),
            postgresql_where=text("state in ('queued', 'running') and ending is null"),
        ),
        Index(
            "uq_jobs_running",
            "name",
            unique=True,
            sqlite_where=text("state = 'running'"),
            postgresql_where=text("state = 'running'"),
        ),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(63), index=True)
    recipe_file: Mapped[str] = mapped_column(Text)
    recipe_digest: Mapped[str] = mapped_column(Digest)
    fresh: Mapped[bool]
    publish: Mapped[bool]
    reason: Mapped[str] = mapped_column(Text)
    account: Mapped[str] = mapped_column(String(255))
    state: Mapped[str] = mapped_column(String(16))
    created: Mapped[datetime]
    # Moves with every change of its tasks: who changes one of them has this row for himself.
    touched: Mapped[datetime]
    finished: Mapped[datetime | None]
    # What it is going to be as soon as none of its tasks is running any more.
    ending: Mapped[str | None] = mapped_column(String(16))
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(Text)
    repeats: Mapped[str | None] = mapped_column(String(32))
    joined: Mapped[int] = mapped_column(default=0)
    # How far it has come, as the factory has it, and what it gave.
    course: Mapped[dict[str, Any]]
    release: Mapped[str | None] = mapped_column(String(96))
    # The run of a schedule that it is, and whether its end was told of.
    scheduled: Mapped[datetime | None]
    told: Mapped[bool] = mapped_column(default=False, server_default=false())


class Task(Base):
    """One step for one role."""

    __tablename__ = "tasks"
    __table_args__ = (Index("ix_tasks_state", "state", "role", "not_before"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    role: Mapped[str] = mapped_column(String(16))
    step: Mapped[str] = mapped_column(String(32))
    subject: Mapped[str | None] = mapped_column(Text)
    payload: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    attempt: Mapped[int]
    created: Mapped[datetime]
    not_before: Mapped[datetime]
    # When a message that names it was sent last.
    sent: Mapped[datetime | None]
    claimed: Mapped[datetime | None]
    finished: Mapped[datetime | None]
    worker: Mapped[str | None] = mapped_column(String(255))
    lease_until: Mapped[datetime | None]
    cancel: Mapped[bool]
    progress: Mapped[dict[str, Any]]
    result: Mapped[dict[str, Any]]
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None] = mapped_column(Text)


class Lease(Base):
    """Who has something for himself, or shares it, until when, by the clock of the database."""

    __tablename__ = "leases"

    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(128), index=True)
    holder: Mapped[str] = mapped_column(String(255))
    shared: Mapped[bool]
    taken: Mapped[datetime]
    until: Mapped[datetime]


class ScheduleRow(Base):
    """When something runs by itself, and how it went. Runs are named by when they were planned."""

    __tablename__ = "schedules"

    name: Mapped[str] = mapped_column(String(63), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    recipe_file: Mapped[str] = mapped_column(Text)
    spec: Mapped[dict[str, Any]]
    # The next run: for when it is planned, and when it begins, which is that and the jitter, or as soon as somebody
    # asked for it. Nobody reads a cron expression before that.
    next_run: Mapped[datetime]
    begins: Mapped[datetime] = mapped_column(index=True)
    # The run that was claimed last, and when; the last one whose outcome is known, and what that was.
    claimed_run: Mapped[datetime | None]
    last_run: Mapped[datetime | None]
    ended_run: Mapped[datetime | None]
    last_outcome: Mapped[str | None] = mapped_column(String(16))
    last_error: Mapped[str | None] = mapped_column(String(64))
    failures: Mapped[int] = mapped_column(default=0, server_default="0")
    paused: Mapped[bool] = mapped_column(default=False, server_default=false())
    pause_reason: Mapped[str | None] = mapped_column(Text)


class Notice(Base):
    """An event that one receiver is to be told of, or was."""

    __tablename__ = "notices"
    __table_args__ = (UniqueConstraint("event", "receiver"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    event: Mapped[str] = mapped_column(String(36))
    receiver: Mapped[str] = mapped_column(String(64))
    document: Mapped[dict[str, Any]]
    # When somebody is to send it: never, where it was sent or refused.
    due: Mapped[datetime | None] = mapped_column(index=True)
    attempts: Mapped[int]
    sent: Mapped[datetime | None]
    error_code: Mapped[str | None] = mapped_column(String(64))
