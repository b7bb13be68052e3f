"""The processes of the service: a worker of one role, and a beat. Each says in lines of JSON what it does."""

import signal
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TextIO

from imagefactory.errors import RemoteError, UsageError
from imagefactory.factory.key_inventory import inventory
from imagefactory.model.job import KEYS, Role
from imagefactory.model.notify import Notify
from imagefactory.service import beat, custody, logs
from imagefactory.service.desk import LEASE, STEP, Desk
from imagefactory.service.health import Check, Pulse, Watch, serving, writable
from imagefactory.service.host_clock import HostClock
from imagefactory.service.logs import Redactor, logger
from imagefactory.service.metrics import Expiry, Metrics, expiries_of
from imagefactory.service.notify import Notifier
from imagefactory.service.step import STEPS
from imagefactory.settings import Settings
from imagefactory.store.job_rows import Call
from imagefactory.store.jobs import Jobs
from imagefactory.store.records import Records
from imagefactory.store.schedules import Schedules
from imagefactory.store.watched import Watched
from imagefactory.tools.notify_file import load_notify
from imagefactory.worker.broker import Broker
from signing.keys import KeyRing, read_secret
from signing.trust import find_trust, load_trust

STOP_MARGIN: Final = 20.0  # seconds that it takes to hand back what runs
BEAT: Final = "beat"


@dataclass(frozen=True)
class Office:
    """What every process of the service has: records, a broker, and somebody who watches it."""

    settings: Settings
    records: Records
    broker: Broker
    metrics: Metrics
    pulse: Pulse
    clock: HostClock

    @property
    def jobs(self) -> Jobs:
        return Jobs(self.records)

    def tell(self, calls: Sequence[Call]) -> None:
        """Send messages. One that cannot be sent is sent by a beat later: what is to be done is in the records."""
        for role in dict.fromkeys(call.role for call in calls):
            try:
                self.broker.send(role, [call.task_id for call in calls if call.role is role])
            except RemoteError as error:
                logger().warning("a beat will tell of this", role=role, code=error.code, why=error.message)


def work(
    settings: Settings,
    role: Role,
    stream: TextIO,
    *,
    jobs: int,
    grace: float,
    listen: tuple[str, int] | None,
    step: Sequence[str] = STEP,
    lease: float = LEASE,
) -> int:
    """Do what there is for a role, `jobs` at once, until SIGTERM or SIGINT; what does not end within `grace` seconds
    then is handed back. Returns how many steps did not end even so.

    Raises Overprivileged, KeysMissing, UsageError, WatchUnusable, HostClockOff, errors of the database and of the
    broker.
    """
    custody.require(role, settings)
    if role in {Role.BUILD, Role.TEST} and not settings.recipes:
        raise UsageError(
            "IMAGEFACTORY_RECIPES is not set",
            advice="name the folders of recipes that may be built here, separated by ':'; nobody else may write there",
        )
    with _office(settings, role, stream, listen) as office:
        settings.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = settings.logs / f"{role}-worker.log"
        desk = Desk(office.jobs, role, office.tell, settings.environ, log, step, lease, office.metrics, office.clock)
        late = threading.Timer(grace, desk.hand_back)
        late.daemon = True

        def stop() -> None:
            logger().info("stopping", within=grace)
            desk.stop()
            late.start()

        logger().info("ready", jobs=jobs)
        left = office.broker.serve(
            role, desk.run, jobs=jobs, stop_within=grace + STOP_MARGIN, on_stop=stop, on_tick=office.pulse.beat
        )
        late.cancel()
    return left


def keep(settings: Settings, stream: TextIO, *, listen: tuple[str, int] | None, every: float = beat.EVERY) -> None:
    """Be a beat, until SIGTERM or SIGINT. Raises as work()."""
    with _office(settings, BEAT, stream, listen) as office:
        stop = threading.Event()
        office.broker.check()
        config = load_notify(settings.notify) if settings.notify else Notify()
        own = beat.Beat(office.records, office.tell, Notifier(config, office.metrics.told), socket.gethostname())
        notices = threading.Thread(target=beat.run_notices, args=(own, stop), daemon=True)
        with _stopped_by_signals(stop):
            notices.start()
            logger().info("ready")
            beat.run(own, stop, office.pulse.beat, every)


@contextmanager
def _office(settings: Settings, who: str, stream: TextIO, listen: tuple[str, int] | None) -> Iterator[Office]:
    if settings.broker is None or settings.broker_password_file is None:
        raise UsageError(
            "IMAGEFACTORY_BROKER or IMAGEFACTORY_BROKER_PASSWORD_FILE is not set",
            advice="set them to amqp://USER@HOST:PORT/VHOST and to a file with its password",
        )
    password = read_secret(settings.broker_password_file).decode("utf-8", "replace")
    logs.set_up(stream, Redactor([password]), role=who, host=socket.gethostname())
    with ExitStack() as stack:
        records = Records(settings.database)
        stack.callback(records.close)
        broker = stack.enter_context(Broker(settings.broker, settings.broker_password_file))
        watched = Watched(records)
        schedules = Schedules(records)
        metrics, pulse = Metrics(STEPS, watched, _expiries(settings, who), schedules.paused), Pulse()
        clock = HostClock()
        clock.ask(records.now)
        clock.require()
        if listen is not None:
            checks = [
                Check("database", partial(clock.ask, records.now)),
                Check("clock", clock.require),
                Check("broker", broker.check),
                *_stores(settings),
            ]
            port = stack.enter_context(serving(Watch(pulse, checks, metrics), *listen))
            logger().info("listening", host=listen[0], port=port)
        yield Office(settings, records, broker, metrics, pulse, clock)


def _expiries(settings: Settings, who: str) -> Callable[[], Collection[Expiry]] | None:
    """When keys expire, of those who have any."""
    if who not in KEYS or not KEYS[Role(who)]:
        return None
    return lambda: expiries_of(inventory(load_trust(find_trust(settings.trust_files())), KeyRing(settings.keys)))


def _stores(settings: Settings) -> list[Check]:
    return [writable(settings.storage)] if isinstance(settings.storage, Path) else []


@contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
