"""What Prometheus reads, read by its own parser."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event

from imagefactory.errors.service import DatabaseUnreachable
from imagefactory.factory.key_inventory import KeyEntry
from imagefactory.model.job import JobOrder, NewTask, Role
from imagefactory.service import metrics
from imagefactory.service.metrics import Expiry, Metrics, expiries_of
from imagefactory.store.jobs import Jobs
from imagefactory.store.records import Records
from imagefactory.store.watched import Watched
from tests.fakes.places import Shop

AT = datetime(2026, 11, 1, tzinfo=UTC)


class Known:
    """Facts that are given."""

    def __init__(self, gone: bool = False) -> None:
        self.gone = gone

    def queued(self) -> Mapping[str, int]:
        if self.gone:
            raise DatabaseUnreachable("gone")
        return {"sign": 3, "build": 0}

    def jobs(self) -> Mapping[str, int]:
        return {"queued": 2}

    def newest_releases(self) -> Mapping[str, datetime]:
        return {"soe": AT}


def read(measured: Metrics) -> dict[str, dict[tuple[str, ...], float]]:
    """Samples by name and labels, in the order of the labels' names."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(measured.page().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(value for _, value in sorted(sample.labels.items()))] = sample.value
    return found


def whole() -> Metrics:
    expiries = [Expiry("glance", "ab", AT)]
    return Metrics(["sign"], Known(), lambda: expiries, lambda: {"weekly": True, "daily": False})


def test_shows_facts() -> None:
    found = read(whole())
    assert found["imagefactory_queued_tasks"] == {("sign",): 3, ("build",): 0}
    assert found["imagefactory_jobs"] == {("queued",): 2}
    assert found["imagefactory_newest_release_timestamp_seconds"] == {("soe",): AT.timestamp()}
    assert found["imagefactory_key_expiry_timestamp_seconds"] == {("ab", "glance"): AT.timestamp()}
    assert found["imagefactory_schedule_paused"] == {("weekly",): 1, ("daily",): 0}
    assert set(found["imagefactory_facts_readable"].values()) == {1}


def test_counts_what_happens_here() -> None:
    measured = whole()
    measured.stepped("sign", 2.0)
    measured.stepped("sign", 10**9)
    measured.failed("database-unreachable")
    measured.failed("key-missing")
    measured.told("chat", "sent")
    found = read(measured)
    assert found["imagefactory_step_duration_seconds_count"] == {("sign",): 2}
    assert found["imagefactory_step_duration_seconds_bucket"]["5.0", "sign"] == 1
    assert found["imagefactory_failures_total"]["database-unreachable",] == 1
    assert found["imagefactory_notifications_total"] == {("sent", "chat"): 1}


def test_what_nobody_knows_is_other_however_often() -> None:
    measured = whole()
    for number in range(50):
        measured.stepped(f"step{number}", 1)
        measured.failed(f"code{number}")
    found = read(measured)
    assert found["imagefactory_failures_total"] == {("other",): 50}
    assert found["imagefactory_step_duration_seconds_count"] == {("other",): 50}


def test_one_that_cannot_be_read_does_not_take_the_others_along() -> None:
    found = read(Metrics([], Known(gone=True)))
    assert "imagefactory_queued_tasks" not in found
    assert found["imagefactory_jobs"] == {("queued",): 2}
    assert found["imagefactory_facts_readable"]["imagefactory_queued_tasks",] == 0


def test_two_processes_in_one_do_not_meet() -> None:
    first, second = whole(), whole()
    first.failed("usage")
    assert "imagefactory_failures_total" not in read(second)


def test_a_metric_has_a_bounded_number_of_series_and_labels_that_are_text() -> None:
    many = {f"\x1b{number}" + "x" * 500: False for number in range(5000)}
    found = read(Metrics([], paused=lambda: many))["imagefactory_schedule_paused"]
    assert len(found) == metrics.MOST_SERIES
    assert all(len(label) <= metrics.MOST_LABEL and label.isprintable() for (label,) in found)


def test_every_metric_is_documented_as_it_is() -> None:
    measured = whole()
    measured.stepped("sign", 1)
    measured.failed("usage")
    measured.told("chat", "sent")
    families = {family.name: family for family in text_string_to_metric_families(measured.page().decode())}
    documented = {shown.name.removesuffix("_total"): shown for shown in metrics.ALL}
    # The parser has counters without _total, the page also says when they began.
    assert {name for name in families if not name.endswith("_created")} == documented.keys()
    for name, shown in documented.items():
        assert (families[name].documentation, families[name].type) == (shown.help, shown.kind)
        labels = set(families[name].samples[0].labels) - {"le"}
        assert labels == set(shown.labels)


@pytest.mark.parametrize("shown", metrics.ALL, ids=lambda shown: shown.name)
def test_names_are_as_prometheus_wants_them(shown: metrics.Shown) -> None:
    assert re.fullmatch(r"imagefactory_[a-z]+(_[a-z]+)*", shown.name)
    assert shown.name.endswith("_total") == (shown.kind == "counter")
    assert not {"minutes", "hours", "days", "milliseconds"} & set(shown.name.split("_"))
    assert shown.help.endswith(".")


def test_keys_that_do_not_expire_are_not_shown() -> None:
    lasting = KeyEntry("release", "aa", None, None, True, development=False)
    ending = KeyEntry("glance", "bb", None, None, True, development=False, expires=AT)
    assert expiries_of([lasting, ending]) == [Expiry("glance", "bb", AT)]


def test_records_are_asked_once_for_each(records: Records, shop: Shop) -> None:
    asked: list[str] = []

    def count(*said: Any) -> None:  # noqa: ANN401 - SQLAlchemy's
        asked.append(said[2])

    jobs = Jobs(records)
    order = JobOrder("soe", "/r.yaml", "a" * 64, "wanted", "anne")
    jobs.request(order, NewTask(Role.BUILD, "rootfs"))
    engine = records._database.engine
    event.listen(engine, "before_cursor_execute", count)
    found = read(Metrics([], Watched(records)))
    event.remove(engine, "before_cursor_execute", count)
    assert len([each for each in asked if each.lstrip().upper().startswith("SELECT")]) == 3
    assert found["imagefactory_queued_tasks"]["build",] == 1
    assert found["imagefactory_jobs"]["queued",] == 1
    assert found["imagefactory_jobs"]["failed",] == 0
    assert "imagefactory_newest_release_timestamp_seconds" not in found
    shop.release()
    assert len(Watched(records).newest_releases()) == 1
