"""Ask cursive whether an image has the signature that its properties say, as Glance and Nova ask it.

Runs with the Python of .venv-openstack, which has cursive and nothing of ours. Standard input is a JSON object of
"properties" (img_signature*), "certificate" (PEM, what the key manager holds) and "image" (a path). Writes "accepted"
or the name of the exception that refused.
"""

import json
import sys
from pathlib import Path

from castellan.common.objects.x_509 import X509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate
from cursive import signature_utils
from cursive.exception import SignatureVerificationError


class KeyManager:
    """A key manager that holds one certificate."""

    def __init__(self, pem: str) -> None:
        self._der = load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)

    def get(self, context: object, managed_object_id: str) -> X509:
        del context, managed_object_id
        return X509(self._der)


def main() -> None:
    asked = json.load(sys.stdin)
    signature_utils.key_manager.API = lambda *_: KeyManager(asked["certificate"])
    properties = asked["properties"]
    if not signature_utils.should_create_verifier(properties):
        sys.stdout.write("nothing to verify")
        return
    try:
        verifier = signature_utils.get_verifier(context=None, **properties)
        with Path(asked["image"]).open("rb") as stream:
            while piece := stream.read(64 << 10):
                verifier.update(piece)
        verifier.verify()
    except (InvalidSignature, SignatureVerificationError) as refused:
        sys.stdout.write(type(refused).__name__)
        return
    sys.stdout.write("accepted")


if __name__ == "__main__":
    main()
