"""Tables on stdout: whole lines in a pipe, folded ones on a terminal that is too narrow for them."""

import os
import subprocess
import sys

import pytest

from imagefactory.cli import tables
from imagefactory.cli.tables import print_table, table_of


def shown(capsys: pytest.CaptureFixture[str], *rows: tuple[str, ...], headings: tuple[str, ...]) -> list[str]:
    table = table_of(*headings)
    for row in rows:
        table.add_row(*row)
    print_table(table)
    return capsys.readouterr().out.splitlines()


def become_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20 columns."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(tables, "get_terminal_size", lambda: os.terminal_size((20, 24)))


def test_columns_stand_below_their_headings(capsys: pytest.CaptureFixture[str]) -> None:
    rows = (("a@1", "current", ""), ("longer@20261122.1", "revoked", "because"))
    assert shown(capsys, *rows, headings=("RELEASE", "STATE", "")) == [
        "RELEASE            STATE",
        "a@1                current",
        "longer@20261122.1  revoked  because",
    ]


def test_without_headings(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, ("+", "yes"), ("", "no"), headings=("", "")) == ["+  yes", "   no"]


def test_a_row_may_end_early(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, ("a",), ("b", "c"), headings=("KEY", "VALUE")) == ["KEY  VALUE", "a", "b    c"]


def test_wide_characters_take_two_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, ("\u4e2d\u6587", "1"), ("abcde", "2"), headings=("A", "B")) == [
        "A      B",
        "\u4e2d\u6587   1",
        "abcde  2",
    ]


def test_a_long_text_is_folded_and_not_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    become_a_terminal(monkeypatch)
    lines = shown(capsys, ("name", "0123456789" * 3), headings=("KEY", "VALUE"))
    assert len(lines) > 2
    assert "".join(lines[1:]).replace(" ", "") == "name" + "0123456789" * 3
    assert all(len(line) <= 20 for line in lines)


def test_what_fits_a_terminal_is_as_in_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    become_a_terminal(monkeypatch)
    assert shown(capsys, ("a", "b"), headings=("KEY", "VALUE")) == ["KEY  VALUE", "a    b"]


def test_several_lines_in_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, ("a", "one\ntwo"), ("\x1b[31m", "[bold]"), headings=("KEY", "VALUE"))
    assert [line.split() for line in lines[:3]] == [["KEY", "VALUE"], ["a", "one"], ["two"]]
    assert "\x1b" not in "".join(lines)
    assert "[bold]" in lines[3]


def test_thousands_of_rows_are_not_laid_out_by_rich() -> None:
    code = (
        "import sys; from imagefactory.cli.tables import print_table, table_of\n"
        "table = table_of('RELEASE', 'STATE')\n"
        "for number in range(10_000): table.add_row(f'image@20261122.{number}', 'current')\n"
        "print_table(table); assert 'rich' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert len(done.stdout.splitlines()) == 10_001
