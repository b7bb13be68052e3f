"""The audit log: a chain that only grows, and shows when somebody else wrote to it."""

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagefactory.errors import AuditCut, AuditDamaged
from imagefactory.tools.audit_log import MAX_LINE, NOTHING, AuditedSigner, AuditLog
from signing.errors import KeyPurpose, NotARegularFile, Unwritable
from signing.manifest import AuditHead
from signing.signer import FileSigner
from tests.unit.signing.builders import Keys, make_keys


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path / "audit.log")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


def written(log: AuditLog, count: int) -> list[AuditHead]:
    return [log.append("signed", version=str(number)) for number in range(1, count + 1)]


def test_a_log_that_was_never_begun_is_empty(log: AuditLog) -> None:
    assert log.verify() == AuditHead(0, NOTHING)
    assert not log.path.exists()


def test_entries_come_back_in_their_order(log: AuditLog) -> None:
    heads = written(log, 3)
    entries = list(log.entries())
    assert [entry.details["version"] for entry in entries] == ["1", "2", "3"]
    assert [entry.head for entry in entries] == heads
    assert log.verify(heads) == heads[-1]
    assert log.path.stat().st_mode & 0o777 == 0o600


def test_a_cut_log_shows_by_the_heads_that_are_out(log: AuditLog) -> None:
    heads = written(log, 3)
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(lines[:2]))
    assert log.verify(heads[:2]) == heads[1]
    with pytest.raises(AuditCut):
        log.verify(heads)
    log.append("signed", version="3, another one")
    with pytest.raises(AuditCut):
        log.verify(heads)


def test_heads_that_contradict_each_other(log: AuditLog) -> None:
    head = written(log, 1)[0]
    with pytest.raises(AuditCut):
        log.verify([head, AuditHead(1, NOTHING)])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_altered_byte_goes_unseen(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    log = AuditLog(tmp_path_factory.mktemp("log") / "audit.log")
    heads = written(log, 3)
    raw = bytearray(log.path.read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    log.path.write_bytes(raw)
    with pytest.raises((AuditDamaged, AuditCut)):
        log.verify(heads)


@pytest.mark.parametrize("lost", [0, 1])
def test_entries_cannot_be_taken_out_or_swapped(log: AuditLog, lost: int) -> None:
    written(log, 3)
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(lines[:lost] + lines[lost + 1 :]))
    with pytest.raises(AuditDamaged):
        log.verify()
    log.path.write_bytes(b"".join([lines[1], lines[0], lines[2]]))
    with pytest.raises(AuditDamaged):
        log.verify()


def test_an_entry_that_was_never_finished_is_left_out_and_removed_by_the_next_writer(log: AuditLog) -> None:
    heads = written(log, 2)
    assert log.torn() == 0
    with log.path.open("ab") as stream:
        stream.write(b'{"details":{},"ent')
    assert log.verify(heads) == heads[-1]
    assert (log.torn(), len(list(log.entries()))) == (18, 2)
    written(log, 1)
    events = [entry.event for entry in log.entries()]
    assert events == ["signed", "signed", "torn-entry-removed", "signed"]
    assert log.torn() == 0


def test_a_head_whose_entry_was_torn_is_missed(log: AuditLog) -> None:
    heads = written(log, 2)
    log.path.write_bytes(log.path.read_bytes()[:-1])
    assert log.torn() > 1
    with pytest.raises(AuditCut):
        log.verify(heads)


def test_no_reader_sees_half_of_an_entry(log: AuditLog) -> None:
    """A reader waits for the writer that holds the lock, and sees the log as it was when it began."""
    written(log, 1)
    whole = log.path.read_bytes()
    found: list[int] = []
    with log.path.open("r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.seek(0, os.SEEK_END)
        stream.write(b'{"details"')
        stream.flush()
        reader = threading.Thread(target=lambda: found.append(log.torn()))
        reader.start()
        reader.join(0.2)
        assert reader.is_alive(), "nobody waited"
        stream.truncate(len(whole))
        stream.flush()
    reader.join()
    assert found == [0]


def test_a_reader_is_in_nobodys_way(log: AuditLog) -> None:
    written(log, 2)
    for entry in log.entries():
        log.append("signed", version=entry.details["version"])
    assert [entry.details["version"] for entry in log.entries()] == ["1", "2", "1", "2"]


def test_a_first_entry_that_was_never_finished(log: AuditLog) -> None:
    log.path.write_bytes(b"{")
    assert (log.verify(), log.torn()) == (AuditHead(0, NOTHING), 1)
    written(log, 1)
    assert [entry.event for entry in log.entries()] == ["torn-entry-removed", "signed"]


@pytest.mark.parametrize("tail", [b"{}\n", b"no entry\n", b"x" * (3 * MAX_LINE), b"x" * (MAX_LINE + 1) + b"\n"])
def test_nothing_is_written_behind_what_is_no_entry(log: AuditLog, tail: bytes) -> None:
    written(log, 1)
    with log.path.open("ab") as stream:
        stream.write(tail)
    before = log.path.read_bytes()
    with pytest.raises(AuditDamaged):
        log.append("signed")
    assert log.path.read_bytes() == before


def test_a_disk_that_takes_a_part_of_an_entry_takes_none(log: AuditLog) -> None:
    """The limit of a file's size writes short, as a full disk does."""
    written(log, 1)
    size = log.path.stat().st_size
    code = (
        "import resource, signal, sys; from pathlib import Path; from imagefactory.tools.audit_log import AuditLog;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size + 50}, {size + 50}));"
        "AuditLog(Path(sys.argv[1])).append('signed', version='2')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(log.path)], capture_output=True, timeout=60, check=False)
    assert b"Unwritable" in done.stderr
    assert log.path.stat().st_size == size + 50
    written(log, 1)
    assert [entry.event for entry in log.entries()] == ["signed", "torn-entry-removed", "signed"]


def test_details_that_would_not_fit_are_refused_before_they_are_written(log: AuditLog) -> None:
    with pytest.raises(AuditDamaged):
        log.append("signed", version="x" * MAX_LINE)
    assert log.verify() == AuditHead(0, NOTHING)


def test_a_link_is_no_log(log: AuditLog, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch()
    log.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unwritable):
        log.append("signed")
    with pytest.raises(NotARegularFile):
        log.verify()
    log.path.unlink()
    log.path.mkdir()
    with pytest.raises(Unwritable):
        log.append("signed")


def test_writers_wait_for_each_other(log: AuditLog) -> None:
    threads = [threading.Thread(target=written, args=(AuditLog(log.path), 20)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.verify().entries == 80


def test_a_key_is_not_used_unseen(log: AuditLog, keys: Keys) -> None:
    signer = AuditedSigner(FileSigner(keys.ring, "glance"), log, "soe@20260101.1")
    signer.sign_prehashed(bytes(64))
    with pytest.raises(KeyPurpose):
        signer.sign(b"DSSEv1 ")
    entries = list(log.entries())
    assert [entry.event for entry in entries] == ["key-used", "key-used"]
    assert entries[0].details == {
        "purpose": "glance",
        "keyid": signer.keyid,
        "about": "soe@20260101.1",
        "sha512": bytes(64).hex(),
    }


def test_without_a_log_there_is_no_signature(tmp_path: Path, keys: Keys) -> None:
    signer = AuditedSigner(FileSigner(keys.ring, "release"), AuditLog(tmp_path / "no" / "audit.log"), "soe@20260101.1")
    with pytest.raises(Unwritable):
        signer.sign(b"DSSEv1 ")
