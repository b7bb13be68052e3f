"""What is remembered, in SQLite through SQLAlchemy. Every change of state goes through `move`, compare-and-set."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import Connection, Engine, create_engine, delete, event, func, inspect, select, text, update
from sqlalchemy.exc import DatabaseError, IntegrityError
from sqlalchemy.orm import Session, selectinload

from imagefactory.errors import DiskFull, HomeUnusable, ReleaseUnknown, StateConflict
from imagefactory.model.build import BUILD_TRANSITIONS, PUBLICATION_TRANSITIONS, BuildState, PublicationState
from imagefactory.model.lifecycle import STABLE, Stage
from imagefactory.model.release import ReleaseRef, Version
from imagefactory.store.tables import Approval, Artifact, Build, Move, Publication, Release, StepResult

State = TypeVar("State", bound=StrEnum)
MIGRATIONS = Path(__file__).parent / "migrations"
# The newest migration; a test compares it with the files.
REVISION = "0005"


class Records:
    """The database of one factory."""

    def __init__(self, database: Path) -> None:
        """Open or create it, and bring its tables up to date. Raises HomeUnusable."""
        self._engine = create_engine(f"sqlite:///{database}")
        event.listen(self._engine, "connect", _pragmas)
        try:
            _migrate(self._engine)
        except DatabaseError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: DatabaseError) -> HomeUnusable | DiskFull:
        if "disk is full" in str(error.orig):
            return DiskFull(f"no space for {self._engine.url.database}")
        return HomeUnusable(f"{self._engine.url.database} cannot be used: {error.orig}")

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One transaction. Raises HomeUnusable, DiskFull."""
        try:
            with Session(self._engine, expire_on_commit=False) as session, session.begin():
                yield session
        except IntegrityError:
            raise
        except DatabaseError as error:
            raise self._unusable(error) from error

    # -- builds ----------------------------------------------------------------------------------------------------

    def reserve(
        self, name: str, recipe_file: Path, recipe_digest: str, logs: Path, *, after: Version | None = None
    ) -> Build:
        """Reserve the next version of `name`, greater than `after` as well: it is never given out again."""
        now = utc_now()
        with self.session() as session:
            highest = session.scalar(
                select(Build)
                .where(Build.name == name)
                .order_by(Build.version_day.desc(), Build.version_number.desc())
                .limit(1)
            )
            used = [each for each in (after, build_version(highest) if highest else None) if each]
            version = Version.next(now.date(), max(used, default=None))
            build_id = uuid4().hex
            build = Build(
                id=build_id,
                name=name,
                version_day=version.day,
                version_number=version.number,
                recipe_file=str(recipe_file),
                recipe_digest=recipe_digest,
                state=BuildState.RESERVED,
                started=now,
                logs=str(logs / name / str(version)),
            )
            session.add(build)
        return build

    def move_build(self, build: Build, new: BuildState, error: tuple[str, str] | None = None) -> None:
        """The only place where a build changes its state. Raises StateConflict."""
        code, message = error or (None, None)
        final = not BUILD_TRANSITIONS[new]
        values = {"error_code": code, "error_message": message, "finished": utc_now() if final else None}
        with self.session() as session:
            move(session, Build, build.id, BuildState(build.state), new, BUILD_TRANSITIONS, values)
        build.state = new

    def abandoned(self, name: str) -> Sequence[Build]:
        """Builds of `name` that never ended; whoever holds the lock on `name` knows that they are dead."""
        with self.session() as session:
            states = [BuildState.RESERVED, BuildState.RUNNING]
            return session.scalars(select(Build).where(Build.name == name, Build.state.in_(states))).all()

    def builds(self, name: str) -> Sequence[Build]:
        """Every build of `name`, oldest first."""
        with self.session() as session:
            return session.scalars(
                select(Build).where(Build.name == name).order_by(Build.version_day, Build.version_number)
            ).all()

    # -- step results and artifacts --------------------------------------------------------------------------------

    def result(self, key: str) -> StepResult | None:
        with self.session() as session:
            return session.get(StepResult, key)

    def remember(
        self, key: str, step: str, name: str, outputs: Mapping[str, Any], facts: Mapping[str, Any]
    ) -> StepResult:
        """Keep what a step made; the same key again replaces it."""
        kept = StepResult(key=key, step=step, name=name, outputs=dict(outputs), facts=dict(facts), created=utc_now())
        with self.session() as session:
            session.merge(kept)
        return kept

    def results(self) -> Sequence[StepResult]:
        """Every result, newest first."""
        with self.session() as session:
            return session.scalars(select(StepResult).order_by(StepResult.created.desc())).all()

    def forget_result(self, key: str) -> None:
        with self.session() as session:
            session.execute(delete(StepResult).where(StepResult.key == key))

    def add_artifact(self, digest: str, kind: str, size: int) -> None:
        with self.session() as session:
            session.merge(Artifact(digest=digest, kind=kind, size=size, created=utc_now()))

    def artifacts(self) -> Sequence[Artifact]:
        with self.session() as session:
            return session.scalars(select(Artifact)).all()

    def forget_artifact(self, digest: str) -> None:
        with self.session() as session:
            session.execute(delete(Artifact).where(Artifact.digest == digest))

    # -- releases and publications ---------------------------------------------------------------------------------

    def add_release(
        self,
        build: Build,
        *,
        content_digest: str,
        files: Mapping[str, str],
        images: Mapping[str, Any],
        evidence: Mapping[str, Any],
        channel: str = STABLE,
    ) -> Release:
        """Record what was signed and end its build, in one transaction. It begins on `channel`."""
        release = Release(
            name=build.name,
            version_day=build.version_day,
            version_number=build.version_number,
            build_id=build.id,
            recipe_digest=build.recipe_digest,
            content_digest=content_digest,
            files=dict(files),
            images=dict(images),
            evidence=dict(evidence),
            created=utc_now(),
            channel=channel,
        )
        with self.session() as session:
            session.add(release)
            move(
                session,
                Build,
                build.id,
                BuildState(build.state),
                BuildState.RELEASED,
                BUILD_TRANSITIONS,
                {"finished": utc_now()},
            )
        build.state = BuildState.RELEASED
        return release

    def releases(self, name: str | None = None) -> Sequence[Release]:
        """Releases with their publications, newest first."""
        query = select(Release).options(selectinload(Release.publications))
        if name is not None:
            query = query.where(Release.name == name)
        with self.session() as session:
            return session.scalars(
                query.order_by(Release.name, Release.version_day.desc(), Release.version_number.desc())
            ).all()

    def release(self, ref: ReleaseRef) -> Release:
        """One release; the newest when `ref` has no version. Raises ReleaseUnknown."""
        for release in self.releases(ref.name):
            if ref.version is None or ref.version == release_version(release):
                return release
        raise ReleaseUnknown(f"there is no release {ref}")

    def intend(self, release: Release, target: str, image_id: str | None = None) -> Publication:
        """Record that `release` is about to be published to `target`, before anything is written there. In a cloud it
        is going to be `image_id`, unless an earlier intent has an id already. Raises StateConflict for what is deleted
        there, or about to be."""
        now = utc_now()
        with self.session() as session:
            known = session.scalar(
                select(Publication).where(Publication.release_id == release.id, Publication.target == target)
            )
            if known is None:
                known = Publication(
                    release_id=release.id,
                    target=target,
                    state=PublicationState.INTENDED,
                    changed=now,
                    since=now,
                    settled=False,
                    image_id=image_id,
                    details={},
                )
                session.add(known)
                return known
        if known.stage == Stage.DELETED:
            raise StateConflict(f"{release.name}@{release_version(release)} was deleted from {target}")
        if known.state != PublicationState.INTENDED:
            self.move_publication(known, PublicationState.INTENDED)
        return known

    def describe_publication(self, publication: Publication, image_id: str | None, details: Mapping[str, Any]) -> None:
        """Record which image an intended publication is going to be, or has become, and what is known of it.

        Raises StateConflict when it is not intended any more.
        """
        with self.session() as session:
            changed = session.execute(
                update(Publication)
                .where(Publication.id == publication.id, Publication.state == PublicationState.INTENDED)
                .values(image_id=image_id, details=dict(details), changed=utc_now())
            )
            if changed.rowcount != 1:  # type: ignore[attr-defined]
                raise StateConflict(f"publication {publication.id} is not intended any more")
        publication.image_id, publication.details = image_id, dict(details)

    def saw(self, target: str, image_id: str, manifest_sha256: str) -> None:
        """Record that an image which we published was verified again where it is; whatever else was seen is nobody's
        business here."""
        for release in self.releases():
            if manifest_sha256 in release.files.values():
                for each in release.publications:
                    known = each.state in {PublicationState.PUBLISHED, PublicationState.VERIFIED}
                    if known and (each.target, each.image_id) == (target, image_id):
                        self.move_publication(each, PublicationState.VERIFIED)

    def move_publication(self, publication: Publication, new: PublicationState) -> None:
        """The only place where a publication changes its state. Raises StateConflict."""
        values: dict[str, Any] = {"changed": utc_now()}
        if new is PublicationState.VERIFIED:
            values["verified"] = utc_now()
        with self.session() as session:
            move(
                session,
                Publication,
                publication.id,
                PublicationState(publication.state),
                new,
                PUBLICATION_TRANSITIONS,
                values,
            )
        publication.state = new

    def counts(self) -> dict[str, int]:
        """How many rows each table has, for doctor and tests."""
        with self.session() as session:
            tables = (Build, StepResult, Artifact, Release, Publication, Approval, Move)
            return {
                table.__tablename__: session.scalar(select(func.count()).select_from(table)) or 0 for table in tables
            }


def build_version(build: Build) -> Version:
    return Version(build.version_day, build.version_number)


def release_version(release: Release) -> Version:
    return Version(release.version_day, release.version_number)


def move(
    session: Session,
    table: type[Build] | type[Publication],
    row: str | int,
    old: State,
    new: State,
    transitions: Mapping[State, frozenset[State]],
    values: Mapping[str, Any],
) -> None:
    """Change the state of a row, by the table of `transitions` and from what it is. Raises StateConflict."""
    if new not in transitions[old]:
        raise StateConflict(f"{table.__tablename__} {row}: {old} does not become {new}")
    changed = session.execute(update(table).where(table.id == row, table.state == old).values(state=new, **values))
    if changed.rowcount != 1:  # type: ignore[attr-defined]
        raise StateConflict(f"{table.__tablename__} {row}: it is not {old} any more")


def _migrate(engine: Engine) -> None:
    """Bring the tables up to date. Raises HomeUnusable when a newer imagefactory made them."""
    with engine.begin() as connection:
        if _revision(connection) == REVISION:
            return
        # alembic takes a third of a second to import, and is seldom needed.
        from alembic import command  # noqa: PLC0415
        from alembic.config import Config  # noqa: PLC0415
        from alembic.util import CommandError  # noqa: PLC0415

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            newer = "update imagefactory, or set IMAGEFACTORY_HOME"
            raise HomeUnusable(f"{engine.url.database} is of another version: {error}", advice=newer) from error


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("select version_num from alembic_version"))
    return found


def _pragmas(connection: "sqlite3.Connection", record: object) -> None:
    del record
    for pragma in ("journal_mode=WAL", "foreign_keys=ON", "busy_timeout=10000", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")


def utc_now() -> datetime:
    """Now, as the tables have it."""
    return datetime.now(UTC).replace(tzinfo=None)
