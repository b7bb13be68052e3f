"""The RabbitMQ of tests is a real one, on loopback only, and leaves nothing behind."""

import re
import subprocess
import sys
import time
from pathlib import Path

import amqp
import pytest

from tests.servers.errors import ServerError
from tests.servers.rabbitmq import ADMIN, HOST, Broker, listens
from tests.servers.rabbitmq_fixtures import VirtualHost


def connect(vhost: VirtualHost, user: str = ADMIN, password: str = ADMIN) -> amqp.Connection:
    address = f"{HOST}:{vhost.broker.ports['amqp']}"
    return amqp.Connection(address, user, password, virtual_host=vhost.name, confirm_publish=True)


def put(vhost: VirtualHost, queue: str, body: str) -> None:
    with connect(vhost) as connection, connection.channel() as channel:
        channel.queue_declare(queue, durable=True, auto_delete=False)
        channel.basic_publish(amqp.Message(body, delivery_mode=2), routing_key=queue)


def take(vhost: VirtualHost, queue: str) -> str | None:
    with connect(vhost) as connection, connection.channel() as channel:
        message = channel.basic_get(queue, no_ack=True)
        return None if message is None else str(message.body)


def descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(grand for child in children for grand in descendants(int(child)))]


def sockets(pids: list[int]) -> set[str]:
    """The local addresses on which these processes listen."""
    said = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout.splitlines()
    ours = re.compile("|".join(rf"\bpid={pid}," for pid in pids))
    return {line.split()[3].rpartition(":")[0] for line in said if ours.search(line)}


def test_listens_on_loopback_only(rabbitmq_server: Broker) -> None:
    assert {HOST} <= sockets(rabbitmq_server.pids()) <= {HOST, "[::1]"}


def test_is_nobody_special(rabbitmq_server: Broker) -> None:
    for pid in rabbitmq_server.pids():
        facts = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert "0" not in facts["Uid"].split()
        assert int(facts["CapEff"], 16) == 0


def test_messages_survive_a_stop_and_a_kill(vhost: VirtualHost) -> None:
    put(vhost, "kept", "one")
    vhost.broker.stop()
    assert not listens(vhost.broker.ports["amqp"])
    vhost.broker.start()
    assert take(vhost, "kept") == "one"
    put(vhost, "kept", "two")
    vhost.broker.kill()
    vhost.broker.start()
    assert take(vhost, "kept") == "two"


def test_can_be_emptied(vhost: VirtualHost) -> None:
    put(vhost, "full", "one")
    put(vhost, "other", "two")
    assert vhost.queues() == {"full": 1, "other": 1}
    vhost.empty()
    assert vhost.queues() == {"full": 0, "other": 0}


def test_users_have_what_they_are_given(vhost: VirtualHost) -> None:
    vhost.broker.add_user("anne", "her password")
    with pytest.raises(amqp.NotAllowed):
        connect(vhost, "anne", "her password").connect()
    vhost.broker.allow(vhost.name, "anne", configure="^$", write="^$", read="^$")
    with connect(vhost, "anne", "her password") as connection, pytest.raises(amqp.AccessRefused):
        connection.channel().queue_declare("hers")
    with pytest.raises(amqp.AccessRefused):
        connect(vhost, "anne", "a wrong one").connect()
    vhost.broker.delete_user("anne")


def test_what_rabbitmqctl_refuses_is_an_error(rabbitmq_server: Broker) -> None:
    with pytest.raises(ServerError, match="delete_user"):
        rabbitmq_server.ctl("delete_user", "there is none")


def test_dies_with_whoever_started_it(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from tests.servers.rabbitmq import rabbitmq\n"
        "with rabbitmq(Path(sys.argv[1])) as broker:\n"
        "    print(*broker.pids(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGSTOP)\n"
    )
    for parent in tmp_path.parents[:3]:
        parent.chmod(0o711)
    tmp_path.chmod(0o711)
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path / "broker"], stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        pids = [int(word) for word in starter.stdout.readline().split()]
        family = [one for pid in pids for one in descendants(pid)]
        assert len(family) > 3
        starter.kill()
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in family) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in family if alive(pid)]


def alive(pid: int) -> bool:
    """Whether it does anything; in a container without an init, nobody asks for the status of the dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
