"""Command lines, in this process."""

import json
from pathlib import Path
from typing import Any

import pytest

from imagefactory.cli.app import run

Answer = tuple[int, dict[str, Any]]


class Shell:
    """Command lines on a host, in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.stderr = ""

    def text(self, *argv: str | Path) -> tuple[int, str]:
        """The exit code and what is on stdout."""
        self._capsys.readouterr()
        status = run([str(argument) for argument in argv])
        said = self._capsys.readouterr()
        self.stderr = said.err
        assert "Traceback" not in said.err + said.out
        return status, said.out

    def json(self, *argv: str | Path) -> Answer:
        """The exit code and the one JSON document on stdout."""
        status, stdout = self.text(*argv, "--json")
        document = json.loads(stdout)
        assert isinstance(document, dict)
        return status, document

    def refused(self, *argv: str | Path) -> tuple[int, str]:
        """The exit code and the code of the error; with and without --json they are the same."""
        status, document = self.json(*argv)
        error = document["error"]
        assert error["message"]
        assert error["advice"] or error["code"] in {"home-unusable"}
        plain, stdout = self.text(*argv)
        assert (plain, stdout) == (status, "")
        assert f"error: {error['message']} [{error['code']}]\n" in self.stderr
        return status, error["code"]
