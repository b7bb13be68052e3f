"""What `imagefactory builds` says, as JSON and for people, and with which exit code it ends."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagefactory.model.job import JobState, NewTask, Role
from imagefactory.model.notify import Notify
from imagefactory.service.beat import Beat
from imagefactory.service.notify import Notifier
from imagefactory.store.job_rows import Held
from imagefactory.store.jobs import Jobs
from imagefactory.store.records import Records
from tests.contract.shell import Shell
from tests.unit.test_recipe_file import MINIMAL

WEEKLY = "schedule: {cron: '30 2 * * 1'}\n"
LEASE = 60.0
WORKER = f"{socket.gethostname()}:1#a"


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("IMAGEFACTORY_HOME", str(tmp_path / "home"))
    return Shell(capsys)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(MINIMAL + WEEKLY)
    return path


@pytest.fixture
def records(shell: Shell, tmp_path: Path) -> Iterator[Records]:
    del shell
    (tmp_path / "home").mkdir()
    made = Records(tmp_path / "home" / "imagefactory.db")
    yield made
    made.close()


@pytest.fixture
def jobs(records: Records) -> Jobs:
    return Jobs(records)


def begun(jobs: Jobs, step: str) -> Held:
    """The one task that waits, for a worker."""
    (task,) = [each for job in jobs.jobs() for each in jobs.tasks(job.id) if each.state == "queued"]
    assert task.step == step
    held = jobs.claim(task.id, Role(task.role), WORKER, LEASE)
    assert held is not None
    return held


def asked(shell: Shell, recipe: Path) -> str:
    status, document = shell.json("builds", "request", recipe)
    assert (status, document["state"], document["goes_on"]) == (0, "queued", False)
    return str(document["job"])


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What others do while somebody waits, one thing between two looks."""
    todo: list[Callable[[], object]] = []
    monkeypatch.setattr("time.sleep", lambda _: todo.pop(0)())
    return todo


def test_asked_for_once_and_joined(shell: Shell, recipe: Path, jobs: Jobs) -> None:
    status, text = shell.text("builds", "request", recipe)
    assert (status, text.partition(" ")[2]) == (0, "tiny: asked for\n")
    status, again = shell.json("builds", "request", recipe)
    assert (status, again["goes_on"], again["joined"]) == (0, True, 1)
    assert shell.text("builds", "request", recipe)[1].endswith("tiny: goes on already\n")
    assert len(jobs.jobs()) == 1
    recipe.write_text("name: 3\n")
    assert shell.refused("builds", "request", recipe) == (2, "recipe-invalid")


def test_list_and_show_what_goes_on_and_what_came_of_it(shell: Shell, recipe: Path, jobs: Jobs) -> None:
    assert shell.json("builds", "list") == (0, {"builds": []})
    job = asked(shell, recipe)
    held = begun(jobs, "plan")
    jobs.beat(held, LEASE, {"text": "reading mirrors", "done": 1, "total": 4})
    assert "reading mirrors (25 %)" in shell.text("builds", "show", job[:8])[1]
    jobs.done(held, {"said": "a new release"}, then=[NewTask(Role.BUILD, "rootfs")])
    _, shown = shell.json("builds", "show", "tiny")
    assert [(task["step"], task["state"]) for task in shown["tasks"]] == [("plan", "done"), ("rootfs", "queued")]
    assert shown["tasks"][0]["said"] == "a new release"
    jobs.done(begun(jobs, "rootfs"), {}, end=JobState.RELEASED, release="tiny@20261123.1")
    status, listed = shell.json("builds", "list")
    (one,) = listed["builds"]
    assert (status, one["job"], one["state"], one["release"]) == (0, job, "released", "tiny@20261123.1")
    assert "tiny@20261123.1" in shell.text("builds", "list", "tiny")[1]
    assert shell.json("builds", "list", "--active") == (0, {"builds": []})
    assert shell.json("builds", "list", "other") == (0, {"builds": []})
    assert shell.refused("builds", "list", "../x") == (2, "release-name-invalid")


@pytest.mark.parametrize("verb", ["show", "cancel", "retry"])
@pytest.mark.parametrize("named", ["0" * 32, "no-such-name", "../x", ""])
def test_a_build_that_nobody_knows(shell: Shell, jobs: Jobs, verb: str, named: str) -> None:
    assert jobs.jobs() == []
    assert shell.refused("builds", verb, named) == (1, "job-unknown")


def test_cancelled_before_it_began_and_while_it_runs(shell: Shell, recipe: Path, jobs: Jobs) -> None:
    job = asked(shell, recipe)
    assert shell.text("builds", "cancel", job, "--dry-run") == (0, f"{job[:8]} tiny: would be cancelled\n")
    assert jobs.job(job).state == JobState.QUEUED
    assert shell.text("builds", "cancel", "tiny") == (0, f"{job[:8]} tiny: is cancelled\n")
    second = asked(shell, recipe)
    held = begun(jobs, "plan")
    assert shell.text("builds", "cancel", "tiny") == (0, f"{second[:8]} tiny: will be as soon as it stops\n")
    assert jobs.beat(held, LEASE).cancel


def test_retry_asks_again(shell: Shell, recipe: Path, jobs: Jobs) -> None:
    job = asked(shell, recipe)
    assert shell.refused("builds", "retry", job) == (1, "state-conflict")
    jobs.fail(begun(jobs, "plan"), "host-disk-full", "no room", again=False)
    assert shell.text("builds", "retry", job, "--dry-run") == (0, "tiny would be asked for again\n")
    status, document = shell.json("builds", "retry", job)
    assert (status, document["repeats"], document["state"]) == (0, job, "queued")


def test_wait_shows_what_goes_on_and_fails_as_the_build_does(
    shell: Shell, recipe: Path, jobs: Jobs, meanwhile: list[Callable[[], object]]
) -> None:
    job = asked(shell, recipe)
    held = begun(jobs, "plan")
    meanwhile.append(lambda: jobs.beat(held, LEASE, {"text": "reading mirrors"}))
    meanwhile.append(lambda: jobs.done(held, {"said": "nothing is to be done"}, end=JobState.UNCHANGED))
    status, text = shell.text("builds", "request", recipe, "--wait")
    assert status == 0
    assert text.splitlines()[:4] == [
        "plan: running",
        "plan: running, reading mirrors",
        "plan: done, nothing is to be done",
        f"{job} tiny: unchanged",
    ]
    second = asked(shell, recipe)
    again = begun(jobs, "plan")
    meanwhile.append(lambda: jobs.fail(again, "boot-failed", "it does not boot", again=False))
    status, document = shell.json("builds", "request", recipe, "--wait")
    assert (status, document["error"]["code"], document["job"]) == (1, "boot-failed", second)
    assert document["error"]["advice"] == f"imagefactory builds show {second[:8]}"


def test_logs_of_this_host_and_of_another(shell: Shell, recipe: Path, jobs: Jobs, tmp_path: Path) -> None:
    job = asked(shell, recipe)
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "rootfs.log").write_text("".join(f"line {number}\n" for number in range(300)))
    result = {"logs": str(logs), "host": "here", "ends": {"rootfs.log": ["line 299"]}}
    jobs.done(begun(jobs, "plan"), result, then=[NewTask(Role.TEST, "boot-test", "bios")])
    ends = {"bios-console.log": ["\x1b[2JLinux version\n== sign: done", "Kernel panic"], "../../passwd": ["none"]}
    details = {"error": {"lines": ["Kernel panic"]}, "logs": "/elsewhere/1", "ends": ends, "host": "there"}
    jobs.fail(begun(jobs, "boot-test"), "boot-failed", "it does not boot", again=False, details=details)
    status, text = shell.text("builds", "logs", job, "--follow")
    lines = text.splitlines()
    begins = lines.index("== plan: done on here")
    assert (status, lines[begins + 1]) == (0, f"-- the end of {logs}/rootfs.log")
    assert lines[begins + 2 : begins + 202] == [f"  | line {number}" for number in range(100, 300)]
    assert lines[begins + 202 :] == [
        "== boot-test bios: failed on there",
        "-- the end of /elsewhere/1/bios-console.log",
        "  | \N{REPLACEMENT CHARACTER}[2JLinux version",
        "  | == sign: done",
        "  | Kernel panic",
        "-- the end of /elsewhere/1/passwd",
        "  | none",
    ]


def test_a_step_without_a_log_says_why_it_failed(shell: Shell, recipe: Path, jobs: Jobs) -> None:
    job = asked(shell, recipe)
    details = {"error": {"lines": ["no route to host"]}, "host": "there"}
    jobs.fail(begun(jobs, "plan"), "mirror-unreachable", "the mirror is gone", again=False, details=details)
    assert shell.text("builds", "logs", job) == (0, "== plan: failed on there\n  | no route to host\n")


def test_a_schedule_runs_now_and_somebody_waits(
    shell: Shell,
    recipe: Path,
    jobs: Jobs,
    records: Records,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: list[Callable[[], object]],
) -> None:
    shell.text("schedule", "add", recipe)
    monkeypatch.setattr("imagefactory.cli.schedule.BEAT_WITHIN", -1.0)
    assert shell.refused("schedule", "run-now", "tiny", "--wait") == (4, "role-silent")
    monkeypatch.setattr("imagefactory.cli.schedule.BEAT_WITHIN", 60.0)
    meanwhile.append(Beat(records, lambda _: None, Notifier(Notify()), "here").tick)
    meanwhile.append(lambda: jobs.done(begun(jobs, "plan"), {"said": "nothing is to be done"}, end=JobState.UNCHANGED))
    status, text = shell.text("schedule", "run-now", "tiny", "--wait")
    assert (status, "tiny: unchanged\n" in text, meanwhile) == (0, True, [])
