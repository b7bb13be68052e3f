"""Roots: made here, signed elsewhere, and published only when they follow the rules. And the signers of metadata."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]  # public, but not in its __all__
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, Timestamp  # type: ignore[attr-defined]  # public, but it has no __all__

from imagefactory.errors import AuditDamaged, CatalogueDamaged, RootRefused
from imagefactory.tools.tuf_root import add_signature, first_root, next_root, read_root, require_fit, root_chain
from imagefactory.tools.tuf_signer import TufSigner, sign_metadata, tuf_key
from signing.errors import KeyPurpose
from signing.keys import PublicKey, Purpose
from signing.signer import CHECKSUMS_PREFIX
from tests.unit.tuf_world import ROOT_LIFE, MemorySigner, Ring, moment, signed

RING = Ring()
NOW = moment()
ROOT = RING.first(NOW)


def keys_of(ring: Ring) -> dict[Purpose, Sequence[PublicKey]]:
    return {
        "root": [each.public_key for each in ring.roots],
        "targets": [ring.targets.public_key],
        "freshness": [ring.freshness.public_key],
    }


def fit(raw: bytes, previous: bytes | None = None, now: datetime = NOW) -> None:
    require_fit(read_root(raw), None if previous is None else read_root(previous), now)


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The root with other words, signed by everybody."""
    document = json.loads(ROOT)
    change(document["signed"])
    document["signatures"] = []
    metadata = Metadata.from_bytes(json.dumps(document).encode())
    for each in RING.roots:
        sign_metadata(metadata, TufSigner(each))
    return metadata.to_bytes()


def test_a_first_root() -> None:
    fit(ROOT)
    root = json.loads(ROOT)["signed"]
    assert (root["_type"], root["version"], root["consistent_snapshot"]) == ("root", 1, True)
    assert {role: (len(each["keyids"]), each["threshold"]) for role, each in root["roles"].items()} == {
        "root": (3, 2),
        "targets": (1, 1),
        "snapshot": (1, 1),
        "timestamp": (1, 1),
    }
    assert len(root["keys"]) == 5
    assert {(key["keytype"], key["scheme"]) for key in root["keys"].values()} == {("ecdsa", "ecdsa-sha2-nistp256")}
    assert b"\n" not in ROOT


def test_two_of_three_sign() -> None:
    unsigned = first_root(keys_of(RING), 2, NOW + ROOT_LIFE)
    for count, enough in ((0, False), (1, False), (2, True), (3, True)):
        raw = signed(unsigned, RING.roots[3 - count :])
        if enough:
            fit(raw)
        else:
            with pytest.raises(RootRefused, match=f"lacks signatures: of {2 - count} of its own keys"):
                fit(raw)
    twice = signed(unsigned, [RING.roots[0], RING.roots[0]])
    with pytest.raises(RootRefused, match="lacks signatures"):
        fit(twice)


def test_signatures_in_any_order_and_on_different_days() -> None:
    assert {*json.loads(signed(ROOT, RING.roots))["signed"]} == {*json.loads(ROOT)["signed"]}
    unsigned = first_root(keys_of(RING), 2, NOW + ROOT_LIFE)
    fit(signed(signed(unsigned, [RING.roots[2]]), [RING.roots[0]]))


@pytest.mark.parametrize("threshold", [0, -1, 4])
def test_thresholds_that_nobody_can_reach(threshold: int) -> None:
    with pytest.raises(RootRefused, match=f"{threshold} of 3 keys cannot sign for root"):
        first_root(keys_of(RING), threshold, NOW + ROOT_LIFE)


@pytest.mark.parametrize("purpose", ["root", "targets", "freshness"])
def test_every_purpose_has_a_key(purpose: Purpose) -> None:
    with pytest.raises(RootRefused, match="0 keys cannot sign"):
        first_root({**keys_of(RING), purpose: []}, 1, NOW + ROOT_LIFE)


def test_one_key_has_one_purpose() -> None:
    for one, other in (("root", "targets"), ("targets", "freshness"), ("freshness", "root")):
        keys = keys_of(RING)
        shared: dict[Purpose, Sequence[PublicKey]] = {**keys, one: keys[other]}  # type: ignore[dict-item, index]
        with pytest.raises(RootRefused, match="one key for two purposes"):
            first_root(shared, 1, NOW + ROOT_LIFE)


def test_only_keys_on_p256() -> None:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    with pytest.raises(RootRefused, match="is an elliptic curve key on secp256r1"):
        first_root({**keys_of(RING), "targets": [key]}, 2, NOW + ROOT_LIFE)


def test_a_release_key_has_no_place() -> None:
    with pytest.raises(RootRefused, match="names no release keys"):
        first_root({**keys_of(RING), "release": [MemorySigner("release").public_key]}, 2, NOW + ROOT_LIFE)


def test_who_may_sign_a_root() -> None:
    for stranger in (MemorySigner("root"), Ring().roots[0]):
        with pytest.raises(RootRefused, match="names this key"):
            add_signature(ROOT, stranger)
    with pytest.raises(KeyPurpose, match="this is the targets key"):
        add_signature(ROOT, RING.targets)


def with_field(raw: bytes, value: str) -> bytes:
    """With an unknown field, which TUF allows, of a value that has no canonical form."""
    return raw.replace(b'"signed":{', b'"signed":{"more":%s,' % value.encode())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"<html>",
        b"[" * 100_000,
        ROOT[:-1],
        Metadata(Timestamp(expires=NOW)).to_bytes(),
        with_field(ROOT, "1.5"),
        with_field(ROOT, '"\\ud800"'),
        with_field(ROOT, "[" * 100 + "]" * 100),
        with_field(ROOT, "[" * 900 + "]" * 900),
        with_field(ROOT, '{"twice":1,"twice":2}'),
        ROOT + b" " * 512_000,
    ],
    ids=range(12),
)
def test_what_is_no_root(raw: bytes) -> None:
    for act in (
        read_root,
        lambda raw: add_signature(raw, RING.roots[0]),
        lambda raw: next_root(raw, {}, NOW),
        lambda raw: root_chain(ROOT, lambda _: raw),
    ):
        with pytest.raises(CatalogueDamaged):
            act(raw)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda it: it.update(version=2), "has version 2, and version 1 is next"),
        (lambda it: it.update(expires="2020-01-01T00:00:00Z"), "expired at 2020-01-01T00:00:00Z"),
        (lambda it: it.update(consistent_snapshot=False), "consistent snapshots"),
        (lambda it: it.pop("consistent_snapshot"), "consistent snapshots"),
        (lambda it: it["keys"].update({"0" * 64: next(iter(it["keys"].values()))}), "not the key id"),
        (lambda it: it["roles"]["root"]["keyids"].append("0" * 64), "keys that it does not have"),
        (lambda it: it["roles"]["timestamp"].update(keyids=it["roles"]["targets"]["keyids"]), "two purposes"),
        (lambda it: it["roles"]["root"].update(threshold=4), "of 1 of its own keys"),
        (lambda it: next(iter(it["keys"].values()))["keyval"].update(public="x"), "not usable"),
        (lambda it: next(iter(it["keys"].values()))["keyval"].update(more="x"), "not the key id"),
    ],
)
def test_roots_that_are_not_published(change: Callable[[dict[str, Any]], object], message: str) -> None:
    with pytest.raises(RootRefused, match=message):
        fit(changed(change))


def test_a_key_counts_once_under_however_many_ids() -> None:
    """A threshold of two, and one key: python-tuf's client would count it twice."""

    def double(root: dict[str, Any]) -> None:
        [keyid, *_] = root["roles"]["root"]["keyids"]
        root["keys"]["f" * 64] = root["keys"][keyid]
        root["roles"]["root"]["keyids"].append("f" * 64)

    document = json.loads(changed(double))
    [keyid, *_] = document["signed"]["roles"]["root"]["keyids"]
    [mine] = [each for each in document["signatures"] if each["keyid"] == keyid]
    document["signatures"] = [mine, {"keyid": "f" * 64, "sig": mine["sig"]}]
    raw = json.dumps(document).encode()
    root = read_root(raw)
    assert root.signed.get_root_verification_result(None, root.signed_bytes, root.signatures)
    with pytest.raises(RootRefused, match="not the key id"):
        fit(raw)


def test_the_next_root_has_what_is_new_and_keeps_the_rest() -> None:
    new = replace(RING, targets=MemorySigner("targets"))
    second = next_root(ROOT, {"targets": [new.targets.public_key]}, NOW + ROOT_LIFE + timedelta(days=1))
    before, after = (read_root(raw).signed for raw in (ROOT, second))
    assert (after.version, after.expires - before.expires) == (2, timedelta(days=1))
    assert after.roles["targets"].keyids == [tuf_key(new.targets.public_key).keyid]
    assert {role: after.roles[role] for role in ("root", "snapshot", "timestamp")} == {
        role: before.roles[role] for role in ("root", "snapshot", "timestamp")
    }
    assert set(before.keys) - set(after.keys) == {tuf_key(RING.targets.public_key).keyid}
    assert read_root(second).signatures == {}
    fit(signed(second, RING.roots[:2]), ROOT)


def test_other_root_keys_need_the_old_ones_and_the_new_ones() -> None:
    new = replace(RING, roots=Ring().roots)
    second = next_root(ROOT, {"root": [each.public_key for each in new.roots]}, NOW + ROOT_LIFE, threshold=3)
    with pytest.raises(RootRefused, match="names this key"):
        add_signature(second, RING.roots[0])
    with pytest.raises(RootRefused, match="of 2 keys of the root before it, and of 0 of its own keys"):
        fit(signed(second, new.roots), ROOT)
    with pytest.raises(RootRefused, match="of 0 keys of the root before it, and of 3 of its own keys"):
        fit(signed(second, RING.roots, ROOT), ROOT)
    with pytest.raises(RootRefused, match="of 1 keys of the root before it, and of 1 of its own keys"):
        fit(signed(second, (RING.roots[0], *new.roots[:2]), ROOT), ROOT)
    whole = signed(second, (*RING.roots[1:], *new.roots), ROOT)
    fit(whole, ROOT)
    assert [root.signed.version for root in root_chain(ROOT, {2: whole}.get)] == [1, 2]


def test_a_signature_is_about_every_word() -> None:
    second = signed(next_root(ROOT, {}, NOW + ROOT_LIFE), RING.roots, ROOT)
    document = json.loads(second)
    document["signed"]["expires"] = "2099-01-01T00:00:00Z"
    with pytest.raises(RootRefused, match="lacks signatures"):
        fit(json.dumps(document).encode(), ROOT)


# -- signers ----------------------------------------------------------------------------------------------------------


def test_key_ids_are_those_of_securesystemslib() -> None:
    key = TufSigner(RING.targets).public_key
    public = {"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": key.keyval}
    assert key == SSlibKey.from_crypto(RING.targets.public_key)
    canonical = encode_canonical(public)
    assert canonical is not None
    assert key.keyid == sha256(canonical.encode()).hexdigest()


def test_a_signature_has_one_spelling() -> None:
    signer = TufSigner(RING.targets)
    for number in range(8):
        payload = b'{"n":%d}' % number
        signature = signer.sign(payload)
        signer.public_key.verify_signature(signature, payload)
        assert decode_dss_signature(bytes.fromhex(signature.signature))[1] <= ec.SECP256R1().group_order // 2


@pytest.mark.parametrize("purpose", ["release", "provenance"])
def test_other_keys_sign_no_metadata(purpose: Purpose) -> None:
    with pytest.raises(KeyPurpose, match=f"the {purpose} key does not sign this kind of document"):
        sign_metadata(Metadata(Timestamp(expires=NOW)), TufSigner(MemorySigner(purpose)))


def test_a_metadata_key_signs_nothing_else() -> None:
    for purpose in ("root", "targets", "freshness"):
        with pytest.raises(KeyPurpose):
            TufSigner(MemorySigner(purpose)).sign(CHECKSUMS_PREFIX)
    with pytest.raises(KeyPurpose):
        TufSigner(MemorySigner("glance"))


def test_what_goes_wrong_at_the_key_keeps_its_name() -> None:
    class Failing(MemorySigner):
        def __init__(self, error: Exception) -> None:
            super().__init__("freshness")
            self.error = error

        def _sign_digest(self, digest: bytes) -> bytes:
            del digest
            raise self.error

    for error, kind in (
        (AuditDamaged("x"), AuditDamaged),
        (KeyPurpose("x"), KeyPurpose),
        (RuntimeError("x"), UnsignedMetadataError),
    ):
        with pytest.raises(kind):
            sign_metadata(Metadata(Timestamp(expires=NOW)), TufSigner(Failing(error)))
