"""A bad network between us and a real Glance: afterwards there is one image or none, and the next run finishes."""

import gc
import json
import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from imagefactory.errors import (
    CloudAnswerInvalid,
    CloudAuthFailed,
    CloudQuota,
    CloudUnreachable,
    FactoryError,
    GlanceRefusedSignature,
    ImageIdBurnt,
    ImageReplaced,
    UploadFailed,
)
from imagefactory.steps import glance_publish
from imagefactory.tools.openstack.glance import Glance
from imagefactory.tools.openstack.session import Cloud
from signing.errors import DigestMismatch
from tests.fakes.faults import (
    Action,
    CutDownload,
    CutUpload,
    DeadKeepAlive,
    Fault,
    Flip,
    LoseAnswer,
    Slow,
    Status,
)
from tests.fakes.proxy import FaultProxy
from tests.integration.glance.conftest import QUICK, Shop

UPLOAD, CREATE, SHOW, DATA = "/file$", "/images$", "/images/[^/]+$", "/file$"
ALWAYS = 1000
Network = Callable[..., FaultProxy]


@pytest.fixture(autouse=True)
def many_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image is small, and so are its pieces."""
    monkeypatch.setattr(glance_publish, "CHUNK", 4096)


def publish_until_done(shop: Shop) -> int:
    """Publish as the factory does, which takes another id when one is burnt. How often that took."""
    order = shop.order()
    for attempt in range(1, 4):
        try:
            made = shop.publish(order)
        except ImageIdBurnt:
            assert len(shop.images()) <= 1
            order = shop.order()
        else:
            assert shop.only_image().id == made.id
            assert (shop.only_image().status, shop.only_image().hidden) == ("active", False)
            return attempt
    raise AssertionError("every id was burnt")


@pytest.mark.parametrize(
    "faults",
    [
        [Fault("PUT", UPLOAD, CutUpload(0))],
        [Fault("PUT", UPLOAD, CutUpload(1))],
        [Fault("PUT", UPLOAD, CutUpload(70_000))],
        [Fault("PUT", UPLOAD, CutUpload(4096), times=3)],
        [Fault("PUT", UPLOAD, LoseAnswer())],
        [Fault("POST", CREATE, LoseAnswer())],
        [Fault("POST", CREATE, LoseAnswer(), times=ALWAYS)],
        [Fault("POST", CREATE, Status(503))],
        [Fault("PUT", UPLOAD, Status(409))],
        [Fault("PATCH", SHOW, LoseAnswer())],
        [Fault("GET", SHOW, LoseAnswer())],
        [Fault("GET", SHOW, CutDownload(10))],
        [Fault("GET", SHOW, DeadKeepAlive())],
        [Fault("POST", CREATE, DeadKeepAlive())],
        [Fault("PUT", UPLOAD, DeadKeepAlive())],
        [Fault("PUT", UPLOAD, Status(429, {"Retry-After": "1"}))],
        [Fault("POST", CREATE, Status(429, {"Retry-After": "0"}), times=2)],
        [Fault("PUT", UPLOAD, Status(429, {"Retry-After": "0"}, after_body=False))],
        [Fault("GET", SHOW, Status(502), times=2)],
        [Fault("PUT", UPLOAD, Status(401))],
        [Fault("PATCH", SHOW, Status(401))],
        [Fault("PUT", UPLOAD, Slow(400_000, "upload"))],
        [Fault("PUT", UPLOAD, CutUpload(5000)), Fault("PUT", UPLOAD, LoseAnswer()), Fault("PATCH", SHOW, Status(429))],
    ],
    ids=str,
)
def test_it_is_done_nevertheless(shop: Shop, network: Network, faults: Sequence[Fault]) -> None:
    proxy = network(*faults)
    # Who comes back before Glance has cleaned up after a cut may find that it burnt the id.
    assert publish_until_done(shop) <= (2 if any(isinstance(fault.action, CutUpload) for fault in faults) else 1)
    assert [fault for fault in proxy.unused if fault.times < ALWAYS] == []


def test_what_cannot_be_finished_is_removed_though_glance_fails_once(
    shop: Shop, network: Network, tmp_path: Path
) -> None:
    (tmp_path / "changed").write_bytes(shop.file.read_bytes()[:-1] + b"x")
    proxy = network(Fault("DELETE", SHOW, Status(500)))
    with pytest.raises(DigestMismatch):
        shop.publish(shop.order(file=tmp_path / "changed"))
    assert (shop.images(), proxy.unused) == ([], [])


@pytest.mark.parametrize(
    "fault",
    [Fault("PUT", UPLOAD, Status(500)), Fault("PUT", UPLOAD, Status(404))],
    ids=str,
)
def test_another_id_is_taken(shop: Shop, network: Network, fault: Fault) -> None:
    proxy = network(fault)
    assert publish_until_done(shop) == 2
    assert proxy.unused == []


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("PUT", UPLOAD, CutUpload(4096), times=ALWAYS), UploadFailed),
        (Fault("PUT", UPLOAD, Status(503), times=ALWAYS), UploadFailed),
        (Fault("PUT", UPLOAD, Status(413)), CloudQuota),
        (Fault("POST", CREATE, Status(413)), CloudQuota),
        (Fault("PUT", UPLOAD, Status(429, {"Retry-After": "86400"})), UploadFailed),
        (Fault("POST", CREATE, Status(500), times=ALWAYS), CloudUnreachable),
        (Fault("PATCH", SHOW, Status(500), times=ALWAYS), CloudUnreachable),
        (Fault("GET", SHOW, Status(401), times=ALWAYS), CloudAuthFailed),
        (Fault("GET", "/images", Status(200, {}, b"{"), times=ALWAYS), CloudAnswerInvalid),
        (Fault("GET", SHOW, Status(200, {}, b"[" * 100_000), times=ALWAYS), CloudAnswerInvalid),
        (Fault("GET", SHOW, Status(302, {"Location": "http://127.0.0.1:9/"}), times=ALWAYS), CloudAnswerInvalid),
    ],
    ids=str,
)
def test_it_fails_with_a_code_and_the_next_run_finishes(
    shop: Shop, network: Network, fault: Fault, error: type[FactoryError], monkeypatch: pytest.MonkeyPatch
) -> None:
    network(fault)
    order = shop.order()
    with pytest.raises(error) as failed:
        shop.publish(order)
    assert failed.value.code
    assert len(shop.images()) <= 1
    assert all(image.hidden for image in shop.images())
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(shop.cloud.clouds_yaml))
    try:
        made = shop.publish(order)
    except ImageIdBurnt:
        made = shop.publish(shop.order())
    assert shop.only_image().id == made.id


@pytest.mark.parametrize("link", ["http://127.0.0.1:9/v2/images?x", "//127.0.0.1:9/v2/images", "/v3/secrets", 7])
def test_the_token_goes_nowhere_else(shop: Shop, network: Network, link: object) -> None:
    page = json.dumps({"images": [{"id": shop.order().image_id}], "next": link}).encode()
    network(Fault("GET", "/images[?]", Status(200, {"Content-Type": "application/json"}, page)))
    with pytest.raises(CloudAnswerInvalid, match="somewhere else"):
        shop.publish(shop.order())


def test_an_answer_about_another_image(shop: Shop, network: Network) -> None:
    page = json.dumps({"id": shop.order().image_id, "status": "active"}).encode()
    network(Fault("GET", SHOW, Status(200, {"Content-Type": "application/json"}, page)))
    with pytest.raises(CloudAnswerInvalid, match="to a question about"):
        shop.publish(shop.order())


def test_what_is_sent_in_which_order(shop: Shop, network: Network) -> None:
    proxy = network()
    shop.publish(shop.order(deep=True))
    seen = [(each.method, each.path.rpartition("/")[2]) for each in proxy.exchanges]
    create, upload = seen.index(("POST", "images")), seen.index(("PUT", "file"))
    back = seen.index(("GET", "file"))
    (reveal,) = (number for number, (method, _) in enumerate(seen) if method == "PATCH")
    assert create < upload < back < reveal


def test_a_byte_that_arrives_wrong_is_refused_by_glance_itself(shop: Shop, network: Network) -> None:
    network(Fault("PUT", UPLOAD, Flip(5000)))
    with pytest.raises(GlanceRefusedSignature):
        shop.publish(shop.order())
    assert shop.images() == []


def test_without_barbican_we_see_a_byte_that_arrived_wrong(
    shop: Shop, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = network(Fault("PUT", UPLOAD, Flip(5000)))
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(shop.cloud.with_image_endpoint(proxy.url, "demo-plain")))
    with pytest.raises(ImageReplaced):
        shop.publish(shop.order(), "demo-plain")
    assert shop.images() == []


def test_a_byte_that_comes_back_wrong(shop: Shop, network: Network) -> None:
    network(Fault("GET", DATA, Flip(5000, "download")))
    with pytest.raises(ImageReplaced):
        shop.publish(shop.order(deep=True))
    assert shop.images() == []


def test_reading_back_is_begun_again(shop: Shop, network: Network) -> None:
    proxy = network(Fault("GET", DATA, CutDownload(9000), times=2))
    assert "every byte was read back" in shop.publish(shop.order(deep=True)).facts
    assert proxy.unused == []


def test_bandwidth_is_a_limit(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(glance_publish, "time", SimpleNamespace(sleep=slept.append, monotonic=lambda: 0.0))
    size = shop.file.stat().st_size
    shop.publish(shop.order(bandwidth=size // 10))
    assert max(slept) == pytest.approx(10, abs=0.01)
    assert slept == sorted(slept)


def test_a_cut_upload_leaves_nothing_to_the_garbage_collector(shop: Shop, network: Network) -> None:
    """It comes in any thread, one that is just ending included: waiting for a hasher there is waiting for ever."""
    network(Fault("PUT", UPLOAD, CutUpload(70_000), times=ALWAYS))
    gc.collect()
    gc.disable()
    try:
        with pytest.raises((UploadFailed, ImageIdBurnt)):
            shop.publish(shop.order())
        assert [thread.name for thread in threading.enumerate() if "ThreadPoolExecutor" in thread.name] == []
    finally:
        gc.enable()


# -- for a long time ---------------------------------------------------------------------------------------------------

REQUESTS = (("PUT", UPLOAD), ("POST", CREATE), ("GET", SHOW), ("PATCH", SHOW), ("GET", "/images[?]"))


def any_fault(dice: random.Random, size: int) -> Fault:
    method, path = dice.choice(REQUESTS)
    actions: list[Action] = [
        CutUpload(dice.randrange(size)),
        CutDownload(dice.randrange(500)),
        LoseAnswer(),
        DeadKeepAlive(),
        Status(dice.choice([401, 409, 429, 500, 502, 503]), {"Retry-After": "0"}, after_body=dice.random() < 0.5),
    ]
    return Fault(method, path, dice.choice(actions), times=dice.randint(1, 3), skip=dice.randint(0, 2))


@pytest.mark.soak
def test_a_hundred_bad_days(shop: Shop, network: Network, dice: random.Random) -> None:
    """However a run ends, there is one image or none, nobody sees it before it is whole, and a later run finishes."""
    size = shop.file.stat().st_size
    for _ in range(100):
        network(*(any_fault(dice, size) for _ in range(dice.randint(1, 3))))
        order = shop.order()
        for _ in range(20):
            try:
                made = shop.publish(order)
            except FactoryError as error:
                images = shop.images()
                assert len(images) <= 1
                assert all(image.hidden or image.status == "active" for image in images)
                if isinstance(error, ImageIdBurnt):
                    order = shop.order()
            else:
                break
        else:
            raise AssertionError("twenty runs did not finish")
        image = shop.only_image()
        assert (image.id, image.status, image.hidden) == (made.id, "active", False)
        Glance(Cloud("demo-admin", QUICK)).delete(image.id)
