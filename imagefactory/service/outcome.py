"""What a worker gives to the process of one step, and what it gets back: plain documents."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from imagefactory.errors import HandDied, HostError, Interrupted, RemoteError
from imagefactory.model.job import JobState, NewTask, Role
from imagefactory.store.tables import Job, Task
from imagefactory.tools.process import tail

ENDING: Final = 40  # lines of each log that are recorded


def passes(error: BaseException) -> bool:
    """Whether what went wrong may be over when a step is done again, perhaps on another host."""
    return isinstance(error, RemoteError | HostError | HandDied | Interrupted)


def logged(*logs: Path) -> dict[str, Any]:
    """What a result says of logs of one directory: where they are, and how each ends, for whoever has another host or
    may not read them. What is empty, or no text, is left out."""
    ends = {log: end for log in logs if log.suffix == ".log" and (end := tail(log, ENDING))}
    return {"logs": str(next(iter(ends)).parent), "ends": {log.name: end for log, end in ends.items()}} if ends else {}


@dataclass(frozen=True)
class Order:
    """The job that a step belongs to, as the step needs it."""

    name: str
    recipe_file: str
    recipe_digest: str
    fresh: bool
    publish: bool
    course: Mapping[str, Any]

    @classmethod
    def of(cls, job: Job) -> Self:
        return cls(job.name, job.recipe_file, job.recipe_digest, job.fresh, job.publish, job.course)


@dataclass(frozen=True)
class Errand:
    """One task for a role: what its step is called, and what it is to be done with. `order` is None where it belongs
    to no job."""

    role: Role
    step: str
    subject: str | None
    payload: Mapping[str, Any]
    order: Order | None

    @property
    def title(self) -> str:
        """As an action is called in a plan."""
        return f"{self.step} {self.subject}" if self.subject else self.step

    @classmethod
    def of(cls, task: Task, job: Job | None) -> Self:
        return cls(Role(task.role), task.step, task.subject, task.payload, Order.of(job) if job else None)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        order = document["order"]
        known = {"role": Role(document["role"]), "order": order and Order(**order)}
        return cls(**{**document, **known})


@dataclass(frozen=True)
class Outcome:
    """What came of a step: its `result`, what is to be done `then`, how far its job has come, and how that ends, with
    which release, where this was the last of it."""

    result: Mapping[str, Any] = field(default_factory=dict)
    then: Sequence[NewTask] = ()
    course: Mapping[str, Any] | None = None
    end: JobState | None = None
    release: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        end = document["end"]
        then = tuple(NewTask(**{**task, "role": Role(task["role"])}) for task in document["then"])
        return cls(**{**document, "then": then, "end": end and JobState(end)})
