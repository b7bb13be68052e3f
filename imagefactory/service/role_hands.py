"""Having other roles do what ours may not, and waiting for it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from imagefactory.errors.service import RoleSilent
from imagefactory.factory.hands import OwnHands
from imagefactory.model.job import NewTask, Role, TaskState
from imagefactory.progress import Advance
from imagefactory.settings import Settings
from imagefactory.store.job_rows import Call
from imagefactory.store.jobs import Jobs
from imagefactory.store.tables import Task
from imagefactory.tools.hand import rebuild
from imagefactory.tools.process import go_on
from imagefactory.tools.trusted_roots import PinnedRoots, TrustedRoots

PATIENCE: Final = 900.0
"""Seconds that we wait for somebody to begin with what he was asked for; he may take as long as he likes then."""
_LOOK = 0.3  # seconds between two looks


@dataclass(frozen=True)
class RoleHands:
    """What a role has itself it does itself, as on one machine; the rest is asked of the role that has it. `tell` tells
    of a task."""

    settings: Settings
    role: Role
    jobs: Jobs
    tell: Callable[[Call], None]

    @property
    def own(self) -> OwnHands:
        """What this host can do."""
        return OwnHands(self.settings)

    def sign(
        self, request: Mapping[str, Any], trust_file: Path, log: Path | None, on_advance: Advance
    ) -> dict[str, Any]:
        if self.role is Role.SIGN:
            return self.own.sign(request, trust_file, log, on_advance)
        more = {key: value for key, value in request.items() if key not in {"action", "catalogue"}}
        return self._asked(NewTask(Role.SIGN, request["action"], request["catalogue"], more), on_advance)

    def publish(self, cloud: str, request: Mapping[str, Any], on_advance: Advance) -> dict[str, Any]:
        if self.role is Role.PUBLISH:
            return self.own.publish(cloud, request, on_advance)
        more = {key: value for key, value in request.items() if key not in {"action", "cloud"}}
        return self._asked(NewTask(Role.PUBLISH, request["action"], cloud, more), on_advance)

    def open_keys(self) -> None:
        if self.role is Role.SIGN:
            self.own.open_keys()

    @property
    def may_begin(self) -> bool:
        return self.own.may_begin if self.role is Role.SIGN else True  # the signer will say

    @property
    def roots(self) -> TrustedRoots:
        if self.role is Role.SIGN:
            return self.own.roots
        return PinnedRoots(self.settings.signed, self.settings.root_files())

    def _asked(self, task: NewTask, on_advance: Advance) -> dict[str, Any]:
        """What came of a task. Raises what it failed with, RoleSilent."""
        call = self.jobs.ask(task)
        self.tell(call)
        asked = time.monotonic()
        on_advance(f"waiting for {task.role}: {task.title}")
        while True:
            go_on()
            found = self.jobs.task(call.task_id)
            state = TaskState(found.state) if found else TaskState.CANCELLED
            if found is not None and state is TaskState.DONE:
                return dict(found.result)
            if found is not None and state is TaskState.FAILED:
                raise rebuild(found.result.get("error") or _died(found))
            late = state is TaskState.QUEUED and time.monotonic() - asked > PATIENCE
            if state is TaskState.CANCELLED or (late and self.jobs.call_off(call.task_id)):
                raise RoleSilent(f"nobody of {task.role} does {task.title}")
            time.sleep(_LOOK)


def _died(task: Task) -> dict[str, Any]:
    """The error of a task that nobody ended."""
    return {"code": task.error_code, "message": task.error_message, "advice": None, "log": None, "lines": ()}
