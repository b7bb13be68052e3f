"""A RabbitMQ for the tests of a worker of pytest, and in it a virtual host for each test."""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.servers.directories import open_to_others
from tests.servers.rabbitmq import ADMIN, Broker, rabbitmq

_numbers = itertools.count(1)


@dataclass(frozen=True)
class VirtualHost:
    """A part of a broker that no other test sees. The broker is running; who stops it, starts it again."""

    broker: Broker
    name: str

    def url(self, user: str = ADMIN) -> str:
        return self.broker.url(self.name, user)

    def queues(self) -> dict[str, int]:
        """How many messages each queue has."""
        return self.broker.queues(self.name)

    def empty(self) -> None:
        self.broker.empty(self.name)


@pytest.fixture(scope="session")
def rabbitmq_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A real RabbitMQ, which dies with the session however that ends."""
    directory = tmp_path_factory.mktemp("rabbitmq")
    if os.getuid() == 0:
        open_to_others(directory.parent)  # the broker is somebody else
    with rabbitmq(directory) as broker:
        yield broker


@pytest.fixture
def vhost(rabbitmq_server: Broker) -> Iterator[VirtualHost]:
    """A new virtual host, where only `guest` may do anything; it goes with its queues."""
    rabbitmq_server.start()
    name = f"test-{next(_numbers)}"
    rabbitmq_server.add_vhost(name)
    yield VirtualHost(rabbitmq_server, name)
    rabbitmq_server.start()
    rabbitmq_server.delete_vhost(name)
