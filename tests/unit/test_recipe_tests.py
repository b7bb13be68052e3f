"""A recipe's own checks as they are written: read, found beside the recipe, digested, refused."""

from pathlib import Path

import pytest

from imagefactory.errors import InputsChanged
from imagefactory.model.quantity import MIB
from imagefactory.tools.recipe_file import copy_reference, load_recipe
from tests.unit.test_recipe_file import MINIMAL, refused, write

OWN = """\
tests:
  guest:
    - name: no-mail
      run: test ! -e /usr/sbin/sendmail
    - {name: web, script: checks/web, sudo: true, timeout: 90s}
"""
SCRIPT = "#!/usr/bin/python3\nprint('up')\n"


def own(folder: Path, text: str = OWN, script: str | bytes = SCRIPT) -> Path:
    (folder / "checks").mkdir(parents=True)
    write(folder / "checks", script, "web")
    return write(folder, MINIMAL + text)


def test_checks_are_read(tmp_path: Path) -> None:
    loaded = load_recipe(own(tmp_path))
    inline, script = loaded.recipe.tests.guest
    assert (inline.name, inline.run, inline.script, inline.sudo, inline.timeout) == (
        "no-mail",
        "test ! -e /usr/sbin/sendmail",
        None,
        False,
        60,
    )
    path = tmp_path / "checks/web"
    assert (script.run, script.script, script.sudo, script.timeout) == (None, str(path), True, 90)
    copy_reference(loaded, path, tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == SCRIPT
    path.write_text(f"{SCRIPT}# more\n")
    with pytest.raises(InputsChanged):
        copy_reference(loaded, path, tmp_path / "copy")


def test_the_digest_has_the_script_and_not_its_path(tmp_path: Path) -> None:
    one = load_recipe(own(tmp_path / "a"))
    assert load_recipe(own(tmp_path / "b")).digest == one.digest
    assert load_recipe(own(tmp_path / "c", script="#!/bin/sh\n")).digest != one.digest
    assert one.document["tests"]["guest"][1] == {
        "name": "web",
        "script": {"sha256": one.digests[tmp_path / "a/checks/web"]},
        "sudo": True,
        "timeout": "90s",
    }


def checks(text: str) -> str:
    return f"tests:\n  guest:\n    - {text}\n"


BAD: dict[str, tuple[str, str, str, str]] = {
    "no program": (checks("name: a"), "recipe-invalid", "8:7", "tests.guest[0]: should have either run or script"),
    "two programs": (
        checks("{name: a, run: 'true', script: checks/web}"),
        "recipe-invalid",
        "8:7",
        "tests.guest[0]: should have either run or script",
    ),
    "a program of blanks": (
        checks('{name: a, run: " "}'),
        "recipe-invalid",
        "8:22",
        "tests.guest[0].run: should not be blank",
    ),
    "a program that is a boolean": (
        checks("{name: a, run: true}"),
        "recipe-invalid",
        "8:22",
        "tests.guest[0].run: should be text: put it in quotes",
    ),
    "a program that is long": (
        checks(f"{{name: a, run: {'a' * 5000}}}"),
        "recipe-invalid",
        "8:22",
        "tests.guest[0].run: should have at most 4096 characters",
    ),
    "a secret in a program": (
        checks("{name: a, run: 'curl https://joe:hunter2@host/'}"),
        "secret-in-recipe",
        "8:22",
        "tests.guest[0].run: has a URL with a user name or password in it",
    ),
    "no name": (checks("run: 'true'"), "recipe-invalid", "8:7", "tests.guest[0].name: is missing"),
    "a name that is a path": (
        checks("{name: ../a, run: 'true'}"),
        "recipe-invalid",
        "8:14",
        "tests.guest[0].name: should be 1 to 63 lower-case letters, digits and hyphens",
    ),
    "a name twice": (
        checks("{name: a, run: 'true'}\n    - {name: a, run: 'false'}"),
        "recipe-invalid",
        "8:5",
        "tests.guest: has two checks called a",
    ),
    "a time without its unit": (
        checks("{name: a, run: 'true', timeout: 60}"),
        "recipe-unit",
        "8:39",
        "tests.guest[0].timeout: 60 has no unit: write a duration",
    ),
    "for ever": (
        checks("{name: a, run: 'true', timeout: 2h}"),
        "recipe-invalid",
        "8:39",
        "tests.guest[0].timeout: should be from 1s to 1h, not 2h",
    ),
    "an unknown key": (
        checks("{name: a, run: 'true', sudp: true}"),
        "recipe-unknown-key",
        "8:30",
        "tests.guest[0].sudp: unknown key; did you mean sudo?",
    ),
    "a script that is not there": (
        checks("{name: a, script: checks/wab}"),
        "recipe-reference",
        "8:25",
        "there is no file ",
    ),
    "no list": ("tests: {guest: {name: a}}\n", "recipe-invalid", "6:16", "tests.guest: should be a list"),
}


@pytest.mark.parametrize(("text", "code", "place", "message"), BAD.values(), ids=BAD)
def test_bad_checks(tmp_path: Path, text: str, code: str, place: str, message: str) -> None:
    path = own(tmp_path, text)
    error = refused(path)
    assert (error.code, error.lines) == (code, ())
    assert error.message.startswith(f"{path}:{place}: {message}")
    assert "hunter2" not in error.message


@pytest.mark.parametrize("script", ["echo no interpreter\n", "", b"\x7fELF\x02", b"#!/bin/sh\n\0", b"#!\n"])
def test_a_script_that_is_none(tmp_path: Path, script: str | bytes) -> None:
    error = refused(own(tmp_path, script=script))
    assert error.code == "recipe-reference"
    assert "web is no script: its first line should be #! and a program" in error.message


def test_a_script_that_is_large_or_secret(tmp_path: Path) -> None:
    assert refused(own(tmp_path / "a", script=b"#!/bin/sh\n" + b"#" * MIB)).code == "recipe-reference"
    secret = "#!/bin/sh\n# -----BEGIN OPENSSH PRIVATE KEY-----\n"
    assert refused(own(tmp_path / "b", script=secret)).code == "secret-in-recipe"


def test_not_more_checks_than_a_boot_test_has_time_for(tmp_path: Path) -> None:
    many = "".join(f"    - {{name: a{number}, run: 'true'}}\n" for number in range(51))
    error = refused(own(tmp_path, f"tests:\n  guest:\n{many}"))
    assert error.message.endswith("tests.guest: should have at most 50 items, not 51")
