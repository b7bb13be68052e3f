"""Reading a catalogue from a web server on loopback that is not always kind, in several processes, on bad disks."""

import gc
import gzip
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from imagefactory import errors
from imagefactory.errors import FactoryError
from imagefactory.tools import tuf_fetch
from imagefactory.tools.tuf_client import CatalogueClient
from tests.fakes.certificate import certificate
from tests.fakes.tuf_repository import Repository, kept, manifest, require_sound
from tests.fakes.tuf_site import (
    Site,
    Talk,
    breaking_off,
    dripping_body,
    dripping_headers,
    endless,
    not_http,
    saying,
    serving,
    silence,
)

NAME = "soe-debian-12"
OLD, NEW = "20261121.1", "20261122.1"
HTML = b"<!doctype html><title>It works!</title>"
TIMESTAMP = "/catalogue/metadata/timestamp.json"
ROOT = "/catalogue/metadata/2.root.json"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "catalogue")
    made.add(NAME, OLD)
    made.publish("targets", NAME)
    return made


@pytest.fixture
def site(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with serving(repository.directory) as made:
        yield made
    gc.collect()  # a socket that was left open is a warning, and belongs to the test that left it


def read(where: str | Path, store: Path, root: bytes | None = None, patience: float = 60.0) -> bytes:
    with CatalogueClient(where, store, root=root, patience=patience) as client:
        return client.manifest(NAME, client.newest(NAME).version)


def test_a_catalogue_on_a_web_server(site: Site, repository: Repository, tmp_path: Path) -> None:
    assert read(site.url, tmp_path / "store", repository.first_root) == manifest(NAME, OLD)
    target = f"/catalogue/targets/{repository.target_file(NAME, OLD).relative_to(repository.directory / 'targets')}"
    assert site.asked == [
        ROOT,
        TIMESTAMP,
        "/catalogue/metadata/2.snapshot.json",
        "/catalogue/metadata/2.targets.json",
        f"/catalogue/metadata/1.{NAME}.json",
        target,
    ]
    site.asked.clear()
    assert read(f"{site.url}/", tmp_path / "store") == manifest(NAME, OLD)
    assert site.asked == [ROOT, TIMESTAMP, target], "nothing else has changed"


def test_who_asks_for_one_name_reads_no_other(site: Site, repository: Repository, tmp_path: Path) -> None:
    for number in range(9):
        repository.add(f"other-{number}", OLD)
    repository.publish("targets", *(f"other-{number}" for number in range(9)))
    with CatalogueClient(site.url, tmp_path / "store", root=repository.first_root) as client:
        assert len(client.names()) == 10
        assert [str(each.version) for each in client.releases(NAME)] == [OLD]
    assert [path for path in site.asked if "other-" in path] == []


def test_a_mirror_is_the_same_catalogue(site: Site, repository: Repository, tmp_path: Path) -> None:
    store = tmp_path / "store"
    read(site.url, store, repository.first_root)
    assert read(repository.directory, store) == manifest(NAME, OLD)


LATE = 0.5  # seconds that these servers have; they would go on for ever

UNKIND: dict[str, tuple[str, Talk, float]] = {
    "HTML": ("catalogue-damaged", saying(200, HTML, Content_Type="text/html"), 60.0),
    "empty": ("catalogue-damaged", saying(200), 60.0),
    "nothing": ("catalogue-damaged", saying(204), 60.0),
    "half": ("catalogue-unreachable", breaking_off, 60.0),
    "not HTTP": ("catalogue-unreachable", not_http, 60.0),
    "broken compression": ("catalogue-unreachable", saying(200, b"no gzip", Content_Encoding="gzip"), 60.0),
    "endless": ("catalogue-endless", endless, 60.0),
    "bomb": ("catalogue-endless", saying(200, gzip.compress(bytes(50_000_000)), Content_Encoding="gzip"), 60.0),
    "500": ("catalogue-unreachable", saying(500), 60.0),
    "503": ("catalogue-unreachable", saying(503), 60.0),
    "later": ("catalogue-unreachable", saying(503, Retry_After="1000000"), LATE),
    "to a file": ("catalogue-unreachable", saying(302, Location="file:///etc/hostname"), 60.0),
    "to FTP": ("catalogue-unreachable", saying(302, Location="ftp://127.0.0.1/x"), 60.0),
    "to what is no address": ("catalogue-unreachable", saying(302, Location="http://[::1"), 60.0),
    "round and round": ("catalogue-unreachable", saying(302, Location="timestamp.json"), 60.0),
    "silence": ("catalogue-unreachable", silence, LATE),
    "dripping headers": ("catalogue-unreachable", dripping_headers, LATE),
    "dripping body": ("catalogue-unreachable", dripping_body, LATE),
}


@pytest.mark.parametrize("talk", UNKIND)
def test_a_server_that_is_not_kind(site: Site, repository: Repository, tmp_path: Path, talk: str) -> None:
    store = tmp_path / "store"
    read(site.url, store, repository.first_root)
    before = kept(store)
    repository.add(NAME, NEW)
    repository.publish(NAME)
    code, site.instead[TIMESTAMP], patience = UNKIND[talk]
    with pytest.raises(FactoryError) as refused:
        read(site.url, store, patience=patience)
    assert refused.value.code == code, refused.value
    assert TIMESTAMP in refused.value.message or patience == LATE
    assert kept(store) == before
    site.instead.clear()
    assert read(site.url, store) == manifest(NAME, NEW)
    require_sound(store, repository, before)


@pytest.mark.parametrize("talk", ["HTML", "endless", "silence", "dripping body", "half"])
@pytest.mark.parametrize("which", ["root", "role", "manifest"])
def test_the_same_for_other_files(site: Site, repository: Repository, tmp_path: Path, which: str, talk: str) -> None:
    file = repository.target_file(NAME, OLD).relative_to(repository.directory)
    path = {"root": ROOT, "role": f"/catalogue/metadata/1.{NAME}.json", "manifest": f"/catalogue/{file}"}[which]
    code, site.instead[path], patience = UNKIND[talk]
    if talk == "HTML" and which != "root":  # their length and digest are known before
        code = "catalogue-mixed"
    with pytest.raises(FactoryError) as refused:
        read(site.url, tmp_path / "store", repository.first_root, patience)
    assert refused.value.code == code, refused.value
    require_sound(tmp_path / "store", repository, {})


def test_a_promised_file_that_is_not_there(site: Site, repository: Repository, tmp_path: Path) -> None:
    repository.target_file(NAME, OLD).unlink()
    with pytest.raises(errors.CatalogueUnreachable, match="404") as refused:
        read(site.url, tmp_path / "store", repository.first_root)
    assert refused.value.exit_code == 4


def test_a_redirection_within_the_web(site: Site, repository: Repository, tmp_path: Path) -> None:
    (repository.directory / "moved.json").write_bytes(repository.file("timestamp.json").read_bytes())
    site.instead[TIMESTAMP] = saying(301, Location="/catalogue/moved.json")
    assert read(site.url, tmp_path / "store", repository.first_root) == manifest(NAME, OLD)


def test_an_answer_that_nobody_wants_to_its_end_is_closed(site: Site) -> None:
    over = threading.Event()

    def watched(handler: BaseHTTPRequestHandler, gone: threading.Event) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(1 << 40))
        handler.end_headers()
        try:
            while not gone.is_set():
                handler.wfile.write(b" " * 65536)
        finally:
            over.set()

    site.instead[TIMESTAMP] = watched
    source = tuf_fetch.source_of(site.url, 60.0)
    pieces = source.fetch(f"{site.url}/metadata/timestamp.json")
    assert next(pieces)
    pieces.close()  # type: ignore[attr-defined]  # a generator
    assert over.wait(20)
    assert not site.gone.is_set()


def test_nobody_is_there(repository: Repository, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(errors.CatalogueUnreachable, match="Connection refused"):
            read(f"http://127.0.0.1:{taken.getsockname()[1]}/", tmp_path / "store", repository.first_root)


def test_somebody_is_there_who_does_not_take_calls(repository: Repository, tmp_path: Path) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        with pytest.raises(errors.CatalogueUnreachable, match="no answer in time"):
            read(f"http://127.0.0.1:{deaf.getsockname()[1]}/", tmp_path / "store", repository.first_root, LATE)


def test_silence_is_noticed_before_the_time_is_over(
    site: Site, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuf_fetch, "SILENCE", 1)
    site.instead[TIMESTAMP] = silence
    with pytest.raises(errors.CatalogueUnreachable):
        read(site.url, tmp_path / "store", repository.first_root, patience=1e6)
    assert site.asked.count(TIMESTAMP) > 1, "it was asked again"


def test_https(repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
    with serving(repository.directory, context) as site:
        address = f"https://localhost:{site.port}/catalogue"
        with pytest.raises(errors.CatalogueUnreachable, match="certificate verify failed"):
            read(address, tmp_path / "store", repository.first_root)
        assert site.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert read(address, tmp_path / "store", repository.first_root) == manifest(NAME, OLD)


def test_a_server_without_a_certificate(site: Site, repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(errors.CatalogueUnreachable):
        read(site.url.replace("http:", "https:"), tmp_path / "store", repository.first_root)
    assert site.asked == []


def test_the_password_of_a_proxy_is_not_repeated(
    site: Site, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for proxy in ("http://me:hunter2@127.0.0.1:1", "http://me:hunter2@[::1", "nonsense://me:hunter2@x"):
        monkeypatch.setenv("http_proxy", proxy)
        with pytest.raises(errors.CatalogueUnreachable) as refused:
            read(site.url, tmp_path / "store", repository.first_root)
        assert "hunter2" not in f"{refused.value} {refused.value.advice} {refused.value.lines}"
    assert site.asked == []


# -- several processes -------------------------------------------------------------------------------------------------

READER = """
import json, sys
from pathlib import Path
from imagefactory.errors import FactoryError
from imagefactory.tools.tuf_client import CatalogueClient
where, store, root = sys.argv[1:]
try:
    with CatalogueClient(where, Path(store), root=Path(root).read_bytes(), patience=60.0) as client:
        print("holds it", flush=True)
        found = client.manifest("soe-debian-12", client.newest("soe-debian-12").version)
    print(found.decode(), end="")
except FactoryError as error:
    print(error.code, error.message, end="")
"""


def reader(repository: Repository, where: str | Path, store: Path, *before: str) -> "subprocess.Popen[str]":
    root = repository.directory.parent / "root.json"
    root.write_bytes(repository.first_root)
    command = [*before, sys.executable, "-c", READER, str(where), str(store), str(root)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_that_share_a_store(repository: Repository, tmp_path: Path) -> None:
    """One after the other, and all of them come to the same."""
    running = [reader(repository, repository.directory, tmp_path / "store") for _ in range(6)]
    said = [each.communicate(timeout=120)[0] for each in running]
    assert said == [f"holds it\n{manifest(NAME, OLD).decode()}"] * 6
    require_sound(tmp_path / "store", repository, {})


def test_a_process_that_was_killed_holds_nothing(site: Site, repository: Repository, tmp_path: Path) -> None:
    store = tmp_path / "store"
    site.instead[TIMESTAMP] = silence
    held = reader(repository, site.url, store)
    assert held.stdout is not None
    assert held.stdout.readline() == "holds it\n"
    with pytest.raises(errors.Busy), CatalogueClient(site.url, store, patience=0.0):
        pass
    held.kill()
    held.wait()
    held.stdout.close()
    site.instead.clear()
    assert read(site.url, store, repository.first_root) == manifest(NAME, OLD)


def test_a_reader_that_is_stuck_can_end(site: Site, repository: Repository, tmp_path: Path) -> None:
    """Its helper may wait for the server for ever: nobody waits for the helper."""
    site.instead[TIMESTAMP] = dripping_headers
    code = READER.replace("60.0", "0.5")
    root = tmp_path / "root.json"
    root.write_bytes(repository.first_root)
    command = [sys.executable, "-c", code, site.url, str(tmp_path / "store"), str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "catalogue-unreachable" in done.stdout


# -- disks -------------------------------------------------------------------------------------------------------------


def namespaced(script: str, *arguments: str) -> list[str]:
    become = [] if os.geteuid() == 0 else ["sudo", "-n"]
    return [*become, "unshare", "--mount", "sh", "-c", script, *arguments]


FULL = 'mount -t tmpfs -o size=$1k,mode=0700 none "$0" && shift && exec "$@"'
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'


@pytest.mark.parametrize("pages", range(1, 8))
def test_a_full_disk(repository: Repository, tmp_path: Path, pages: int) -> None:
    """Each file that is written comes to be the one for which there is no room."""
    store = tmp_path / "store"
    store.mkdir(mode=0o700)
    held = reader(repository, repository.directory, store, *namespaced(FULL, str(store), str(pages * 4)))
    said, _ = held.communicate(timeout=60)
    assert said.startswith("holds it\ntrust-store-unusable "), said
    assert str(store) in said
    assert said.endswith("No space left on device")


@pytest.mark.parametrize("seen", [False, True])
def test_a_disk_that_cannot_be_written(repository: Repository, tmp_path: Path, seen: bool) -> None:
    store = tmp_path / "store"
    store.mkdir(mode=0o700)
    if seen:
        read(repository.directory, store, repository.first_root)
    before = kept(store)
    held = reader(repository, repository.directory, store, *namespaced(READ_ONLY, str(store)))
    said, _ = held.communicate(timeout=60)
    assert said == f"holds it\ntrust-store-unusable {store}: Read-only file system"
    assert kept(store) == before
