"""The whole service while its broker is in hostile hands: messages are hints, and nothing more can be had by them."""

import random
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import amqp
import pytest

from imagefactory.model.broker import ROLES, queue_name
from tests.contract.test_chaos import World, world
from tests.contract.test_worker import FOREIGN, channel, message
from tests.fakes import traces
from tests.servers.team import WORKERS

__all__ = ["world"]

MEMORY = 200 << 20  # bytes of a worker, whatever it is sent
HUGE = 1 << 20  # bytes: sent once, as RabbitMQ itself takes its time
SENT = [each for name, each in FOREIGN.items() if name != "deep headers"]  # which a thread of ours cannot even write


@contextmanager
def hostile(world: World, dice: random.Random) -> Iterator[list[int]]:
    """Somebody who reads what the records say, sends what he likes to whom he likes, and takes messages away. Gives how
    many he has sent so far."""
    over, sent, errors = threading.Event(), [0], list[BaseException]()

    def run() -> None:
        try:
            with channel(world.team.vhost) as opened:
                for forged in SENT:
                    sent[0] += _to_everybody(opened, [forged])
                while not over.wait(0.2):
                    sent[0] += _to_everybody(opened, _some(world, dice))
                    if dice.random() < 0.2:
                        world.team.vhost.empty()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield sent
    finally:
        over.set()
        thread.join()
        if errors:
            raise errors[0]


def _some(world: World, dice: random.Random) -> Sequence[amqp.Message]:
    """A message about each task that there ever was, in any order, about none, and one that is not even that."""
    with world.team.jobs() as jobs:
        known = [task.id for job in jobs.jobs() for task in jobs.tasks(job.id)]
    small = [each for each in SENT if len(each.body) < HUGE]
    messages = [*map(message, [*known, uuid.UUID(int=dice.getrandbits(128)).hex]), dice.choice(small)]
    dice.shuffle(messages)
    return messages


def _to_everybody(opened: amqp.Channel, messages: Sequence[amqp.Message]) -> int:
    for role in ROLES:
        for each in messages:
            opened.basic_publish(each, queue_name(role), queue_name(role))
    return len(ROLES) * len(messages)


@pytest.mark.usefixtures("host")
def test_it_has_nothing_signed_and_nothing_published(world: World, dice: random.Random) -> None:
    world.team.start(jobs=2)
    with hostile(world, dice) as sent:
        world.check(world.ask())
        assert sent[0] > 1000
    running = {who: process for who in WORKERS for process in world.team.running[who]}
    assert {who: process.poll() for who, process in running.items()} == dict.fromkeys(WORKERS)
    assert {who: size for who, process in running.items() if (size := _resident(process.pid)) > MEMORY} == {}
    assert {who for who in WORKERS if "Traceback" in world.team.log(who).read_text()} == set()
    world.end()
    assert traces.gone(30.0) == {}


def _resident(pid: int) -> int:
    """Bytes of memory, at the most so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))
