"""What metrics tell of the records: one query each, with a bound on its rows."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import func, select

from imagefactory.model.job import JobState
from imagefactory.store.jobs import Jobs
from imagefactory.store.records import Records
from imagefactory.store.tables import Job, Release

MOST_NAMES: Final = 1000


class Watched:
    """Reads. Every method raises what Records do when the database cannot be used."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def queued(self) -> Mapping[str, int]:
        """How many tasks wait, by role."""
        return {str(role): count for role, count in Jobs(self._records).depths().items()}

    def jobs(self) -> Mapping[str, int]:
        """How many jobs there are, by state."""
        with self._records.session() as session:
            found = {
                str(state): int(n) for state, n in session.execute(select(Job.state, func.count()).group_by(Job.state))
            }
        return {state: found.get(state, 0) for state in JobState}

    def newest_releases(self) -> Mapping[str, datetime]:
        """When the newest release of each name was made: aware times, of the MOST_NAMES newest names."""
        made = func.max(Release.created)
        query = select(Release.name, made).group_by(Release.name).order_by(made.desc(), Release.name).limit(MOST_NAMES)
        with self._records.session() as session:
            return {name: at.replace(tzinfo=UTC) for name, at in session.execute(query)}
