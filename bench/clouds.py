"""Uploads and downloads, against the bare protocol and openstacksdk, with real servers on loopback."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import openstack
import requests

from bench.cases import BIN, RECIPE, Ground, raw_image
from bench.measure import Candidate, Comparison, command, compare
from bench.memory import Peaks, peak_of_build
from imagefactory.model.glance import SIGNATURE_PROPERTIES, Audience, GlanceImage, creation
from imagefactory.steps.glance_publish import CHUNK, CloudOrder, Publisher
from imagefactory.steps.glance_verify import check_data, require
from imagefactory.tools.openstack.glance import Glance
from imagefactory.tools.openstack.session import Cloud
from signing.glance import sign_image
from signing.keys import KeyRing
from signing.manifest import AuditHead, FormatEntry, OperatingSystem, ReleaseManifest, Version
from signing.signer import signer_for
from signing.verify import VerifiedManifest
from tests.openstack.cloud import prepare, up
from tests.openstack.clouds import connect
from tests.openstack.servers import stop_ours

SIZE = 1 << 30  # bytes of noise: nothing on the way can make less of it
MEMORY_GOAL = 120 << 20  # bytes
NAME = "bench"
SLOW = "20 MiB/s"


@dataclass(frozen=True)
class Site:
    """A cloud, and a signed file to publish there."""

    file: Path
    signed: VerifiedManifest
    clouds_yaml: Path

    @property
    def entry(self) -> FormatEntry:
        return self.signed.manifest.formats["raw"]

    def order(self) -> CloudOrder:
        return CloudOrder(str(uuid4()), NAME, self.signed, "raw", self.file, Audience())

    def publish(self) -> GlanceImage:
        """Upload with everything that belongs to it."""
        made = Publisher(Cloud("demo"), lambda _: None, lambda _: None).publish(self.order())
        image = Glance(Cloud("demo")).show(made.id)
        assert image is not None
        return image

    def clean(self) -> None:
        """No image of an earlier run is there."""
        glance = Glance(Cloud("demo"))
        for image in glance.search(name=NAME):
            glance.delete(image.id)


def upload(ground: Ground, runs: int) -> Comparison:
    """The whole publication, certificate and comparison included, against a bare PUT of the same chunks. Glance hashes
    a signed upload once more, so the peer that the goal is about is signed like ours."""
    with site(ground) as at, openstack.connect(cloud="demo") as cloud:
        image_service = str(cloud.image.get_endpoint()).rstrip("/")
        kept = Glance(Cloud("demo")).show(at.publish().id)
        signature = {key: (kept.value(key) or "") if kept else "" for key in SIGNATURE_PROPERTIES}

        def put(properties: Mapping[str, str]) -> None:
            image = Glance(Cloud("demo")).create(creation(str(uuid4()), NAME, "raw", properties, ()))
            with at.file.open("rb") as file:
                sent = requests.put(
                    f"{image_service}/images/{image.id}/file",
                    data=iter(lambda: file.read(CHUNK), b""),
                    headers={"X-Auth-Token": str(cloud.auth_token), "Content-Type": "application/octet-stream"},
                    timeout=300,
                )
            sent.raise_for_status()

        def sdk() -> None:
            cloud.image.create_image(NAME, filename=str(at.file), disk_format="raw", container_format="bare", wait=True)

        candidates = {
            "imagefactory's publication": lambda: _discard(at.publish()),
            "bare PUT in 256 KiB chunks, signed too": lambda: put(signature),
            "bare PUT in 256 KiB chunks, unsigned": lambda: put({}),
            "openstacksdk create_image(filename=)": sdk,
        }
        return compare("upload of 1 GiB to Glance", 1 / 0.9, runs, candidates, at.clean)


def download(ground: Ground, runs: int) -> Comparison:
    """Verification from Glance against a bare download with the same digest."""
    with site(ground) as at, openstack.connect(cloud="demo") as cloud:
        image_service = str(cloud.image.get_endpoint()).rstrip("/")
        at.clean()
        image = at.publish()

        def ours() -> None:
            here = Cloud("demo")
            require(here, image, at.signed)
            check_data(here, image, at.entry)

        def bare() -> None:
            hasher = hashlib.sha512()
            url, headers = f"{image_service}/images/{image.id}/file", {"X-Auth-Token": str(cloud.auth_token)}
            with requests.get(url, headers=headers, stream=True, timeout=300) as answer:
                for piece in answer.iter_content(CHUNK):
                    hasher.update(piece)
            assert hasher.hexdigest() == at.entry.sha512

        candidates = {"imagefactory's verification": ours, "bare download with SHA-512": bare}
        return compare("download and verification of 1 GiB from Glance", 1 / 0.9, runs, candidates)


def several(ground: Ground, runs: int) -> Comparison:
    """A release to two clouds at once against the slower of them alone, each time by the whole command."""
    with _two(ground) as clouds_yaml:
        return against_the_slower(ground.home, RECIPE.stem, clouds_yaml, SLOW, ground.log, runs)


def against_the_slower(home: Path, name: str, clouds_yaml: Path, slow: str, log: Path, runs: int) -> Comparison:
    """Publish the release `name` of a home to `demo` and `second`, of which the latter gets no more than `slow`."""
    env = {"IMAGEFACTORY_HOME": str(home), "OS_CLIENT_CONFIG_FILE": str(clouds_yaml)}

    def publish(*clouds: str) -> Candidate:
        places = [word for cloud in clouds for word in ("--to", f"glance:{cloud}")]
        return command([BIN / "imagefactory", "publish", name, *places], log, env)

    def clean() -> None:
        for cloud in ("demo", "second"):
            with connect(clouds_yaml, cloud) as there:
                for image in there.image.images(is_hidden=False):
                    there.image.delete_image(str(image.id))

    # How fast a cloud may be reached is remembered from one publication to the next.
    command([BIN / "imagefactory", "publish", name, "--to", "glance:second", "--bandwidth", slow], log, env)()
    both, alone = "imagefactory publish to two clouds", f"imagefactory publish to the slower one, at {slow}"
    return compare("two clouds at once", 1.2, runs, {both: publish("demo", "second"), alone: publish("second")}, clean)


def memory(ground: Ground) -> Peaks:
    """While a raw disk of 3 GiB is published and read back."""
    raw_image(ground)
    with site(ground) as at:
        environment = (f"IMAGEFACTORY_HOME={ground.home}", f"OS_CLIENT_CONFIG_FILE={at.clouds_yaml}")
        publish = ("publish", "bench-raw", "--to", "glance:demo", "--format", "raw", "--deep")
        peaks = peak_of_build(["env", *environment, BIN / "imagefactory", *publish], ground.log)
    return Peaks("a publication of 3 GiB to Glance, read back", MEMORY_GOAL, peaks)


@contextmanager
def site(ground: Ground) -> Iterator[Site]:
    """Servers that end with the bench, and noise that is signed with the keys of the ground."""
    prepare(print)
    state, servers = up(ground.scratch / "cloud", lambda _: None, die_with_us=True)
    before = os.environ.get("OS_CLIENT_CONFIG_FILE")
    os.environ["OS_CLIENT_CONFIG_FILE"] = str(state.clouds_yaml)
    file = ground.scratch / "noise.raw"
    try:
        with file.open("wb") as stream:
            for _ in range(SIZE >> 20):
                stream.write(os.urandom(1 << 20))
        yield Site(file, _signed(ground, file), state.clouds_yaml)
    finally:
        file.unlink(missing_ok=True)
        stop_ours(servers)
        if before is None:
            del os.environ["OS_CLIENT_CONFIG_FILE"]
        else:
            os.environ["OS_CLIENT_CONFIG_FILE"] = before


@contextmanager
def _two(ground: Ground) -> Iterator[Path]:
    """Two clouds that share nothing, and the clouds.yaml that names both."""
    prepare(print)
    with ExitStack() as stack:
        first, servers = up(ground.scratch / "cloud", lambda _: None, die_with_us=True)
        stack.callback(stop_ours, servers)
        second, servers = up(ground.scratch / "second", lambda _: None, name="second", beside=first, die_with_us=True)
        stack.callback(stop_ours, servers)
        yield second.clouds_yaml


def _signed(ground: Ground, file: Path) -> VerifiedManifest:
    ring, now = KeyRing(ground.settings.keys), datetime.now(UTC).replace(microsecond=0)
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.seek(0)
        sha512 = hashlib.file_digest(stream, "sha512")
    glance = sign_image(signer_for(f"file:{ground.settings.keys}", "glance"), ring.certificate(), sha512.digest())
    version = Version(20260101, 1)
    manifest = ReleaseManifest(
        name=NAME,
        version=version,
        os=OperatingSystem("debian", "12", "bookworm"),
        arch="amd64",
        formats={"raw": FormatEntry(f"{NAME}-{version}.raw", SIZE, SIZE, sha256, sha512.hexdigest(), glance)},
        files={},
        evidence=(),
        properties={"min_ram": "512", "min_disk": "1", "os_distro": "debian"},
        audit=AuditHead(1, "0" * 64),
        created=now,
        expires=now + timedelta(days=1),
        development=True,
    )
    return VerifiedManifest(manifest, "bench", uuid4().hex * 2, True, True, ())


def _discard(image: object) -> None:
    del image
