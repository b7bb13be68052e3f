"""A Celery that does little of what Celery can."""

import ssl
import threading
from collections.abc import Callable
from pathlib import Path

from celery import Celery
from kombu import Connection, Exchange, Queue
from kombu.transport import pyamqp

from imagefactory.model.broker import BrokerAddress, queue_name
from imagefactory.worker.frames import bounded_frames
from signing.keys import read_secret

CONNECT_WITHIN = 5.0  # seconds, for each address of the broker's host
HEARTBEAT = 30  # seconds; a broker that is silent for twice as long is taken for dead

CONFIGURATION = {
    "accept_content": ["json"],
    "broker_channel_error_retry": False,
    "broker_connection_max_retries": None,
    "broker_connection_retry_on_startup": True,
    "broker_connection_timeout": CONNECT_WITHIN,
    "broker_heartbeat": HEARTBEAT,
    "enable_utc": True,
    "result_backend": None,
    "task_acks_late": False,
    "task_create_missing_queues": False,
    "task_ignore_result": True,
    "task_serializer": "json",
    "worker_cancel_long_running_tasks_on_connection_loss": True,  # of tasks that are acknowledged late: none
    "worker_consumer": "imagefactory.worker.consumer:TaskConsumer",
    "worker_detect_quorum_queues": False,
    "worker_disable_rate_limits": True,
    "worker_enable_prefetch_count_reduction": False,
    "worker_enable_remote_control": False,
    "worker_hijack_root_logger": False,
    "worker_pool": "imagefactory.worker.consumer:Threads",
    "worker_prefetch_multiplier": 1,
    "worker_send_task_events": False,
}


class _Link(Connection):  # type: ignore[misc]
    """A connection, made or not, as logs are to show it."""

    def as_uri(self, *_: object, **__: object) -> str:
        return f"amqp{'s' if self.ssl else ''}://{self.userid}@{self.host}/{self.virtual_host}"


class _AmqpConnection(pyamqp.Connection):  # type: ignore[misc]
    """One that leaves no socket behind when the broker refuses it."""

    def connect(self, callback: Callable[[], object] | None = None) -> None:
        try:
            super().connect(callback)
        except Exception:
            self.collect()
            raise


class _Transport(pyamqp.Transport):  # type: ignore[misc]
    Connection = _AmqpConnection


class App(Celery):  # type: ignore[misc]  # it has no types
    """A Celery that only we know of: nothing in the environment or in another module adds to it."""

    def __init__(self, address: BrokerAddress, password_file: Path) -> None:
        super().__init__(
            "imagefactory",
            loader="celery.loaders.app:AppLoader",
            set_as_current=False,
            fixups=[],
            changes=CONFIGURATION,
        )
        self._address = address
        self._password_file = password_file
        self.slots = Slots(1)
        self.on_tick: Callable[[], None] = lambda: None
        self.failure: Exception | None = None

    def connection_for_read(self, url: str | None = None, heartbeat: float | None = None) -> Connection:  # noqa: ARG002
        return self._connect(heartbeat)

    def connection_for_write(self, url: str | None = None, heartbeat: float | None = None) -> Connection:  # noqa: ARG002
        return self._connect(heartbeat)

    def _connect(self, heartbeat: float | None) -> Connection:
        """One that is not made yet. The password is read whenever it is."""
        where = self._address
        return _Link(
            hostname=where.host,
            port=where.port,
            userid=where.user,
            password=self._password,
            virtual_host=where.vhost,
            ssl={"server_hostname": where.host, "cert_reqs": ssl.CERT_REQUIRED} if where.tls else False,
            transport=_Transport,
            connect_timeout=CONNECT_WITHIN,
            heartbeat=heartbeat or 0,
            transport_options={"confirm_publish": True, "frame_handler": bounded_frames},
        )

    def _password(self) -> str:
        return read_secret(self._password_file).decode("utf-8", "surrogateescape")


class Slots:
    """How many calls may run at once, and how many do."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._busy = 0
        self._changed = threading.Condition()

    @property
    def free(self) -> bool:
        return self._busy < self._jobs

    def take(self) -> None:
        with self._changed:
            self._busy += 1

    def leave(self) -> None:
        with self._changed:
            self._busy -= 1
            self._changed.notify_all()

    def wait(self, seconds: float) -> int:
        """Until no call runs. Returns how many do after that time."""
        with self._changed:
            self._changed.wait_for(lambda: self._busy == 0, seconds)
            return self._busy


def role_queue(role: str) -> Queue:
    """The queue of a role, with an exchange of its own: permissions to send are by exchange."""
    name = queue_name(role)
    return Queue(name, Exchange(name, "direct", durable=True), name, durable=True)
