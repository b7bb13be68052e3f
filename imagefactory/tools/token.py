"""Making and destroying keys in a PKCS #11 token; signing with them is `signing.token`'s."""

import secrets
from contextlib import suppress
from dataclasses import replace

import pkcs11
from pkcs11.util.ec import encode_named_curve_parameters

from signing.keys import PublicKey, Purpose, curve_of
from signing.token import opened, public_key
from signing.token_uri import TokenUri

NEVER_LEAVES = {pkcs11.Attribute.EXTRACTABLE: False, pkcs11.Attribute.SENSITIVE: True}


def make_key(token: TokenUri, purpose: Purpose) -> tuple[TokenUri, PublicKey]:
    """Have the token make a key that never leaves it. Returns where it is, and its public half.

    Raises TokenFailed, PassphraseWrong, PassphraseMissing.
    """
    uri = replace(token, label=purpose, id=secrets.token_bytes(16))
    with opened(uri, rw=True) as session:
        curve = session.create_domain_parameters(
            pkcs11.KeyType.EC,
            {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters(curve_of(purpose).name)},
            local=True,
        )
        public, _ = curve.generate_keypair(
            store=True,
            label=uri.label,
            id=uri.id,
            capabilities=pkcs11.MechanismFlag.SIGN | pkcs11.MechanismFlag.VERIFY,
            private_template=NEVER_LEAVES,
        )
        return uri, public_key(public)


def destroy_key(uri: TokenUri) -> None:
    """Destroy both halves of a key, as far as they are there. Raises what `signing.token.opened` raises."""
    with opened(uri, rw=True) as session:
        for kind in (pkcs11.ObjectClass.PRIVATE_KEY, pkcs11.ObjectClass.PUBLIC_KEY):
            with suppress(pkcs11.NoSuchKey):
                session.get_key(kind, pkcs11.KeyType.EC, label=uri.label, id=uri.id).destroy()
