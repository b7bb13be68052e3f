"""Metrics for Prometheus, in a registry of their own.

What is a fact of the service is read when somebody asks, and is the same wherever one asks. What this process did is
counted as it happens. Ages are the times themselves, as Prometheus wants them: `time() - X` is how old, `X - time()`
how long it lasts.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from imagefactory.errors import FactoryError, catalogue
from imagefactory.factory.key_inventory import KeyEntry
from imagefactory.model.plain_text import printable
from signing.errors import SigningError

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MOST_SERIES: Final = 1000  # of one metric
MOST_LABEL: Final = 100  # characters
OTHER: Final = "other"
STEP_SECONDS: Final = (1, 5, 15, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)


@dataclass(frozen=True)
class Shown:
    """A metric as it is documented: its kind, labels, help, and an example of what to ask."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    example: str = ""


QUEUED: Final = Shown(
    "imagefactory_queued_tasks",
    "gauge",
    ("role",),
    "Tasks that wait for a worker of a role.",
    "min_over_time(X[15m]) > 10",
)
JOBS: Final = Shown("imagefactory_jobs", "gauge", ("state",), "Jobs by their state, ended ones among them.")
NEWEST: Final = Shown(
    "imagefactory_newest_release_timestamp_seconds",
    "gauge",
    ("name",),
    "When the newest release of a name was made, in seconds since 1970.",
    "time() - X > 14 * 86400",
)
EXPIRES: Final = Shown(
    "imagefactory_key_expiry_timestamp_seconds",
    "gauge",
    ("purpose", "keyid"),
    "When a key or its certificate expires, in seconds since 1970.",
    "(X - time()) / 86400 < 30",
)
PAUSED: Final = Shown(
    "imagefactory_schedule_paused",
    "gauge",
    ("name",),
    "1 for a schedule that is paused, 0 for one that runs.",
    "X == 1",
)
READABLE: Final = Shown(
    "imagefactory_facts_readable",
    "gauge",
    ("metric",),
    "1 if a metric could be read just now; 0 if not, and then it has no values.",
    "X == 0",
)
SECONDS: Final = Shown(
    "imagefactory_step_duration_seconds",
    "histogram",
    ("step",),
    "How long steps took in this process, whatever came of them.",
    "histogram_quantile(0.9, sum by (le, step) (rate(X_bucket[1d])))",
)
FAILURES: Final = Shown(
    "imagefactory_failures_total",
    "counter",
    ("code",),
    "Tasks that failed in this process, by the code of the error.",
    "increase(X[1h]) > 0",
)
NOTIFICATIONS: Final = Shown(
    "imagefactory_notifications_total",
    "counter",
    ("receiver", "outcome"),
    "Notifications by this process, after its last attempt: sent, unreachable, refused or invalid.",
    'increase(X{outcome!="sent"}[1h]) > 0',
)
ALL: Final = (QUEUED, JOBS, NEWEST, EXPIRES, PAUSED, READABLE, SECONDS, FAILURES, NOTIFICATIONS)


@dataclass(frozen=True)
class Expiry:
    """When a key or its certificate expires, an aware time."""

    purpose: str
    keyid: str
    at: datetime


def expiries_of(entries: Iterable[KeyEntry]) -> list[Expiry]:
    """Those of an inventory of keys that expire."""
    return [Expiry(each.purpose, each.keyid, each.expires) for each in entries if each.expires is not None]


class Facts(Protocol):
    """What the records know; `imagefactory.store.watched.Watched` is one. Each may raise a FactoryError."""

    def queued(self) -> Mapping[str, int]: ...
    def jobs(self) -> Mapping[str, int]: ...
    def newest_releases(self) -> Mapping[str, datetime]: ...


class Metrics:
    """The metrics of one process. Without `facts`, `expiries` or `paused` (schedules and whether each is), those are
    not shown here; `steps` are the names that steps may have."""

    def __init__(
        self,
        steps: Collection[str],
        facts: Facts | None = None,
        expiries: Callable[[], Collection[Expiry]] | None = None,
        paused: Callable[[], Mapping[str, bool]] | None = None,
    ) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._steps = frozenset(steps)
        self._codes = _codes()
        self._seconds = Histogram(
            SECONDS.name, SECONDS.help, SECONDS.labels, registry=self.registry, buckets=STEP_SECONDS
        )
        self._failures = Counter(FAILURES.name, FAILURES.help, FAILURES.labels, registry=self.registry)
        self._told = Counter(NOTIFICATIONS.name, NOTIFICATIONS.help, NOTIFICATIONS.labels, registry=self.registry)
        self.registry.register(_Read(facts, expiries, paused))

    def stepped(self, step: str, seconds: float) -> None:
        """A step has ended, after so long."""
        self._seconds.labels(step if step in self._steps else OTHER).observe(seconds)

    def failed(self, code: str) -> None:
        """A task has failed."""
        self._failures.labels(code if code in self._codes else OTHER).inc()

    def told(self, receiver: str, outcome: str) -> None:
        """Somebody was told of an event, or could not be."""
        self._told.labels(receiver, outcome).inc()

    def page(self) -> bytes:
        """What Prometheus reads, of type CONTENT_TYPE."""
        return generate_latest(self.registry)


class _Read(Collector):
    """Reads facts when somebody asks: what cannot be read is missing, and the others are there."""

    def __init__(
        self,
        facts: Facts | None,
        expiries: Callable[[], Collection[Expiry]] | None,
        paused: Callable[[], Mapping[str, bool]] | None,
    ) -> None:
        self._sources: dict[Shown, Callable[[], Mapping[tuple[str, ...], float]]] = {}
        if facts is not None:
            self._sources[QUEUED] = lambda: _counts(facts.queued())
            self._sources[JOBS] = lambda: _counts(facts.jobs())
            self._sources[NEWEST] = lambda: {(name,): at.timestamp() for name, at in facts.newest_releases().items()}
        if expiries is not None:
            self._sources[EXPIRES] = lambda: {(each.purpose, each.keyid): each.at.timestamp() for each in expiries()}
        if paused is not None:
            self._sources[PAUSED] = lambda: _counts(paused())
        self._one = threading.Lock()  # one reader at a time: who asks often does not make work for the database

    def collect(self) -> Iterator[Metric]:
        readable = _gauge(READABLE)
        with self._one:
            for shown, read in self._sources.items():
                try:
                    values = read()
                except (FactoryError, SigningError):
                    readable.add_metric([shown.name], 0)
                    continue
                readable.add_metric([shown.name], 1)
                family = _gauge(shown)
                for labels, value in list(values.items())[:MOST_SERIES]:
                    family.add_metric([printable(label, MOST_LABEL) for label in labels], value)
                yield family
        yield readable


def _gauge(shown: Shown) -> GaugeMetricFamily:
    return GaugeMetricFamily(shown.name, shown.help, labels=shown.labels)


def _counts(values: Mapping[str, float]) -> Mapping[tuple[str, ...], float]:
    return {(key,): float(value) for key, value in values.items()}


def _codes() -> frozenset[str]:
    """Every code that an error can have."""
    waiting: list[type[SigningError]] = [SigningError]
    found = {kind.code for kind in catalogue()}
    while waiting:
        kind = waiting.pop()
        found.add(kind.code)
        waiting += kind.__subclasses__()
    return frozenset(found)
