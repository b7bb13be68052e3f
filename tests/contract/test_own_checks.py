"""What a recipe asks of the booted image gets there as it was written, and counts: a changed check boots again."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from imagefactory.errors import InputsChanged
from imagefactory.factory.line import Line
from tests.contract.test_factory import done, releases
from tests.fakes.host import RECIPE, FakeHost

SCRIPT = "#!/usr/bin/python3 -I\nprint('well')\n"
CHECKS: list[dict[str, Any]] = [
    {"name": "one", "run": "true"},
    {"name": "two", "script": "two.py", "sudo": True, "timeout": "9s"},
]
BOOT = ["boot-test", "sign", "publish"]


@pytest.fixture
def asking(host: FakeHost) -> FakeHost:
    (host.recipe_file.parent / "two.py").write_text(SCRIPT)
    return asks(host, guest=CHECKS)


def asks(host: FakeHost, **tests: object) -> FakeHost:
    host.recipe_file.write_text(f"{RECIPE}tests: {json.dumps(tests)}\n")
    return host


def booted(host: FakeHost) -> Mapping[str, Any]:
    """What the newest release's boot test was asked, in its first boot."""
    (piece,) = releases(host)[-1].evidence["boot"]
    return dict(piece["facts"]["boots"][0])


def test_checks_get_to_the_boot_test(asking: FakeHost) -> None:
    asking.build()
    assert booted(asking)["own"] == [
        ["one", "true", "/bin/sh", "-e", False, 60],
        ["two", SCRIPT, "/usr/bin/python3", "-I", True, 9],
    ]


def test_a_changed_check_boots_again(asking: FakeHost) -> None:
    asking.build()
    (asking.recipe_file.parent / "two.py").write_text(f"{SCRIPT}# more\n")
    asking.build()
    assert done(asking) == BOOT
    asks(asking, guest=[{**CHECKS[0], "sudo": True}, CHECKS[1]])
    asking.build()
    assert done(asking) == BOOT
    asks(asking, guest=[{**CHECKS[0], "sudo": True, "timeout": "5m"}, CHECKS[1]])
    asking.build()
    assert "boot-test" not in done(asking), "more time proves nothing new"


def test_a_script_that_changes_meanwhile_is_not_run(asking: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Line.disk

    def changing(line: Line, *given: Any) -> Any:  # noqa: ANN401
        (asking.recipe_file.parent / "two.py").write_text("#!/bin/sh\nexit 0\n")
        return disk(line, *given)

    monkeypatch.setattr(Line, "disk", changing)
    with pytest.raises(InputsChanged, match=r"two\.py changed after the recipe was read"):
        asking.build()
