"""What `imagefactory schedule` says, as JSON and for people, and with which exit code it ends."""

from pathlib import Path

import pytest

from imagefactory.store.records import Records
from imagefactory.store.schedules import Outcome, Schedules
from tests.contract.shell import Shell
from tests.unit.test_recipe_file import MINIMAL

WEEKLY = "schedule: {cron: '30 2 * * 1', timezone: Europe/Vienna, jitter: 10m}\n"


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("IMAGEFACTORY_HOME", str(tmp_path / "home"))
    return Shell(capsys)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(MINIMAL + WEEKLY)
    return path


def test_a_recipe_is_added_once_updated_and_removed(shell: Shell, recipe: Path) -> None:
    assert shell.text("schedule", "list") == (0, "no schedules yet\n")
    assert shell.text("schedule", "add", recipe, "--dry-run") == (0, "tiny: would be added\n")
    assert shell.text("schedule", "list") == (0, "no schedules yet\n")
    assert shell.text("schedule", "add", recipe) == (0, "tiny: added\n")
    assert shell.json("schedule", "add", recipe) == (0, {"dry_run": False, "schedules": {"tiny": "unchanged"}})
    recipe.write_text(MINIMAL + WEEKLY.replace("10m", "20m"))
    assert shell.text("schedule", "add", recipe) == (0, "tiny: updated\n")
    recipe.write_text(MINIMAL)
    assert shell.text("schedule", "add", recipe) == (0, "tiny: removed\n")
    assert shell.refused("schedule", "add", recipe) == (2, "schedule-missing")


def test_remove(shell: Shell, recipe: Path) -> None:
    shell.text("schedule", "add", recipe)
    assert shell.text("schedule", "remove", "tiny", "--dry-run") == (0, "tiny: would be removed\n")
    assert shell.text("schedule", "remove", "tiny") == (0, "tiny: removed\n")
    assert shell.json("schedule", "list") == (0, {"schedules": []})


def test_next_and_list(shell: Shell, recipe: Path) -> None:
    shell.text("schedule", "add", recipe)
    status, document = shell.json("schedule", "next", "--count", "3")
    assert (status, [run["name"] for run in document["runs"]]) == (0, ["tiny"] * 3)
    assert all(run["planned"] <= run["begins"] for run in document["runs"])
    _, listed = shell.json("schedule", "list")
    (one,) = listed["schedules"]
    assert one["next"] == {key: document["runs"][0][key] for key in ("planned", "begins")}
    assert one["schedule"]["jitter"] == "10m"
    status, text = shell.text("schedule", "next", "tiny", "--count", "2")
    assert text.startswith("BEGINS ")
    assert text.count("02:30 Europe/Vienna") == 2


def test_pause_resume_and_run_now(shell: Shell, recipe: Path, tmp_path: Path) -> None:
    shell.text("schedule", "add", recipe)
    assert shell.text("schedule", "pause", "tiny", "--reason", "the mirror moves") == (0, "tiny: paused\n")
    assert "paused: the mirror moves" in shell.text("schedule", "list")[1]
    assert shell.text("schedule", "next") == (0, "nothing is going to run\n")
    assert shell.refused("schedule", "run-now", "tiny") == (1, "schedule-paused")
    assert shell.refused("schedule", "next", "tiny") == (1, "schedule-paused")
    assert shell.text("schedule", "resume", "tiny") == (0, "tiny: resumed\n")
    assert shell.text("schedule", "run-now", "tiny", "--dry-run") == (0, "tiny: would be due now\n")
    records = Records(tmp_path / "home" / "imagefactory.db")
    assert not Schedules(records).claim_due()
    assert shell.text("schedule", "run-now", "tiny") == (0, "tiny: due now\n")
    (claim,) = Schedules(records).claim_due()
    Schedules(records).record_outcome("tiny", claim.planned, Outcome.FAILED, "boot-failed")
    records.close()
    assert "failed boot-failed" in shell.text("schedule", "list")[1]


@pytest.mark.parametrize("verb", ["remove", "next", "pause", "resume", "run-now"])
def test_a_name_that_has_none(shell: Shell, verb: str) -> None:
    assert shell.refused("schedule", verb, "other") == (2, "schedule-unknown")
    assert shell.refused("schedule", verb, "../other") == (2, "release-name-invalid")


def test_too_many_runs(shell: Shell) -> None:
    assert shell.text("schedule", "next", "--count", "1001")[0] == 2


def test_a_reason_is_one_line(shell: Shell, recipe: Path) -> None:
    shell.text("schedule", "add", recipe)
    assert shell.refused("schedule", "pause", "tiny", "--reason", "a\nb") == (2, "usage")
