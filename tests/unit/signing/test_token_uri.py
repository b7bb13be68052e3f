"""The PKCS #11 URIs that we read (RFC 7512), and all others."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signing.errors import SignerUnknown
from signing.token_uri import TokenUri

REST = "?module-path=/m.so&pin-source=file:/pin"
TEXTS = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=32)
PATHS = TEXTS.map(lambda text: Path("/") / text.replace("/", "_"))


@given(st.builds(TokenUri, TEXTS, PATHS, PATHS, st.none() | TEXTS, st.none() | st.binary(min_size=1, max_size=20)))
def test_what_is_written_is_read_back(uri: TokenUri) -> None:
    assert TokenUri.parse(uri.encode()) == uri


@given(st.text())
def test_anything_else_is_refused_or_means_one_thing(text: str) -> None:
    for candidate in (text, f"pkcs11:{text}", f"pkcs11:token={text}{REST}"):
        try:
            found = TokenUri.parse(candidate)
        except SignerUnknown:
            continue
        assert TokenUri.parse(found.encode()) == found


def test_every_part() -> None:
    uri = TokenUri.parse("pkcs11:token=The%20token;object=release;id=%00%ff?module-path=/a/b.so&pin-source=file:/c")
    assert uri == TokenUri("The token", Path("/a/b.so"), Path("/c"), "release", b"\x00\xff")


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "pkcs11:",
        "file:/x",
        f"pkcs11:{REST}",
        "pkcs11:token=a",
        "pkcs11:token=a?module-path=/m.so",
        "pkcs11:token=a?pin-source=file:/pin",
        f"PKCS11:token=a{REST}",
        f"pkcs11:token=a;pin-value=1234{REST}",
        f"pkcs11:token=a{REST}&pin-value=1234",
        f"pkcs11:token=a;token=b{REST}",
        f"pkcs11:token=a{REST}&module-path=/n.so",
        f"pkcs11:token=a;module-path=/m.so{REST}",
        f"pkcs11:token={REST}",
        f"pkcs11:token{REST}",
        f"pkcs11:token=a b{REST}",
        f"pkcs11:token=%ff{REST}",
        f"pkcs11:token=a%0Ab{REST}",
        f"pkcs11:token=%0{REST}",
        f"pkcs11:token=a;x-vendor=1{REST}",
        f"pkcs11:token=a;{REST}",
        f"pkcs11:token=a{REST}&",
        "pkcs11:token=a?module-path=m.so&pin-source=file:/pin",
        "pkcs11:token=a?module-path=/m.so&pin-source=/pin",
        "pkcs11:token=a?module-path=/m.so&pin-source=file:pin",
        "pkcs11:token=a?module-path=/m.so&pin-source=|/bin/pin",
        f"pkcs11:token={'a' * 2048}{REST}",
        f"pkcs11:token=a{REST}\n",
    ],
)
def test_refused(uri: str) -> None:
    with pytest.raises(SignerUnknown) as caught:
        TokenUri.parse(uri)
    assert caught.value.code == "signer-unknown"
    assert "1234" not in caught.value.message
