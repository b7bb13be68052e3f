"""`imagefactory-verify`, in this process. With the base install alone: tests/contract/test_wheel.py."""

import json
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from signing import command
from signing.manifest import MANIFEST_FILE
from signing.verify import RULES
from tests.unit.signing.builders import IMAGES, NAME, NOW, SBOM_FILE, STEM, Keys, sha256


class Now(datetime):
    """The clock at the time of the test release."""

    @classmethod
    def now(cls, tz: Any = None) -> "Now":  # noqa: ANN401 - as in datetime
        return cls.fromtimestamp(NOW.timestamp(), tz)


@dataclass
class Desk:
    """Command lines with the keys that made the release in `folder`."""

    folder: Path
    keys: Keys
    capsys: pytest.CaptureFixture[str]
    stderr: str = ""

    @property
    def image(self) -> Path:
        return self.folder / f"{STEM}.qcow2"

    def text(self, *argv: str | Path) -> tuple[int, str]:
        status = command.run([*map(str, argv)], str(self.keys.trust_file))
        said = self.capsys.readouterr()
        self.stderr = said.err
        return status, said.out

    def json(self, *argv: str | Path) -> tuple[int, dict[str, Any]]:
        status, text = self.text(*argv, "--json")
        return status, json.loads(text)


@pytest.fixture
def desk(folder: Path, keys: Keys, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr(command, "datetime", Now)
    return Desk(folder, keys, capsys)


def test_a_file(desk: Desk) -> None:
    status, text = desk.text(desk.image, "--name", NAME, "--min-version", "20251121.1")
    assert (status, desk.stderr) == (0, "")
    assert text.splitlines() == [
        "VERIFIED debian-12@20251121.1",
        f"  {STEM}.qcow2  sha256:{sha256(IMAGES['qcow2'])}",
        "  is the qcow2 file of debian-12@20251121.1",
        f"  signed by release key {desk.keys.signer('release').keyid[:16]}",
        "  development keys: good for trying things out, not for production",
        "  name pinned to debian-12",
        "  created 2025-11-21T19:00:00Z",
        "  expires 2026-05-20T19:00:00Z",
        f"  evidence boot-test: passed, about {STEM}.qcow2",
    ]


def test_a_file_whose_manifest_lies_elsewhere(desk: Desk, tmp_path: Path) -> None:
    image = desk.image.rename(tmp_path / "image")
    assert desk.text(image)[0] == 1
    assert "release.sigstore.json' cannot be opened" in desk.stderr
    assert desk.text(image, "--manifest", desk.folder / MANIFEST_FILE)[0] == 0


def test_a_folder(desk: Desk) -> None:
    status, document = desk.json(desk.folder)
    proof = document["verified"]
    assert (status, proof["name"], proof["version"]) == (0, NAME, "20251121.1")
    assert proof["files"].keys() == {
        *(f"{STEM}.{kind}" for kind in IMAGES),
        SBOM_FILE,
        MANIFEST_FILE,
        "provenance.sigstore.json",
    }
    assert proof["keyid"] == desk.keys.signer("release").keyid
    assert (proof["created"], proof["expires"]) == ("2025-11-21T19:00:00Z", "2026-05-20T19:00:00Z")
    assert [each["kind"] for each in proof["evidence"]] == ["boot-test"]
    states = {rule["number"]: rule["state"] for rule in document["rules"]}
    assert states == {
        **dict.fromkeys([*range(1, 12), *range(14, 19)], "passed"),
        7: "does not apply",
        8: "does not apply",
    }


@pytest.mark.parametrize(
    ("argv", "code", "number"),
    [
        (["FOLDER", "--trust", "missing"], "no-trust-root", 1),
        (["FOLDER", "--trust", "IMAGE"], "trust-invalid", 1),
        (["missing"], "unreadable", 2),
        (["n" * 5000], "unreadable", 2),
        (["/dev/null"], "not-a-regular-file", 2),
        (["IMAGE", "--manifest", "IMAGE"], "bundle-invalid", 3),
        (["IMAGE", "--name", "another"], "name-mismatch", 7),
        (["IMAGE", "--name", ""], "name-mismatch", 7),
        (["IMAGE", "--min-version", "20261121.1"], "version-too-old", 8),
        (["MANIFEST"], "digest-mismatch", 12),
    ],
)
def test_refusals(desk: Desk, argv: list[str], code: str, number: int) -> None:
    places = {"FOLDER": desk.folder, "IMAGE": desk.image, "MANIFEST": desk.folder / MANIFEST_FILE}
    words = [str(places.get(word, word)) for word in argv]
    status, document = desk.json(*words)
    assert (status, document["error"]["code"]) == (1, code)
    assert document.keys() == {"error", "rules"}
    (refused,) = (rule for rule in document["rules"] if rule["state"] == "refused")
    assert (refused["number"], refused["code"], refused["rule"]) == (number, code, RULES[number])
    status, text = desk.text(*words)
    assert (status, text) == (1, "")
    assert desk.stderr.startswith(f"error: {document['error']['message']} [{code}]\n  to do: ")
    status, text = desk.text(*words, "--explain")
    assert (status, f"     refused [{code}]: " in text, "VERIFIED" in text) == (1, True, False)


def test_explained(desk: Desk) -> None:
    status, text = desk.text(desk.folder, "--explain")
    assert status == 0
    assert text.startswith(f"  1. {RULES[1]}\n     passed: 1 release and 1 provenance keys\n  2. {RULES[2]}\n")
    assert "\nVERIFIED debian-12@20251121.1\n" in text


@pytest.mark.parametrize(
    "argv",
    [
        [],
        [""],
        ["a", "b"],
        ["a", "--nonsense"],
        ["a", "--min-version", "new"],
        ["a", "--min-version", ""],
        ["a", "--min", "20251121.1"],
        [".", "--manifest", "a"],
    ],
    ids=" ".join,
)
def test_wrong_usage(desk: Desk, argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        desk.text(*argv)
    assert caught.value.code == 2


def test_a_relative_trust_file_in_the_environment(desk: Desk) -> None:
    """It would be looked for in whatever folder we are started in."""
    with pytest.raises(SystemExit) as caught:
        command.run([str(desk.image)], "trust.json")
    assert caught.value.code == 2


def test_names_that_a_terminal_would_obey(desk: Desk, tmp_path: Path) -> None:
    image = desk.image.rename(os.fsdecode(os.fsencode(tmp_path) + b"/\x1b[2J\xff\n"))
    manifest = desk.folder / MANIFEST_FILE
    for options in ((), ("--explain",), ("--json",), ("--name", "\x1b[2J")):
        _, text = desk.text(image, "--manifest", manifest, *options)
        assert "\x1b" not in text + desk.stderr
        assert text.isascii()
