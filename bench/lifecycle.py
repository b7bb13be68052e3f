"""What it costs to survey a cloud with 10,000 images of ours, and to plan what becomes of them: records without data in
a real Glance on loopback."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import openstack
import requests

from bench.measure import Comparison, compare
from bench.memory import Peaks, peak_of_build
from imagefactory.factory.catalogue_places import CataloguePlaces
from imagefactory.factory.catalogues import Catalogues
from imagefactory.factory.hands import OwnHands
from imagefactory.factory.keeping import Everywhere
from imagefactory.lifecycle.clouds import Clouds
from imagefactory.lifecycle.keeper import Keeper
from imagefactory.lifecycle.sweep import Sweep
from imagefactory.model.glance import MANIFEST_PROPERTY, RELEASE_PROPERTY
from imagefactory.model.lifecycle import Stage
from imagefactory.model.recipe_lifecycle import LifecyclePolicy, RecipeLife
from imagefactory.model.survey import Survey
from imagefactory.progress import silent
from imagefactory.settings import read_settings
from imagefactory.steps.glance_survey import survey
from imagefactory.store.ledger import Ledger
from imagefactory.store.lock import FileLocks
from imagefactory.store.records import Records
from imagefactory.store.tables import Build, Publication, Release
from imagefactory.tools.audit_log import AuditLog
from imagefactory.tools.hand import call_publisher
from imagefactory.tools.openstack.session import Cloud
from tests.openstack.cloud import prepare, up
from tests.openstack.many import Record, add_images
from tests.openstack.servers import stop_ours

MANY, FEWER, NAMES = 10_000, 2_500, 50
RATIO = 1.3
MEMORY_GOAL = 200 << 20  # bytes
PAGE = 1000
KEPT = 2  # releases of each name that no policy touches


def against_bare(work: Path, runs: int) -> Comparison:
    """A survey against the bare paged listing of the same images, hidden ones too, and openstacksdk's."""
    with site(work), openstack.connect(cloud="demo") as cloud:
        url, token = str(cloud.image.get_endpoint()).rstrip("/"), str(cloud.auth_token)
        owner = str(cloud.current_project_id)

        def ours() -> None:
            assert len(survey(Cloud("demo")).images) >= MANY

        def bare() -> None:
            assert sum(_bare(url, token, owner, hidden) for hidden in ("false", "true")) >= MANY

        def sdk() -> None:
            filters = {"owner": owner, "visibility": "all", "limit": PAGE}
            listed = (cloud.image.images(**filters, is_hidden=hidden) for hidden in (False, True))
            assert sum(1 for images in listed for _ in images) >= MANY

        candidates = {
            "imagefactory's survey": ours,
            "bare paged listing, pages of 1000": bare,
            "openstacksdk images(), pages of 1000": sdk,
        }
        return compare("survey of 10,000 images in Glance", RATIO, runs, candidates)


def plan_grows(work: Path, runs: int) -> Comparison:
    """What `lifecycle plan` does over all images, against as many in several clouds' worth of fewer: it should be as
    much, whatever is held in memory and compared with each other."""
    with ExitStack() as stack:
        sweeps = {}
        for many in (MANY, FEWER):
            clouds_yaml = stack.enter_context(site(work, many))
            sweeps[many] = stack.enter_context(_books(work / f"home-{many}", clouds_yaml))

        def plan(many: int) -> None:
            found = sweeps[many].plan(sweeps[many].keeper.ledger.names(), datetime(2026, 6, 1, tzinfo=UTC))
            assert not found.unknown
            assert len(found.due()) == many - NAMES * KEPT

        def fewer() -> None:
            for _ in range(MANY // FEWER):
                plan(FEWER)

        candidates = {
            f"lifecycle plan over {MANY:,} images": lambda: plan(MANY),
            f"{MANY // FEWER} times over {FEWER:,} images": fewer,
        }
        return compare("growth of lifecycle plan", RATIO, runs, candidates)


def plan_against_bare(work: Path, runs: int) -> Comparison:
    """What `lifecycle plan` does without asking who uses images, against the bare paged listing of the same images."""
    with ExitStack() as stack:
        clouds_yaml = stack.enter_context(site(work))
        sweep = stack.enter_context(_books(work / f"home-{MANY}", clouds_yaml))
        cloud = stack.enter_context(openstack.connect(cloud="demo"))
        url, token = str(cloud.image.get_endpoint()).rstrip("/"), str(cloud.auth_token)
        owner = str(cloud.current_project_id)
        names = sweep.keeper.ledger.names()

        def ours() -> None:
            found = sweep.plan(names, datetime(2026, 6, 1, tzinfo=UTC))
            assert not found.unknown
            assert len(found.due()) == MANY - NAMES * KEPT

        def bare() -> None:
            assert sum(_bare(url, token, owner, hidden) for hidden in ("false", "true")) >= MANY

        candidates = {"imagefactory's lifecycle plan": ours, "bare paged listing, pages of 1000": bare}
        return compare("lifecycle plan over 10,000 images in Glance", RATIO, runs, candidates)


@contextmanager
def _books(work: Path, clouds_yaml: Path) -> Iterator[Sweep]:
    """A sweep over the records of a factory that has published all of these images."""
    home = work / "lifecycle"
    shutil.rmtree(home, ignore_errors=True)
    (home / "logs").mkdir(parents=True)
    environment = {"IMAGEFACTORY_HOME": str(home), "OS_CLIENT_CONFIG_FILE": str(clouds_yaml), "NO_PROXY": "*"}
    settings = read_settings(environment)
    records = Records(settings.database)
    try:
        _record(records, survey(Cloud("demo")))
        clouds, audit = Clouds(OwnHands(settings).publish), AuditLog(settings.audit)
        places = Everywhere(clouds, CataloguePlaces(Catalogues(settings, home / "trust.json")))
        keeper = Keeper(Ledger(records), places, audit, FileLocks(home / "locks"), "bench", silent)
        policy = LifecyclePolicy.model_validate({"keep_at_least": KEPT, "obsolete_after": "30 days"})
        yield Sweep(keeper, clouds, lambda _: RecipeLife(lifecycle=policy))
    finally:
        records.close()


def _record(records: Records, found: Survey) -> None:
    """Every image that is there is known, and all but the newest of each name have been deprecated for long."""
    then = datetime(2026, 1, 1)
    with records.session() as session:
        for number, image in enumerate(found.images):
            name, _, version = image.release.partition("@")
            day, count = map(int, version.split("."))
            about = {"name": name, "version_day": day, "version_number": count, "recipe_digest": "0" * 64}
            build = Build(id=f"{number:032x}", recipe_file="r", state="released", started=then, logs="l", **about)
            stage = Stage.DEPRECATED if image.hidden else Stage.ACTIVE
            publication = Publication(
                target="glance:demo",
                state="verified",
                changed=then,
                since=then,
                verified=then,
                image_id=image.id,
                stage=stage,
                details={},
            )
            session.add(build)
            session.flush()
            session.add(
                Release(
                    build_id=build.id,
                    content_digest="0" * 64,
                    files={},
                    images={},
                    evidence={},
                    created=then,
                    publications=[publication],
                    **about,
                )
            )


def memory(work: Path) -> Peaks:
    """Of the publisher, who surveys, and of whoever asked it, who has the whole of the survey."""
    with site(work) as clouds_yaml:
        said, log = work / "peak", work / "bench.log"
        peaks = peak_of_build([sys.executable, "-m", "bench.lifecycle", clouds_yaml, said, log], log)
        return Peaks("a survey of 10,000 images", MEMORY_GOAL, {**peaks, "who asks": int(said.read_text())})


@contextmanager
def site(work: Path, many: int = MANY) -> Iterator[Path]:
    """A cloud with so many images, which ends with the bench; its clouds.yaml. The images stay for the next time."""
    prepare(print)
    directory = work / f"lifecycle-cloud-{many}"
    state, servers = up(directory, lambda _: None, die_with_us=True)
    before = os.environ.get("OS_CLIENT_CONFIG_FILE")
    os.environ["OS_CLIENT_CONFIG_FILE"] = str(state.clouds_yaml)
    try:
        filled = directory / "images.done"
        if not filled.exists():
            add_images(state, Cloud("demo").project, _records(many))
            filled.touch()
        yield state.clouds_yaml
    finally:
        stop_ours(servers)
        if before is None:
            del os.environ["OS_CLIENT_CONFIG_FILE"]
        else:
            os.environ["OS_CLIENT_CONFIG_FILE"] = before


def _records(many: int) -> Iterator[Record]:
    """Releases of NAMES names; all but the newest of each are hidden. They say as much as real ones do."""
    for number in range(many):
        name, version = f"image-{number % NAMES:02}", f"20260101.{1 + number // NAMES}"
        hidden = number < many - NAMES
        properties = {f"property_{count:02}": "a value as long as usual" for count in range(20)}
        properties |= {f"img_signature_{each}": "SHA-512" for each in ("hash_method", "key_type", "certificate_uuid")}
        said = {
            RELEASE_PROPERTY: f"{name}@{version}",
            MANIFEST_PROPERTY: f"{number:064x}",
            "img_signature": "x" * 140,
        }
        yield Record(
            f"{name} {version}" if hidden else name, 1 << 30, f"{number:0128x}", hidden, {**properties, **said}
        )


def _bare(url: str, token: str, owner: str, hidden: str) -> int:
    """How many images there are, page by page, each page as JSON."""
    count, path = 0, f"/v2/images?owner={owner}&visibility=all&os_hidden={hidden}&limit={PAGE}"
    root = "{0.scheme}://{0.netloc}".format(urlsplit(url))
    while path:
        answer = requests.get(f"{root}{path}", headers={"X-Auth-Token": token}, timeout=300)
        answer.raise_for_status()
        page = answer.json()
        count += len(page["images"])
        path = page.get("next")
    return count


def main() -> None:
    """Ask the publisher for a survey, as the factory does, and say how much memory that took here (bytes)."""
    clouds_yaml, said, log = map(Path, sys.argv[1:])
    answer = call_publisher(
        {"action": "survey", "cloud": "demo", "owner": None},
        environment={"OS_CLIENT_CONFIG_FILE": str(clouds_yaml), "NO_PROXY": "*"},
        log=log,
        on_advance=lambda text, done=0, total=0: None,
    )
    assert len(Survey.from_document(answer).images) >= MANY
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    said.write_text(str(int(peak.split()[1]) * 1024))


if __name__ == "__main__":
    main()
