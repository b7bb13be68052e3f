"""What a command says, to whom, and in which order."""

import sys
from io import BytesIO, TextIOWrapper

import pytest

from imagefactory.cli.output import leave, say
from imagefactory.errors import UsageError


def test_who_has_both_in_one_stream_reads_the_answer_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python keeps what goes to a file or a pipe until it is much, or until the end."""
    stream = BytesIO()
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(stream, encoding="utf-8"))
    monkeypatch.setattr(sys, "stderr", TextIOWrapper(stream, encoding="utf-8", write_through=True))
    say("the answer")
    assert leave(UsageError("not all of it", advice="read on"), as_json=False).exit_code == UsageError("").exit_code
    assert stream.getvalue().decode().splitlines() == ["the answer", "error: not all of it [usage]", "  to do: read on"]
