"""The broker: send, serve."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import amqp
from amqp import exceptions as refusals
from celery.worker import WorkController, state
from kombu.exceptions import KombuError

from imagefactory.errors.service import BrokerRefused, BrokerUnreachable
from imagefactory.model.broker import ROLES, BrokerAddress
from imagefactory.tools.process import printable
from imagefactory.worker.app import App, Slots, role_queue
from imagefactory.worker.message import TASK, TASK_ID

CONFIRM_WITHIN = 10.0  # seconds in which the broker says that it has a message

# What another try would not change.
NO = (refusals.IrrecoverableChannelError, refusals.NotAllowed, refusals.MessageNacked)


class Broker:
    """The broker as one account sees it. Close it, or use it in a `with`."""

    def __init__(self, address: BrokerAddress, password_file: Path) -> None:
        self._address = address
        self._app = App(address, password_file)

    def __enter__(self) -> "Broker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._app.close()

    def check(self) -> None:
        """Connect once. Raises BrokerUnreachable, BrokerRefused, and what reading the password raises."""
        with self._translated(), self._app.connection_for_write() as connection:
            connection.connect()

    def send(self, role: str, task_ids: Sequence[str]) -> None:
        """Tell the workers of `role` that there are tasks for them; the broker has confirmed each when this returns.

        The queue must be there: the first worker of a role makes it. Raises as check().
        """
        if role not in ROLES or not all(map(TASK_ID.fullmatch, task_ids)):
            raise ValueError(f"no message to {role!r}")
        queue = role_queue(role)
        with self._translated(), self._app.producer_or_acquire() as producer:
            for task_id in task_ids:
                self._app.send_task(
                    TASK,
                    [task_id],
                    producer=producer,
                    queue=queue,
                    exchange=queue.exchange.name,
                    routing_key=queue.routing_key,
                    declare=[],
                    delivery_mode="transient",  # not on the broker's disk: what it loses is sent again, see the beat
                    timeout=CONFIRM_WITHIN,
                    confirm_timeout=CONFIRM_WITHIN,
                    retry_policy={"max_retries": 1, "interval_start": 0},  # a connection that was idle may be dead
                )

    def serve(
        self,
        role: str,
        handle: Callable[[str], None],
        *,
        jobs: int,
        stop_within: float,
        on_stop: Callable[[], None] = lambda: None,
        on_tick: Callable[[], None] = lambda: None,
    ) -> int:
        """Call `handle` with the id of each task that we are told of, in `jobs` threads, until SIGTERM or SIGINT.

        A message is acknowledged before `handle` sees it. Once told to stop, we take nothing more, call `on_stop`, and
        wait for `stop_within` seconds; `on_tick` is called every second as long as all is well here. Returns how many
        calls did not end by then: Python waits for them at its exit, so who gets any ends the process by os._exit.
        Called in the main thread, once in a process.

        Raises as check() when we begin, and BrokerRefused later; a broker that goes is waited for.
        """
        self.check()
        slots = self._app.slots = Slots(jobs)
        self._app.on_tick = on_tick
        self._app.conf.task_queues = (role_queue(role),)

        def run(task_id: str) -> None:
            try:
                handle(task_id)
            finally:
                slots.leave()
                worker.hub.call_soon(worker.consumer.look)

        self._app.task(name=TASK, typing=False)(run)
        worker = WorkController(
            app=self._app, concurrency=jobs, without_mingle=True, without_gossip=True, without_heartbeat=True
        )
        with _stopped_by_signals():
            worker.start()
        on_stop()
        left = slots.wait(stop_within)
        if self._app.failure is not None:
            with self._translated():
                raise self._app.failure
        return left

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raises BrokerRefused, BrokerUnreachable for what the libraries raise."""
        try:
            yield
        except (KombuError, amqp.AMQPError, OSError) as error:
            why = error.__cause__ if isinstance(error, KombuError) and error.__cause__ is not None else error
            kind = BrokerRefused if isinstance(why, NO) else BrokerUnreachable
            said = "".join(printable(str(why).encode(), 1)) or type(why).__name__
            raise kind(f"{self._address}: {said}") from None


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """SIGTERM and SIGINT ask Celery's loop to end, however often they come."""
    state.should_stop = None

    def stop(*_: object) -> None:
        state.should_stop = 0

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
