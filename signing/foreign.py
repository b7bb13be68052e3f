"""Our signers as securesystemslib knows them: for `dsse.Envelope.sign`, and for `Metadata.sign` of python-tuf."""

from typing import Self

# These are public, but not in its __all__.
from securesystemslib.signer import Key, SecretsHandler, Signature, SSlibKey  # type: ignore[attr-defined]
from securesystemslib.signer import Signer as ForeignSigner  # type: ignore[attr-defined]

from signing.errors import KeyPurpose
from signing.signer import Signer, one_spelling


class DocumentSigner(ForeignSigner):
    """Any of our signers but Glance's: that one signs images. What may be signed is still the key's own decision.

    Raises: KeyPurpose.
    """

    def __init__(self, signer: Signer) -> None:
        if signer.purpose == "glance":
            raise KeyPurpose("the glance key signs images, never a document")
        self._signer = signer

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> Self:
        """Raises: ValueError, always: a URI of ours does not say for which purpose."""
        del priv_key_uri, public_key, secrets_handler
        raise ValueError("make it of a signer: DocumentSigner(signer_for(uri, purpose))")

    @property
    def public_key(self) -> SSlibKey:
        """The public half, with our keyid."""
        return SSlibKey.from_crypto(self._signer.public_key, keyid=self._signer.keyid)

    def sign(self, payload: bytes) -> Signature:
        """Return the signature of a document. Raises: KeyPurpose, and what the storage raises."""
        signature = one_spelling(self._signer.sign(payload), self._signer.public_key.curve)
        return Signature(self._signer.keyid, signature.hex())
