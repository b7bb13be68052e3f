"""What is remembered, through SQLAlchemy. Every change of state goes through `move`, compare-and-set."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, selectinload

from imagefactory.errors import ReleaseUnknown, StateConflict
from imagefactory.model.build import BUILD_TRANSITIONS, PUBLICATION_TRANSITIONS, BuildState, PublicationState
from imagefactory.model.database_url import DatabaseUrl
from imagefactory.model.lifecycle import STABLE, Stage
from imagefactory.model.release import ReleaseRef, Version
from imagefactory.store.clock import database_now
from imagefactory.store.database import database_at
from imagefactory.store.tables import Approval, Artifact, Build, Move, Publication, Release, ScheduleRow, StepResult

State = TypeVar("State", bound=StrEnum)


class Records:
    """The database of one factory."""

    def __init__(self, where: Path | DatabaseUrl) -> None:
        """Open it. A file is created, and its tables brought up to date. Raises HomeUnusable, DiskFull; for PostgreSQL
        ExtraMissing, DatabaseUnreachable, DatabaseRefused, SchemaOlder, SchemaNewer."""
        self._database = database_at(where)
        with ExitStack() as refused:
            refused.callback(self.close)
            try:
                self._database.prepare()
            except DBAPIError as error:
                raise self._database.failure(error) from error
            refused.pop_all()

    def close(self) -> None:
        """Let go of the connections that nobody uses. Whoever asks again gets a new one."""
        self._database.engine.dispose()

    @contextmanager
    def session(self, alone: str | None = None) -> Iterator[Session]:
        """One transaction, beside which there is no other one with the same `alone`. Raises HomeUnusable, DiskFull,
        DatabaseUnreachable, DatabaseRefused."""
        with self._translated(), Session(self._database.engine, expire_on_commit=False) as session, session.begin():
            if alone is not None:
                self._database.alone(session, alone)
            yield session

    @contextmanager
    def statements(self) -> Iterator[Session]:
        """Statements of which each is a transaction of its own: nobody waits for its beginning and its end. Raises as
        session()."""
        with self._translated(), Session(self._database.by_statement) as session:
            yield session

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except (DBAPIError, PoolTimeout) as error:
            raise self._database.failure(error) from error

    def now(self) -> datetime:
        """What the clock of the database shows, which all hosts share: UTC, aware."""
        with self.session() as session:
            return database_now(session).replace(tzinfo=UTC)

    # -- builds ----------------------------------------------------------------------------------------------------

    def reserve(
        self, name: str, recipe_file: Path, recipe_digest: str, logs: Path, *, after: Version | None = None
    ) -> Build:
        """Reserve the next version of `name`, greater than `after` as well: it is never given out again."""
        with self.session(alone=f"versions of {name}") as session:
            now = database_now(session)  # a signer refuses a version of a day to come
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
        message = message and message.replace("\0", "\N{REPLACEMENT CHARACTER}")  # PostgreSQL has no text with it
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
        kept = {"step": step, "name": name, "outputs": dict(outputs), "facts": dict(facts), "created": utc_now()}
        self._replace(StepResult, {"key": key}, kept)
        return StepResult(key=key, **kept)

    def results(self) -> Sequence[StepResult]:
        """Every result, newest first."""
        with self.session() as session:
            return session.scalars(select(StepResult).order_by(StepResult.created.desc())).all()

    def forget_result(self, key: str) -> None:
        with self.session() as session:
            session.execute(delete(StepResult).where(StepResult.key == key))

    def add_artifact(self, digest: str, kind: str, size: int) -> None:
        self._replace(Artifact, {"digest": digest}, {"kind": kind, "size": size, "created": utc_now()})

    def artifact_size(self, digest: str) -> int | None:
        """The bytes of an artifact, wherever it is; None when nobody recorded it."""
        with self.session() as session:
            return session.scalar(select(Artifact.size).where(Artifact.digest == digest))

    def artifacts(self) -> Sequence[Artifact]:
        with self.session() as session:
            return session.scalars(select(Artifact)).all()

    def forget_artifact(self, digest: str) -> None:
        with self.session() as session:
            session.execute(delete(Artifact).where(Artifact.digest == digest))

    def _replace(
        self, table: type[StepResult] | type[Artifact], key: Mapping[str, str], values: Mapping[str, Any]
    ) -> None:
        """Insert a row, or change the one with this key: of several who do that at once, the last one prevails."""
        row = self._database.insert(table).values(**key, **values)
        with self.session() as session:
            session.execute(row.on_conflict_do_update(index_elements=list(key), set_=values))

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
        row = self._database.insert(Publication).values(
            release_id=release.id,
            target=target,
            state=PublicationState.INTENDED,
            changed=now,
            since=now,
            settled=False,
            image_id=image_id,
            details={},
        )
        once = row.on_conflict_do_nothing(index_elements=["release_id", "target"]).returning(Publication)
        with self.session() as session:
            made = session.scalar(once)
            if made is not None:
                return made
            known = session.scalars(
                select(Publication).where(Publication.release_id == release.id, Publication.target == target)
            ).one()
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
            tables = (Build, StepResult, Artifact, Release, Publication, Approval, Move, ScheduleRow)
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


def utc_now() -> datetime:
    """Now, as the tables have it."""
    return datetime.now(UTC).replace(tzinfo=None)
