"""Our signers as python-tuf signs with them: `signing.foreign`, with the key ids of TUF metadata.

A key id is the SHA-256 of the canonical JSON of the key as metadata writes it (TUF specification 1.0.34, section 4.2),
as securesystemslib computes it: some clients compute it again. The rules at the key (`signing.signer`) hold: only root,
targets and freshness keys sign metadata.
"""

from typing import TypeVar

from securesystemslib.signer import Signature, SSlibKey  # type: ignore[attr-defined]  # public, but not in its __all__
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import (  # type: ignore[attr-defined]  # public, but it has no __all__
    Metadata,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)

from imagefactory.errors import FactoryError
from signing.errors import SigningError
from signing.foreign import DocumentSigner
from signing.keys import PublicKey, Purpose

T = TypeVar("T", Root, Timestamp, Snapshot, Targets)


class TufSigner(DocumentSigner):
    """A signer of TUF metadata, wherever its key lives."""

    @property
    def purpose(self) -> Purpose:
        """The one purpose of the key."""
        return self._signer.purpose

    @property
    def public_key(self) -> SSlibKey:
        """The public half, with the key id of TUF metadata."""
        return tuf_key(self._signer.public_key)

    def sign(self, payload: bytes) -> Signature:
        """Return the signature of canonical JSON. Raises: KeyPurpose, and what the storage raises."""
        return Signature(self.public_key.keyid, super().sign(payload).signature)


def tuf_key(key: PublicKey) -> SSlibKey:
    """A public key as TUF metadata has it: a key on P-256 is of type `ecdsa`, scheme `ecdsa-sha2-nistp256`."""
    return SSlibKey.from_crypto(key)


def sign_metadata(metadata: Metadata[T], signer: TufSigner) -> None:
    """Add a signature, in the place of one by the same key. Raises: KeyPurpose, and what the storage raises."""
    try:
        metadata.sign(signer, append=True)
    except UnsignedMetadataError as error:
        if isinstance(error.__cause__, SigningError | FactoryError):
            raise error.__cause__ from None
        raise
