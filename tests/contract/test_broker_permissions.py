"""What each user of the service can do in a real RabbitMQ, and what it cannot."""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import amqp
import pytest

from imagefactory.model.broker import ROLES, account_name, queue_name
from imagefactory.service.broker_setup import SENDS, definitions
from tests.servers.rabbitmq import HOST
from tests.servers.rabbitmq_fixtures import VirtualHost

PASSWORDS = {role: f"the password of {role}" for role in SENDS}
PAIRS = list(itertools.product(SENDS, ROLES))


@dataclass(frozen=True)
class Office:
    """A virtual host as `service init` leaves it."""

    vhost: VirtualHost

    @contextmanager
    def channel(self, role: str, password: str | None = None) -> Iterator[amqp.Channel]:
        address = f"{HOST}:{self.vhost.broker.ports['amqp']}"
        connection = amqp.Connection(
            address, account_name(role), password or PASSWORDS[role], virtual_host=self.vhost.name, confirm_publish=True
        )
        try:
            connection.connect()
            yield connection.channel()
        finally:
            connection.collect()


@pytest.fixture
def office(vhost: VirtualHost) -> Iterator[Office]:
    document = json.dumps(definitions(vhost.name, PASSWORDS)).encode()
    vhost.broker.ctl("import_definitions", input_=document)
    yield Office(vhost)
    for role in SENDS:
        vhost.broker.delete_user(account_name(role))


def test_everything_is_there_before_a_worker_is(office: Office) -> None:
    assert office.vhost.queues() == {queue_name(role): 0 for role in ROLES}


def test_done_twice_it_keeps_messages_and_renews_passwords(office: Office) -> None:
    with office.channel("beat") as channel:
        send(channel, "build")
    renewed = {**PASSWORDS, "beat": "another one"}
    office.vhost.broker.ctl("import_definitions", input_=json.dumps(definitions(office.vhost.name, renewed)).encode())
    assert office.vhost.queues()["imagefactory.build"] == 1
    with pytest.raises(amqp.AccessRefused), office.channel("beat"):
        pass
    with office.channel("beat", "another one") as channel:
        send(channel, "build")


def test_who_sends_to_whom(office: Office) -> None:
    for sender, receiver in PAIRS:
        with office.channel(sender) as channel:
            if receiver in SENDS[sender]:
                send(channel, receiver)
            else:
                with pytest.raises(amqp.AccessRefused):
                    send(channel, receiver)
    sent = {queue_name(role): sum(role in others for others in SENDS.values()) for role in ROLES}
    assert office.vhost.queues() == sent


def test_nobody_sends_around_the_exchanges(office: Office) -> None:
    """By the default exchange every queue can be reached."""
    for role in SENDS:
        with office.channel(role) as channel, pytest.raises(amqp.AccessRefused):
            channel.basic_publish(amqp.Message("x"), exchange="", routing_key="imagefactory.sign")


def test_who_reads_what(office: Office) -> None:
    for reader, owner in PAIRS:
        for read in (amqp.Channel.basic_get, amqp.Channel.basic_consume, amqp.Channel.queue_purge):
            with office.channel(reader) as channel:
                if reader == owner:
                    read(channel, queue_name(owner))
                else:
                    with pytest.raises(amqp.AccessRefused):
                        read(channel, queue_name(owner))


def test_who_makes_and_deletes_what(office: Office) -> None:
    for role, owner in PAIRS:
        with office.channel(role) as channel:
            if role == owner:
                channel.queue_declare(queue_name(owner), durable=True, auto_delete=False)
                channel.queue_bind(queue_name(owner), queue_name(owner), queue_name(owner))
                continue
            with pytest.raises(amqp.AccessRefused):
                channel.queue_delete(queue_name(owner))
        with office.channel(role) as channel, pytest.raises(amqp.AccessRefused):
            channel.queue_declare(f"{role}-of-mine")


def test_nobody_copies_the_messages_of_others(office: Office) -> None:
    """By a binding of one's own queue to another's exchange."""
    for role, owner in PAIRS:
        if role != owner and role in ROLES:
            with office.channel(role) as channel, pytest.raises(amqp.AccessRefused):
                channel.queue_bind(queue_name(role), queue_name(owner), queue_name(owner))


def send(channel: amqp.Channel, role: str) -> None:
    channel.basic_publish(amqp.Message("x"), exchange=queue_name(role), routing_key=queue_name(role))
