"""What the commands about the life of releases say, as JSON and for people, and with which exit code they end."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from imagefactory.cli import lifecycle, retire
from imagefactory.factory.derived import Derived
from imagefactory.lifecycle.clouds import Clouds
from imagefactory.lifecycle.sweep import Sweep
from imagefactory.lifecycle.verbs import Verbs
from imagefactory.model.lifecycle import STABLE
from imagefactory.model.recipe_lifecycle import RecipeLife
from imagefactory.model.release import ReleaseRef
from imagefactory.store.records import Records, release_version
from imagefactory.store.tables import Release
from tests.contract.shell import Shell
from tests.fakes.places import DISPLAY, Shop
from tests.unit.test_sweep import FakeClouds

A = "glance:a"
LIFE = RecipeLife.model_validate(
    {
        "channels": ["candidate", STABLE],
        "lifecycle": {"keep_at_least": 1, "obsolete_after": "0 days", "grace": "0 days", "delete_after": "9 days"},
        "in_use_cloud": "admin",
    }
)


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.fixture
def clouds() -> FakeClouds:
    return FakeClouds(cast("Shop", None))


@pytest.fixture
def shop(tmp_path: Path, clouds: FakeClouds, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    records = Records(tmp_path / "db")
    made = clouds.shop = Shop(tmp_path, records)
    keeper = made.keeper()
    office = SimpleNamespace(
        records=records,
        keeper=keeper,
        verbs=Verbs(records, keeper, lambda _: LIFE),
        sweep=Sweep(keeper, cast("Clouds", clouds), lambda _: LIFE),
        derived=lambda _: Derived((), ()),
    )

    @contextmanager
    def session(_: Path | None = None) -> Iterator[Any]:
        yield SimpleNamespace(office=office)

    for module in (retire, lifecycle):
        monkeypatch.setattr(module, "factory_session", session)
    yield made
    records.close()


def ref(release: Release) -> str:
    return str(ReleaseRef(release.name, release_version(release)))


def test_a_decision_is_told_with_what_became_of_each_place(shop: Shop, shell: Shell) -> None:
    old, new = shop.release(A), shop.release(A)
    status, document = shell.json("rollback", "soe", "--reason", "broken")
    assert (status, document["left"], document["dry_run"]) == (0, [], False)
    assert document["release"] == ref(new)
    first, second = document["done"]
    assert first == {"release": ref(old), "target": A, "stage": "active", "name": DISPLAY, "hidden": False}
    assert (second["release"], second["stage"], second["hidden"]) == (ref(new), "deprecated", True)
    status, text = shell.text("restore", ref(new))
    assert (status, text.splitlines()[:2]) == (0, [f"{ref(new)} is restored", f"  {A}: {ref(new)} has the name"])


def test_a_place_that_is_left_ends_in_an_error_that_repeats_nothing(shop: Shop, shell: Shell) -> None:
    shop.release(A)
    shop.release(A)
    new = shop.release(A)
    shop.places.unreachable = {A}
    status, document = shell.json("rollback", "soe", "--reason", "broken")
    assert status == 4
    (left,) = document["left"]
    assert (left["target"], left["error"]["code"]) == (A, "cloud-unreachable")
    assert "[places-left]" in shell.stderr
    assert "lifecycle apply" in shell.stderr
    assert "same command" not in shell.stderr
    shop.places.unreachable.clear()
    status, document = shell.json("lifecycle", "apply")
    assert (status, document["left"]) == (0, [])
    assert release_version(new) not in shop.places.named(A)


@pytest.mark.parametrize(
    ("argv", "status", "code"),
    [
        (["promote", "soe"], 2, "usage"),
        (["promote", "soe@20200101.1"], 1, "release-unknown"),
        (["promote", "soe@x"], 2, "release-name-invalid"),
        (["promote", "OLD", "--to", "beta"], 2, "channel-unknown"),
        (["promote", "OLD"], 1, "nothing-to-change"),
        (["approve", "OLD"], 1, "nothing-to-change"),
        (["restore", "OLD"], 1, "nothing-to-change"),
        (["rollback", "soe", "--reason", "x"], 1, "previous-missing"),
        (["rollback", "OLD", "--reason", "x"], 2, "usage"),
        (["deprecate", "OLD", "--reason", "x"], 1, "previous-missing"),
        (["revoke", "OLD", "--reason", "two\nlines"], 2, "usage"),
        (["lifecycle", "plan", "other"], 1, "release-unknown"),
        (["lifecycle", "apply", "other"], 1, "release-unknown"),
    ],
)
def test_a_refusal_has_a_code_and_an_advice(shop: Shop, shell: Shell, argv: list[str], status: int, code: str) -> None:
    old = shop.release(A)
    lines = len(shop.ledger.history("soe"))
    assert shell.refused(*(ref(old) if each == "OLD" else each for each in argv)) == (status, code)
    assert len(shop.ledger.history("soe")) == lines


def test_a_dry_run_says_what_would_be_and_changes_nothing(shop: Shop, shell: Shell) -> None:
    shop.release(A)
    new = shop.release(A)
    lines = len(shop.ledger.history("soe"))
    for argv in (
        ["rollback", "soe", "--reason", "x"],
        ["deprecate", ref(new), "--reason", "x"],
        ["revoke", ref(new), "--reason", "x"],
        ["lifecycle", "apply"],
    ):
        status, document = shell.json(*argv, "--dry-run")
        assert status == 0
        assert document.get("dry_run", True)
        assert document.get("done", []) == []
    assert shell.text("revoke", ref(new), "--reason", "x", "--dry-run") == (0, f"would be: {ref(new)} is revoked\n")
    assert len(shop.ledger.history("soe")) == lines
    assert shop.places.named(A) == [release_version(new)]


def test_a_sweep_is_planned_and_done(shop: Shop, shell: Shell) -> None:
    old = shop.release(A)
    shop.release(A)
    status, document = shell.json("lifecycle", "plan", "soe", "soe")
    (change,) = document["changes"]
    assert (status, document["unknown"], change["release"], change["is_due"]) == (0, [], ref(old), True)
    assert (change["before"], change["after"], change["blocked"]) == ("deprecated", "obsolete", None)
    assert shell.text("lifecycle", "plan")[0] == 0
    status, document = shell.json("lifecycle", "apply")
    assert (status, [each["stage"] for each in document["done"]]) == (0, ["obsolete"])
    assert shell.text("lifecycle", "apply") == (0, "nothing was due\n")


def test_what_could_not_be_asked_ends_in_an_error(shop: Shop, clouds: FakeClouds, shell: Shell) -> None:
    shop.release(A)
    shop.release(A)
    clouds.unreachable = {"a"}
    for verb in ("plan", "apply"):
        status, document = shell.json("lifecycle", verb)
        (unknown,) = document["unknown"]
        assert (status, unknown["name"], unknown["target"], unknown["code"]) == (4, "soe", A, "cloud-unreachable")
        assert document["changes"] == []
