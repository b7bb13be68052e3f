"""What is said to whoever waits for a job."""

from imagefactory.cli.jobs_shown import PATIENCE, Waiting
from imagefactory.model.job import Role, TaskState
from imagefactory.store.tables import Job, Task


def task(state: TaskState, error_code: str | None = None) -> Task:
    return Task(id="t", role=Role.TEST, step="boot-test", subject="uefi", state=state, error_code=error_code)


def said(waiting: Waiting, state: TaskState, now: float, *ahead: Job, error_code: str | None = None) -> list[str]:
    return list(waiting.hints([task(state, error_code)], ahead, now))


def test_who_waits_for_nobody_learns_of_it_seldomer_and_seldomer() -> None:
    waiting = Waiting()
    moments = [number / 2 for number in range(2000) if said(waiting, TaskState.QUEUED, 100 + number / 2)]
    assert moments == [PATIENCE, 4 * PATIENCE, 16 * PATIENCE, 64 * PATIENCE]


def test_what_is_waited_for() -> None:
    waiting = Waiting()
    assert said(waiting, TaskState.QUEUED, 0.0) == []
    (hint,) = said(waiting, TaskState.QUEUED, 12.0)
    assert "boot-test uefi: has waited 12 s" in hint
    assert "imagefactory worker --role test" in hint


def test_another_build_of_the_name_comes_first() -> None:
    waiting, ahead = Waiting(), Job(id="0123456789abcdef")
    said(waiting, TaskState.QUEUED, 0.0, ahead)
    assert said(waiting, TaskState.QUEUED, 12.0, ahead) == [
        "boot-test uefi: has waited 12 s for build 01234567 of the same name"
    ]


def test_who_worked_meanwhile_waits_anew() -> None:
    waiting = Waiting()
    for state, now in ((TaskState.QUEUED, 0.0), (TaskState.RUNNING, 9.0), (TaskState.QUEUED, 15.0)):
        assert said(waiting, state, now) == []
    assert said(waiting, TaskState.QUEUED, 24.0) == []
    assert said(waiting, TaskState.QUEUED, 25.0)


def test_a_step_that_is_to_be_done_again_says_why_it_waits_itself() -> None:
    waiting = Waiting()
    assert not any(said(waiting, TaskState.QUEUED, float(now), error_code="mirror-unreachable") for now in range(100))
