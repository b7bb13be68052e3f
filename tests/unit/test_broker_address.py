"""IMAGEFACTORY_BROKER."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagefactory.errors import UsageError
from imagefactory.model.broker import BrokerAddress, parse_broker
from imagefactory.settings import read_settings


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("amqp://anne@mq", BrokerAddress("anne", "mq", 5672, "/", tls=False)),
        ("amqp://anne@mq/", BrokerAddress("anne", "mq", 5672, "/", tls=False)),
        ("amqp://anne@mq:1/%2F", BrokerAddress("anne", "mq", 1, "/", tls=False)),
        ("amqps://anne@mq.example.org/images", BrokerAddress("anne", "mq.example.org", 5671, "images", tls=True)),
        ("amqp://anne@[::1]:5/images", BrokerAddress("anne", "::1", 5, "images", tls=False)),
    ],
)
def test_reads_addresses(url: str, address: BrokerAddress) -> None:
    assert parse_broker(url) == address
    assert parse_broker(str(address)) == address


@pytest.mark.parametrize(
    "url",
    [
        "amqp://mq/",
        "amqp://anne@/x",
        "http://anne@mq/",
        "anne@mq",
        "amqp://anne@mq:0/",
        "amqp://anne@mq:99999/",
        "amqp://anne@mq:port/",
        "amqp://anne@mq/?heartbeat=0",
        "amqp://anne@mq/#x",
        "amqp://anne@mq/x%0Ay",
        "amqp://an%20ne@mq/",
        "amqp://anne@[::1/",
        "amqp://anne@mq;amqp://other/",
    ],
)
def test_refuses_what_is_none(url: str) -> None:
    with pytest.raises(UsageError):
        parse_broker(url)


@pytest.mark.parametrize("url", ["amqp://anne:secret@mq/", "amqp://:secret@mq", "amqp://anne:secret@mq:port/"])
def test_refuses_a_password_and_does_not_repeat_it(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_broker(url)
    assert "secret" not in f"{caught.value} {caught.value.advice} {caught.value.__cause__}"


@given(st.text())
def test_is_an_address_or_an_error(url: str) -> None:
    try:
        address = parse_broker(url)
    except UsageError:
        return
    assert parse_broker(str(address)) == address


def test_settings_have_the_broker() -> None:
    environ = {"IMAGEFACTORY_BROKER": "amqp://anne@mq/", "IMAGEFACTORY_BROKER_PASSWORD_FILE": "/secret/anne"}
    settings = read_settings(environ)
    assert settings.broker == BrokerAddress("anne", "mq", 5672, "/", tls=False)
    assert str(settings.broker_password_file) == "/secret/anne"
    assert read_settings({}).broker is None
    with pytest.raises(UsageError):
        read_settings({"IMAGEFACTORY_BROKER_PASSWORD_FILE": "anne"})
