"""The test cloud is what it says it is: real servers that verify what they are given."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from keystoneauth1.exceptions import ClientException, EndpointNotFound, Unauthorized
from openstack.connection import Connection

from tests.fakes.proxy import FaultProxy
from tests.openstack import install
from tests.openstack.__main__ import main
from tests.openstack.cloud import prepare
from tests.openstack.clouds import connect
from tests.openstack.config import write_configuration
from tests.openstack.databases import copy_template
from tests.openstack.errors import CloudError
from tests.openstack.fixtures import Cloud
from tests.openstack.install import ROOT
from tests.openstack.servers import start, wait
from tests.openstack.state import State, make_state

IMAGE = os.urandom(1 << 16)
ENTRIES = ("demo-admin", "demo", "demo-plain", "demo-member", "demo-reader", "demo-tenant")


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


@pytest.fixture(scope="module")
def certificate_id(cloud: Cloud, key: ec.EllipticCurvePrivateKey) -> str:
    """The key's certificate, in Barbican as Glance wants it."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rig")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, SHA512())
    )
    with cloud.connect() as demo:
        secret = demo.key_manager.create_secret(
            name="rig",
            secret_type="certificate",
            payload=base64.b64encode(certificate.public_bytes(Encoding.PEM)).decode(),
            payload_content_type="application/octet-stream",
            payload_content_encoding="base64",
        )
    return str(secret.secret_ref).rpartition("/")[2]


def put(demo: Connection, key: ec.EllipticCurvePrivateKey, certificate_id: str, sent: bytes) -> tuple[str, int]:
    """Upload `sent` as an image that is signed to be IMAGE: its id, and Glance's answer to the bytes."""
    created = demo.image.post(
        "/images",
        json={
            "name": "rig",
            "disk_format": "raw",
            "container_format": "bare",
            "img_signature": base64.b64encode(key.sign(IMAGE, ec.ECDSA(SHA512()))).decode(),
            "img_signature_hash_method": "SHA-512",
            "img_signature_key_type": "ECC_SECP384R1",
            "img_signature_certificate_uuid": certificate_id,
        },
    )
    assert created.status_code == 201, created.text
    image_id = created.json()["id"]
    answer = demo.image.put(f"/images/{image_id}/file", data=sent, headers={"Content-Type": "application/octet-stream"})
    return image_id, answer.status_code


def test_every_entry_gets_a_token(cloud: Cloud) -> None:
    for name in ENTRIES:
        with cloud.connect(name) as connection:
            assert connection.session.get_token()
            assert connection.image.get("/images").status_code == 200


def test_a_signed_image_becomes_active(cloud: Cloud, key: ec.EllipticCurvePrivateKey, certificate_id: str) -> None:
    with cloud.connect() as demo:
        image_id, status = put(demo, key, certificate_id, IMAGE)
        assert status == 204
        assert demo.image.get(f"/images/{image_id}").json()["status"] == "active"
    assert (cloud.store / image_id).read_bytes() == IMAGE


def test_one_flipped_byte_is_refused(cloud: Cloud, key: ec.EllipticCurvePrivateKey, certificate_id: str) -> None:
    with cloud.connect() as demo:
        image_id, status = put(demo, key, certificate_id, bytes([IMAGE[0] ^ 1]) + IMAGE[1:])
        assert status == 400
        assert demo.image.get(f"/images/{image_id}").json()["status"] == "queued"
    assert not (cloud.store / image_id).exists()


def test_a_publisher_may_make_public_what_a_member_may_not(cloud: Cloud) -> None:
    for name, status in (("demo", 201), ("demo-member", 403), ("demo-reader", 403)):
        with cloud.connect(name) as connection:
            answer = connection.image.post("/images", json={"name": "rig", "visibility": "public"})
            assert answer.status_code == status, name


def test_the_second_region_has_no_key_manager(cloud: Cloud) -> None:
    with cloud.connect("demo-plain") as connection:
        assert str(connection.image.get_endpoint()).startswith(cloud.image_url)
        with pytest.raises(EndpointNotFound):
            connection.session.get_endpoint(service_type="key-manager", region_name="RegionTwo")


def test_a_proxy_can_stand_before_each_server(cloud: Cloud) -> None:
    with FaultProxy(cloud.image_url) as image, FaultProxy(cloud.key_manager_url) as keys:
        clouds_yaml = cloud.with_image_endpoint(image.url, key_manager=keys.url)
        with connect(clouds_yaml, "demo") as demo:
            assert demo.image.get("/images").status_code == 200
            assert demo.key_manager.get("/secrets").status_code == 200
        with connect(clouds_yaml, "demo-member") as member:
            assert member.image.get("/images").status_code == 200
    assert [exchange.path for exchange in image.exchanges if "images" in exchange.path] == ["/v2/images"]
    assert [exchange.path for exchange in keys.exchanges if "secrets" in exchange.path] == ["/v1/secrets"]


def test_a_server_stops_and_comes_back(cloud: Cloud) -> None:
    with cloud.connect() as demo:
        assert demo.key_manager.get("/secrets").status_code == 200
        cloud.stop("barbican")
        try:
            with pytest.raises(ClientException):
                demo.key_manager.get("/secrets")
        finally:
            cloud.start("barbican")
        assert demo.key_manager.get("/secrets").status_code == 200


def test_an_application_credential_stands_for_its_user_until_it_expires(cloud: Cloud) -> None:
    lasting = cloud.application_credential()
    short = cloud.application_credential(expires_at=datetime.now(UTC) + timedelta(seconds=5))
    with cloud.connect(lasting) as connection:
        assert connection.current_user_id == cloud.user_id("publisher")
        assert connection.current_project_id == cloud.project_id("soe")
    time.sleep(5.1)
    with cloud.connect(short) as connection, pytest.raises(Unauthorized):
        connection.session.get_token()


def test_no_log_and_no_process_tells_a_secret(cloud: Cloud) -> None:
    """Every file of the state may: its directory is closed to others."""
    directory = cloud.clouds_yaml.parent
    assert directory.stat().st_mode & 0o077 == 0
    told = "".join(path.read_text(errors="replace") for path in (directory / "log").iterdir())
    told += "".join(_command_lines())
    assert "imagefactory-cloud-glance" in told
    known = json.loads((directory / "state.json").read_text())
    secrets = [*known["passwords"].values(), known["key_encryption_key"]]
    assert len(secrets) == 8
    assert [secret for secret in secrets if secret in told] == []


def _command_lines() -> list[str]:
    return [path.read_text(errors="replace") for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]


# One server, without a cloud around it


@pytest.fixture
def state(tmp_path: Path) -> State:
    prepare(print)
    state = make_state(tmp_path / "state")
    write_configuration(state)
    copy_template(state)
    return state


STARTER = """
import sys, time
from pathlib import Path
from tests.openstack.servers import start, wait
from tests.openstack.state import read_state
state = read_state(Path(sys.argv[1]))
wait(state, start(state, "barbican", die_with_us=sys.argv[2] == "die"))
print("up", flush=True)
time.sleep(60)
"""


def start_and_be_killed(state: State, fate: str) -> None:
    argv = [sys.executable, "-c", STARTER, str(state.directory), fate]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "up\n"
        starter.kill()


def wait_for_the_last_process(state: State) -> None:
    deadline = time.monotonic() + 20
    while any(str(state.directory) in line for line in _command_lines()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_server_of_a_session_that_is_killed_dies_too(state: State) -> None:
    start_and_be_killed(state, "die")
    wait_for_the_last_process(state)


def test_a_server_of_a_user_stays_until_it_is_stopped(state: State, capsys: pytest.CaptureFixture[str]) -> None:
    start_and_be_killed(state, "stay")
    where = f"--state={state.directory}"
    assert main(["status", where]) == 1  # the others do not run
    assert f"barbican  {state.url('barbican')}  process " in capsys.readouterr().out
    assert main(["down", where]) == 0
    assert capsys.readouterr().out == "Stopped barbican\n"
    wait_for_the_last_process(state)
    assert main(["down", where, "--purge"]) == 0
    assert not state.directory.exists()
    assert main(["down", where]) == 0
    assert main(["status", where]) == 1


def test_a_server_that_does_not_start_shows_its_log(state: State) -> None:
    (state.directory / "home" / ".barbican" / "barbican.conf").write_text("nonsense")
    server = start(state, "barbican", die_with_us=True)
    with pytest.raises(CloudError, match=r"barbican did not start(?s:.*)The end of .*barbican.log:\n  "):
        wait(state, server)


def test_a_port_that_somebody_took_is_named(state: State) -> None:
    port = state.ports["glance"]
    with socket.create_server(("127.0.0.1", port)), pytest.raises(CloudError, match=f"Port {port}"):
        start(state, "glance", die_with_us=True)


def test_an_interrupted_install_is_done_again(tmp_path: Path) -> None:
    lock, venv, said = tmp_path / "requirements.lock", tmp_path / "venv", list[str]()
    lock.write_text("# nothing\n")
    half = venv / "lib" / "half-a-package"
    half.mkdir(parents=True)
    install.install(said.append, venv, lock)
    assert len(said) == 1
    assert (venv / "bin" / "python").exists()
    assert not half.exists()
    install.install(said.append, venv, lock)
    assert len(said) == 1
