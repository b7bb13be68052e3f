"""What Celery's worker does with a message."""

import logging
from collections.abc import Callable

from celery.concurrency.thread import TaskPool
from celery.exceptions import WorkerShutdown
from celery.worker.consumer import Consumer
from kombu.message import Message

from imagefactory.worker.message import Foreign, normalise

PATIENCE = 1.0  # seconds that a worker with full hands keeps a message before another one may have it
LOOK = 1.0  # seconds between two looks at whether we shall stop

_log = logging.getLogger(__name__)


class TaskConsumer(Consumer):  # type: ignore[misc]  # it has no types
    """Takes a message when there is a thread for it, and no other.

    One that comes when all are busy waits for a moment; then others may have it, and we ask for none until there is a
    thread. Otherwise a message could wait for hours behind a build while another host has nothing to do. All of this
    happens in one thread, that of Celery's event loop.
    """

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **{**options, "initial_prefetch_count": 1})
        self._accept: Callable[[Message], None] = lambda _: None
        self._held: Message | None = None
        self._pausing = False

    def start(self) -> None:
        try:
            super().start()
        except Exception as error:  # Celery would end, too, but with a traceback in the log, and as if all were well
            self.app.failure = error
            raise WorkerShutdown(1) from None

    def create_task_handler(self) -> Callable[[Message], None]:
        """Called for each new connection."""
        self._accept = super().create_task_handler()
        self._held, self._pausing = None, False
        return self._on_message

    def register_with_event_loop(self, hub: object) -> None:
        super().register_with_event_loop(hub)
        self.timer.call_repeatedly(LOOK, self._tick)  # when something happens the loop looks whether it shall stop

    def _tick(self) -> None:
        self.app.on_tick()

    def look(self) -> None:
        """A thread may have become free."""
        if not self.app.slots.free:
            return
        if self._held is not None:
            held, self._held = self._held, None
            self._take(held)
        elif self._pausing:
            self._pausing = False
            self.task_consumer.consume()

    def _on_message(self, message: Message) -> None:
        try:
            normalise(message)
        except Foreign as why:
            _log.warning("dropped a message on %s that is not ours: %s", self._queue, why)
            message.reject()
            return
        if self.app.slots.free:
            self._take(message)
        else:
            self._held = message
            self.timer.call_after(PATIENCE, self._put_back, (message,))

    def _take(self, message: Message) -> None:
        self.app.slots.take()
        self._accept(message)

    def _put_back(self, message: Message) -> None:
        held = self._held
        if held is None or held is not message:
            return
        self._held, self._pausing = None, True
        self.task_consumer.cancel()
        held.requeue()

    @property
    def _queue(self) -> str:
        return str(self.app.conf.task_queues[0].name)


class Threads(TaskPool):  # type: ignore[misc]  # it has no types
    """Where tasks run. At the end whoever serves waits for them, who knows for how long."""

    def on_stop(self) -> None:
        self.executor.shutdown(wait=False)
