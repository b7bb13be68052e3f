"""`imagefactory service`, on a real PostgreSQL."""

from pathlib import Path

import pytest

from imagefactory.store.database import REVISION
from imagefactory.store.records import Records
from tests.contract.shell import Shell
from tests.servers.postgres_fixtures import Place


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Shell:
    monkeypatch.setenv("IMAGEFACTORY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("IMAGEFACTORY_DATABASE", raising=False)
    return Shell(capsys)


def test_the_tables_are_made_once(shell: Shell, empty_database: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEFACTORY_DATABASE", empty_database.url())
    assert shell.refused("releases", "list") == (4, "schema-older")
    planned = {"dry_run": True, "changed": True, "version": REVISION}
    assert shell.json("service", "init", "--dry-run") == (0, planned)
    assert shell.refused("releases", "list") == (4, "schema-older"), "a dry run makes nothing"
    assert shell.text("service", "init") == (0, f"the tables are up to date now: version {REVISION}\n")
    Records(empty_database.parsed()).close()
    for options in ([], ["--dry-run"]):
        status, document = shell.json("service", "init", *options)
        assert (status, document["changed"]) == (0, False)
    assert shell.json("releases", "list") == (0, {"releases": []})


def test_where_there_is_no_database(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shell.refused("service", "init") == (2, "usage")
    monkeypatch.setenv("IMAGEFACTORY_DATABASE", "postgresql://nobody@127.0.0.1:1/none")
    assert shell.refused("service", "init") == (4, "database-unreachable")
    assert shell.refused("service", "init", "--dry-run") == (4, "database-unreachable")
