"""Who may do what in RabbitMQ."""

import json
import re
from base64 import b64decode
from hashlib import sha256

import pytest

from imagefactory.model.broker import ROLES, queue_name
from imagefactory.model.job import TELLS, Role
from imagefactory.service.broker_setup import SENDS, definitions, permissions

PASSWORDS = {role: f"the password of {role}" for role in SENDS}


def matches(pattern: str) -> set[str]:
    """Which of our names, of near ones and of RabbitMQ's own."""
    names = [queue_name(role) for role in ROLES]
    others = (
        [f"{name}x" for name in names] + [f"x{name}" for name in names] + [name.replace(".", "-") for name in names]
    )
    return {name for name in [*names, *others, "", "amq.default", "amq.direct"] if re.search(pattern, name) and name}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_reads_and_declares_its_own_queue_only(role: str) -> None:
    assert matches(permissions(role)["read"]) == matches(permissions(role)["configure"]) == {queue_name(role)}


def test_the_beat_reads_nothing_and_tells_all() -> None:
    assert matches(permissions("beat")["read"]) == matches(permissions("beat")["configure"]) == set()
    assert matches(permissions("beat")["write"]) == {queue_name(role) for role in ROLES}


def test_a_role_sends_to_those_after_it_only() -> None:
    assert matches(permissions("test")["write"]) == {"imagefactory.build", "imagefactory.test"}
    assert matches(permissions("publish")["write"]) == {"imagefactory.sign", "imagefactory.publish"}
    for role in Role:
        assert matches(permissions(role)["write"]) == {queue_name(other) for other in (role, *TELLS[role])}


def test_no_password_is_in_the_document() -> None:
    document = definitions("images", PASSWORDS)
    text = json.dumps(document)
    assert not [password for password in PASSWORDS.values() if password in text]
    users = document["users"]
    assert isinstance(users, list)
    hashes = {user["name"]: b64decode(user["password_hash"]) for user in users}
    for role, password in PASSWORDS.items():
        hashed = hashes[f"imagefactory-{role}"]
        assert hashed[4:] == sha256(hashed[:4] + password.encode()).digest()
    assert len({hashed[:4] for hashed in hashes.values()}) == len(PASSWORDS)
