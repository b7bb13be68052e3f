"""Messages between roles, through a real RabbitMQ, to workers in processes of their own."""

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import amqp
import pytest

from imagefactory.errors.service import BrokerRefused, BrokerUnreachable
from imagefactory.model.broker import BrokerAddress, parse_broker
from imagefactory.worker.broker import Broker
from imagefactory.worker.message import TASK
from signing.errors import SigningError
from tests.servers.rabbitmq import ADMIN, HOST
from tests.servers.rabbitmq_fixtures import VirtualHost

QUEUE = "imagefactory.build"
JSON = {"content_type": "application/json", "content_encoding": "utf-8"}
NOTHING = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


@dataclass
class Worker:
    process: "subprocess.Popen[str]"
    done: Path
    log: Path

    def ids(self) -> list[str]:
        return self.done.read_text().split()

    def lines(self, pattern: str) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if re.search(pattern, line)]

    def wait_for(self, count: int, seconds: float = 30) -> list[str]:
        """The ids, once there are so many."""
        until(lambda: len(self.ids()) >= count, seconds)
        return self.ids()


Work = Callable[..., Worker]


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.write_text(f"{ADMIN}\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def broker(vhost: VirtualHost, password: Path) -> Iterator[Broker]:
    with Broker(parse_broker(vhost.url()), password) as made:
        yield made


@pytest.fixture
def work(vhost: VirtualHost, password: Path, tmp_path: Path) -> Iterator[Work]:
    """Start a worker that takes messages when this returns."""
    with ExitStack() as stack:

        def start(name: str = "one", seconds: float = 0, jobs: int = 1, stop: float = 5) -> Worker:
            worker = Worker(None, tmp_path / f"{name}.done", tmp_path / f"{name}.log")  # type: ignore[arg-type]
            worker.done.touch()
            before = consumers(vhost)
            arguments = [vhost.url(), str(password), "build", str(worker.done), str(seconds), str(jobs), str(stop)]
            with worker.log.open("w") as log:
                worker.process = stack.enter_context(
                    subprocess.Popen(
                        [sys.executable, "-m", "tests.fakes.worker", *arguments],
                        stdout=subprocess.PIPE,
                        stderr=log,
                        text=True,
                    )
                )
            stack.callback(worker.process.kill)
            until(lambda: consumers(vhost) > before or worker.process.poll() is not None)
            assert worker.process.poll() is None, worker.log.read_text()
            return worker

        yield start


def consumers(vhost: VirtualHost) -> int:
    said = vhost.broker.ctl("list_queues", "--vhost", vhost.name, "--formatter", "json", "consumers")
    return sum(queue["consumers"] for queue in json.loads(said))


def until(true: Callable[[], bool], seconds: float = 30, what: str = "it") -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what} did not come to be"
        time.sleep(0.05)


def new_ids(count: int) -> list[str]:
    return [uuid.uuid4().hex for _ in range(count)]


@contextmanager
def channel(vhost: VirtualHost) -> Iterator[amqp.Channel]:
    """As somebody who may do everything."""
    address = f"{HOST}:{vhost.broker.ports['amqp']}"
    connection = amqp.Connection(address, ADMIN, ADMIN, virtual_host=vhost.name, confirm_publish=True)
    with connection, connection.channel() as opened:
        yield opened


def message(task_id: str, **properties: object) -> amqp.Message:
    """As Celery makes it, by hand."""
    headers = {"task": TASK, "id": task_id}
    return amqp.Message(body([task_id], {}, NOTHING), **{**JSON, "application_headers": headers, **properties})


def test_every_message_arrives_once(broker: Broker, work: Work, vhost: VirtualHost) -> None:
    worker, ids = work(jobs=4), new_ids(200)
    broker.send("build", ids)
    assert sorted(worker.wait_for(200)) == sorted(ids)
    assert vhost.queues() == {QUEUE: 0}


def test_nothing_but_the_queue_is_there(work: Work, vhost: VirtualHost) -> None:
    """No mailbox for remote control, no events, no results."""
    work()
    exchanges = json.loads(vhost.broker.api("GET", "exchanges", vhost.name))
    assert {each["name"] for each in exchanges if not each["name"].startswith("amq.")} == {"", QUEUE}
    assert set(vhost.queues()) == {QUEUE}


def nested(depth: int) -> dict[str, object]:
    table: dict[str, object] = {}
    for _ in range(depth):
        table = {"": table}
    return table


def body(*parts: object) -> bytes:
    return json.dumps(parts).encode()


ONE = "0123456789abcdef" * 2
OURS: dict[str, object] = {"task": TASK, "id": ONE}
FOREIGN = {
    "renamed": message(ONE, application_headers={**OURS, "task": "imagefactory.sign"}),
    "a task of Celery's": message(ONE, application_headers={**OURS, "task": "celery.chord_unlock"}),
    "no task": message(ONE, application_headers={}),
    "no headers": amqp.Message(body([ONE], {}, NOTHING), **JSON),
    "the task is a table": message(ONE, application_headers={**OURS, "task": {"a": "b"}}),
    "the old protocol": amqp.Message(
        json.dumps({"task": TASK, "id": ONE, "args": [ONE], "kwargs": {}}).encode(), **JSON
    ),
    "pickle": message(ONE, content_type="application/x-python-serialize", content_encoding="binary"),
    "yaml": message(ONE, content_type="application/x-yaml"),
    "text": message(ONE, content_type="text/plain"),
    "another encoding": message(ONE, content_encoding="utf-16"),
    "a codec that unpacks": message(ONE, content_encoding="zip"),
    "no type": amqp.Message(body([ONE], {}, NOTHING), application_headers=OURS),
    "no JSON": amqp.Message("{", **JSON, application_headers=OURS),
    "not even text": amqp.Message(b"\xff\xfe\xfd", **JSON, application_headers=OURS),
    "empty": amqp.Message("", **JSON, application_headers=OURS),
    "deep": amqp.Message("[" * 1000, **JSON, application_headers=OURS),
    "a number": amqp.Message("1e999", **JSON, application_headers=OURS),
    "no arguments": amqp.Message(body([], {}, NOTHING), **JSON, application_headers=OURS),
    "two arguments": amqp.Message(body([ONE, ONE], {}, NOTHING), **JSON, application_headers=OURS),
    "keywords": amqp.Message(body([ONE], {"role": "sign"}, NOTHING), **JSON, application_headers=OURS),
    "an object for arguments": amqp.Message(body({ONE: 1}, {}, NOTHING), **JSON, application_headers=OURS),
    "a string for arguments": amqp.Message(body("a", {}, NOTHING), **JSON, application_headers=OURS),
    "no id": amqp.Message(body(["../../etc/passwd"], {}, NOTHING), **JSON, application_headers=OURS),
    "a newline": amqp.Message(body([f"{ONE}\n"], {}, NOTHING), **JSON, application_headers=OURS),
    "capitals": amqp.Message(body([ONE.upper().replace("0", "A")], {}, NOTHING), **JSON, application_headers=OURS),
    "other digits": amqp.Message(body(["\u0663" * 32], {}, NOTHING), **JSON, application_headers=OURS),
    "a link": amqp.Message(
        body([ONE], {}, {**NOTHING, "callbacks": [{"task": TASK}]}), **JSON, application_headers=OURS
    ),
    "a chord": amqp.Message(body([ONE], {}, {**NOTHING, "chord": {"task": TASK}}), **JSON, application_headers=OURS),
    "later": message(ONE, application_headers={**OURS, "eta": "2999-01-01T00:00:00"}),
    "until": message(ONE, application_headers={**OURS, "expires": "1999-01-01T00:00:00"}),
    "again": message(ONE, application_headers={**OURS, "retries": 3}),
    "in a group": message(ONE, application_headers={**OURS, "group": ONE}),
    "compressed": message(ONE, application_headers={**OURS, "compression": "gzip"}),
    "a bomb": amqp.Message(zlib.compress(bytes(900_000)), **JSON, application_headers={**OURS, "compression": "zlib"}),
    "a body of 2 KiB": amqp.Message(" " * 2048, **JSON, application_headers=OURS),
    "a body of 20 MiB": amqp.Message(bytes(20 << 20), **JSON, application_headers=OURS),
    "long headers": message(ONE, application_headers={**OURS, "x": "y" * 100_000}),
    "headers that are no text": message(ONE, correlation_id=b"\xff\xfe"),
    "deep headers": message(ONE, application_headers={**OURS, "x": nested(3000)}),
    "refused by itself": message(ONE, application_headers={**OURS, "refused": "\x1b[31m\nERROR forged"}),
}


def test_foreign_messages_are_a_line_in_the_log(broker: Broker, work: Work, vhost: VirtualHost) -> None:
    worker = work()
    usual = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)  # to write what is too deep to be read
    try:
        with channel(vhost) as opened:
            for count, (name, foreign) in enumerate(FOREIGN.items(), start=1):
                opened.basic_publish(foreign, exchange=QUEUE, routing_key=QUEUE)
                until(lambda count=count: len(worker.lines("dropped a|Traceback")) >= count, 60, name)  # type: ignore[misc]
    finally:
        sys.setrecursionlimit(usual)
    good = new_ids(1)
    broker.send("build", good)
    assert worker.wait_for(1) == good
    assert not worker.lines("Traceback|CRITICAL|ERROR|Connection to broker lost")
    assert all("\x1b" not in line and ONE not in line for line in worker.lines(""))
    assert vhost.queues() == {QUEUE: 0}


def test_huge_messages_cost_no_memory(broker: Broker, work: Work, vhost: VirtualHost) -> None:
    worker = work()
    before = peak(worker)
    with channel(vhost) as opened:
        for _ in range(3):
            opened.basic_publish(amqp.Message(bytes(100 << 20)), exchange=QUEUE, routing_key=QUEUE)
    broker.send("build", new_ids(1))
    worker.wait_for(1, 60)
    assert peak(worker) - before < 16 << 20


def test_nobody_is_answered(work: Work, vhost: VirtualHost) -> None:
    worker, task_id = work(), new_ids(1)[0]
    with channel(vhost) as opened:
        opened.queue_declare("answers", durable=True, auto_delete=False)
        opened.basic_publish(message(task_id, reply_to="answers"), exchange=QUEUE, routing_key=QUEUE)
    assert worker.wait_for(1) == [task_id]
    time.sleep(0.5)
    assert vhost.queues() == {QUEUE: 0, "answers": 0}


def test_a_worker_waits_for_its_broker(broker: Broker, work: Work, vhost: VirtualHost) -> None:
    worker, ids = work(), new_ids(2)
    broker.send("build", ids[:1])
    worker.wait_for(1)
    vhost.broker.stop()
    with pytest.raises(BrokerUnreachable):
        broker.send("build", ids[1:])
    vhost.broker.start()
    broker.send("build", ids[1:])  # by a connection of the time before
    assert worker.wait_for(2, 60) == ids
    assert worker.process.poll() is None
    assert not worker.lines("Traceback")


def test_a_worker_survives_an_emptied_broker(broker: Broker, work: Work, vhost: VirtualHost) -> None:
    worker = work(seconds=1)
    broker.send("build", new_ids(5))
    vhost.empty()
    last = new_ids(1)
    broker.send("build", last)
    until(lambda: last[0] in worker.ids())
    assert len(worker.ids()) < 6


def test_a_busy_worker_leaves_messages_to_others(broker: Broker, work: Work) -> None:
    busy, ids = work("busy", seconds=300), new_ids(3)
    broker.send("build", ids)
    busy.wait_for(1)
    time.sleep(2)
    idle = work("idle")
    assert sorted([*busy.ids(), *idle.wait_for(2)]) == sorted(ids)


def test_a_worker_that_was_busy_takes_again(broker: Broker, work: Work) -> None:
    worker, ids = work(seconds=2.5), new_ids(3)
    broker.send("build", ids)
    assert sorted(worker.wait_for(3)) == sorted(ids)


def test_told_to_stop_it_takes_no_more_and_what_runs_is_told(broker: Broker, work: Work, vhost: VirtualHost) -> None:
    worker = work(seconds=300)
    broker.send("build", new_ids(3))
    worker.wait_for(1)
    worker.process.send_signal(signal.SIGTERM)
    said, _ = worker.process.communicate(timeout=20)
    assert said.split("\n") == ["stopping", "left 0", ""]
    assert worker.process.returncode == 0
    assert len(worker.ids()) == 1
    assert vhost.queues() == {QUEUE: 2}


def test_a_task_that_does_not_stop_is_left(broker: Broker, work: Work) -> None:
    worker = work(seconds=-300, stop=1)
    broker.send("build", new_ids(1))
    worker.wait_for(1)
    begun = time.monotonic()
    worker.process.send_signal(signal.SIGTERM)
    said, _ = worker.process.communicate(timeout=20)
    assert said.split("\n") == ["stopping", "left 1", ""]
    assert time.monotonic() - begun < 10


def test_stops_while_there_is_no_broker(work: Work, vhost: VirtualHost) -> None:
    worker = work()
    vhost.broker.stop()
    until(lambda: bool(worker.lines("Connection to broker lost")))
    worker.process.send_signal(signal.SIGTERM)
    said, _ = worker.process.communicate(timeout=20)
    assert said.endswith("left 0\n")


def test_an_idle_worker_is_small(work: Work) -> None:
    worker = work(jobs=2)
    pss = int(re.search(r"^Pss: +(\d+) kB", proc(worker, "smaps_rollup"), re.MULTILINE)[1]) << 10  # type: ignore[index]
    assert pss < 100 << 20


def proc(worker: Worker, name: str) -> str:
    return Path(f"/proc/{worker.process.pid}/{name}").read_text()


def peak(worker: Worker) -> int:
    """Bytes of memory that it ever had at once."""
    return int(re.search(r"^VmHWM:\s+(\d+) kB", proc(worker, "status"), re.MULTILINE)[1]) << 10  # type: ignore[index]


def test_nothing_listens(password: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        check_fails(taken.getsockname()[1], password, BrokerUnreachable)


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"AMQP\x00\x00\x09\x01", bytes(1000)])
def test_something_else_listens(password: Path, greeting: bytes) -> None:
    """It is no broker, or says nothing, and is waited for in vain, but not for long."""
    with socket.create_server((HOST, 0)) as server:
        held: list[socket.socket] = []

        def answer() -> None:
            for _ in range(8):
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return
                with suppress(OSError):  # who has seen enough is gone
                    held[-1].sendall(greeting)
                    if greeting:
                        held[-1].shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=answer)
        thread.start()
        begun = time.monotonic()
        check_fails(server.getsockname()[1], password, BrokerUnreachable)
        assert time.monotonic() - begun < 30
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for each in held:
            each.close()


def check_fails(port: int, password: Path, kind: type[Exception]) -> None:
    with Broker(BrokerAddress("anne", HOST, port, "/", tls=False), password) as broker:
        with pytest.raises(kind) as caught:
            broker.check()
        assert ADMIN not in f"{caught.value}"
        assert caught.value.__suppress_context__


def test_a_wrong_password_is_refused(vhost: VirtualHost, password: Path) -> None:
    password.write_text("not guest's\n")
    with Broker(parse_broker(vhost.url()), password) as broker, pytest.raises(BrokerRefused) as caught:
        broker.check()
    assert "not guest's" not in f"{caught.value!r} {caught.value} {broker!r} {vars(broker)} {broker._app.conf!r}"


def test_an_unknown_virtual_host_is_refused(vhost: VirtualHost, password: Path) -> None:
    with Broker(parse_broker(vhost.broker.url("elsewhere")), password) as broker, pytest.raises(BrokerRefused):
        broker.check()


def test_what_may_not_be_sent_is_refused(vhost: VirtualHost, work: Work, password: Path) -> None:
    work()
    vhost.broker.add_user("mute", ADMIN)
    vhost.broker.allow(vhost.name, "mute", write="^$")
    with Broker(parse_broker(vhost.url("mute")), password) as broker:
        for _ in range(2):  # the second by the same connection
            with pytest.raises(BrokerRefused):
                broker.send("build", new_ids(1))
    vhost.broker.delete_user("mute")


def test_a_password_that_others_can_read_is_not_read(vhost: VirtualHost, password: Path) -> None:
    password.chmod(0o644)
    with Broker(parse_broker(vhost.url()), password) as broker, pytest.raises(SigningError) as caught:
        broker.check()
    assert caught.value.code == "key-permissions"


@pytest.mark.parametrize(
    ("role", "task_id"), [("root", ONE), ("build", "1"), ("build", f"{ONE}\n"), ("build", "../" * 9)]
)
def test_sends_nothing_else(broker: Broker, role: str, task_id: str) -> None:
    with pytest.raises(ValueError, match="no message"):
        broker.send(role, [task_id])
