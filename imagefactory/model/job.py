"""Jobs and their tasks: what workers do, who of them, and what becomes of it. Pure.

A job is one request to build a recipe. It consists of tasks, each of them one step for one role, which are added as the
ones before them end. A task without a job is an errand: something that a worker asks another role to do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

MOST_ATTEMPTS: Final = 3
"""How often a task is begun before it fails."""
_FIRST_DELAY, _LONGEST_DELAY = 5.0, 300.0  # seconds


AS_IT_IS: Final = "0" * 64
"""The digest of a recipe that is taken as its file is when work begins."""


class Role(StrEnum):
    """Whose work a task is. No role has what another one needs."""

    BUILD = "build"
    TEST = "test"
    SIGN = "sign"
    PUBLISH = "publish"
    LIFECYCLE = "lifecycle"


KEYS: Final[Mapping[Role, frozenset[str]]] = {
    Role.BUILD: frozenset({"provenance"}),
    Role.TEST: frozenset(),
    Role.SIGN: frozenset({"release", "glance", "targets", "freshness"}),
    Role.PUBLISH: frozenset(),
    Role.LIFECYCLE: frozenset(),
}
"""The purposes of the private keys that each role has."""

TELLS: Final[Mapping[Role, frozenset[Role]]] = {
    Role.BUILD: frozenset({Role.BUILD, Role.TEST, Role.SIGN, Role.PUBLISH}),
    # Whoever reads hostile images asks neither signer nor publisher for anything.
    Role.TEST: frozenset({Role.BUILD, Role.TEST}),
    Role.SIGN: frozenset({Role.BUILD, Role.TEST, Role.PUBLISH}),
    Role.PUBLISH: frozenset({Role.SIGN}),
    Role.LIFECYCLE: frozenset({Role.SIGN, Role.PUBLISH}),
}
"""Whose tasks each role may add. The grants of the database and the permissions of the broker are made of it."""


class JobState(StrEnum):
    """QUEUED until one of its tasks is begun. All but the first two are final: RELEASED has made a release, REPRODUCED
    the same bytes as one that was there, and UNCHANGED had nothing to do; DONE is what makes no release at all."""

    QUEUED = "queued"
    RUNNING = "running"
    RELEASED = "released"
    REPRODUCED = "reproduced"
    UNCHANGED = "unchanged"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TaskState(StrEnum):
    """QUEUED waits for a worker, perhaps until a time; RUNNING is leased to one; the others are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDS: Final = frozenset(JobState) - {JobState.QUEUED, JobState.RUNNING}

JOB_TRANSITIONS: Final[Mapping[JobState, frozenset[JobState]]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.FAILED}),
    JobState.RUNNING: ENDS,
    **{state: frozenset() for state in ENDS},
}

TASK_TRANSITIONS: Final[Mapping[TaskState, frozenset[TaskState]]] = {
    TaskState.QUEUED: frozenset({TaskState.RUNNING, TaskState.CANCELLED}),
    # Back to the queue when it is handed back, or when its worker died.
    TaskState.RUNNING: frozenset({TaskState.QUEUED, TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED}),
    TaskState.DONE: frozenset(),
    TaskState.FAILED: frozenset(),
    TaskState.CANCELLED: frozenset(),
}


@dataclass(frozen=True)
class JobOrder:
    """What is asked for: a recipe by its file and its digest (SHA-256, hex; AS_IT_IS: whatever it is when work begins),
    to be built by `account` for a `reason`; `fresh` does every step again, and without `publish` the release goes
    nowhere. `scheduled` is the run of a schedule that it is, by when that was planned (UTC, without a zone)."""

    name: str
    recipe_file: str
    recipe_digest: str
    reason: str
    account: str
    fresh: bool = False
    publish: bool = True
    scheduled: datetime | None = None


@dataclass(frozen=True)
class NewTask:
    """A step for a role, on `subject` where there are several; `payload` is JSON."""

    role: Role
    step: str
    subject: str | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """As an action is called in a plan."""
        return f"{self.step} {self.subject}" if self.subject else self.step


def delay(attempt: int) -> float:
    """Seconds to wait before a task is begun again of which `attempt` attempts (from 1) have failed."""
    return min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** (attempt - 1))
