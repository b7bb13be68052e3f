"""Barbican, the key manager: where Glance and Nova find the certificate that an image was signed with.

API: docs.openstack.org/barbican/latest/api. The form is the one that cursive reads: a secret of type certificate that
holds PEM, sent in base64 as application/octet-stream. Sent as text/plain it is taken too, and fails every upload.
"""

import base64
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from imagefactory.errors import BarbicanFailed, CertificateUnreadable, CloudForbidden
from imagefactory.tools.openstack.session import Answer, Cloud

_REF: Final = re.compile(r".*/secrets/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/?")
MOST_PEM: Final = 64 << 10  # bytes
BINARY: Final = {"Accept": "application/octet-stream"}


@dataclass(frozen=True)
class Barbican:
    """The key manager of a cloud. Every method raises BarbicanFailed, and what `Cloud.request` raises."""

    cloud: Cloud

    @property
    def there(self) -> bool:
        """Whether the cloud has one."""
        return self.cloud.endpoint("key-manager") is not None

    def keep(self, pem: str, fingerprint: str) -> str:
        """Have Barbican keep a certificate (PEM), once; returns its UUID there. `fingerprint` names it."""
        name = f"imagefactory {fingerprint}"
        for known in self._named(name):
            # A secret of that name that cannot be read, or is something else, is somebody else's.
            with suppress(CloudForbidden, BarbicanFailed):
                if self._payload(known) == pem.encode():
                    return known
        document = {
            "name": name,
            "secret_type": "certificate",
            "payload": base64.b64encode(pem.encode()).decode("ascii"),
            "payload_content_type": "application/octet-stream",
            "payload_content_encoding": "base64",
        }
        return _uuid(self._expect(self._ask("POST", "/secrets", document=document, again=False), 201))

    def fetch(self, uuid: str) -> str | None:
        """A certificate's PEM; None when there is none under this UUID. Raises CertificateUnreadable."""
        try:
            payload = self._payload(uuid)
        except CloudForbidden as error:
            raise CertificateUnreadable(error.message) from error
        if payload is None:
            return None
        # What it holds may be anything; whoever asked compares it.
        return payload[:MOST_PEM].decode("utf-8", errors="replace")

    def admit(self, uuid: str, users: Sequence[str]) -> None:
        """Let users (ids) read a secret, besides those who may already."""
        path = f"/secrets/{uuid}/acl"
        document = self._expect(self._ask("GET", path), 200).json()
        reading = _mapping(_mapping(document).get("read"))
        known = [user for user in _list(reading.get("users")) if isinstance(user, str)]
        if set(users) <= set(known):
            return
        wanted = {"users": sorted({*known, *users}), "project-access": reading.get("project-access") is not False}
        self._expect(self._ask("PUT", path, document={"read": wanted}), 200)

    def try_out(self, name: str) -> None:
        """Create a secret without content and remove it again."""
        uuid = _uuid(self._expect(self._ask("POST", "/secrets", document={"name": name}, again=False), 201))
        self._expect(self._ask("DELETE", f"/secrets/{uuid}"), 204)

    def _named(self, name: str) -> list[str]:
        query = urlencode({"name": name, "secret_type": "certificate", "limit": 100})
        document = self._expect(self._ask("GET", f"/secrets?{query}"), 200).json()
        refs = [str(_mapping(each).get("secret_ref")) for each in _list(_mapping(document).get("secrets"))]
        return [match[1] for ref in refs if (match := _REF.fullmatch(ref))]

    def _payload(self, uuid: str) -> bytes | None:
        answer = self.cloud.request("key-manager", "GET", f"/secrets/{uuid}/payload", headers=BINARY)
        return None if answer.status == 404 else self._expect(answer, 200).body

    def _ask(self, method: str, path: str, *, document: object = None, again: bool = True) -> Answer:
        return self.cloud.request("key-manager", method, path, document=document, again=again)

    def _expect(self, answer: Answer, status: int) -> Answer:
        if answer.status != status:
            raise BarbicanFailed(f"{self.cloud.name}: {answer.words} ({answer.status})")
        return answer


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _uuid(answer: Answer) -> str:
    match = _REF.fullmatch(str(_mapping(answer.json()).get("secret_ref")))
    if match is None:
        raise BarbicanFailed("Barbican kept the certificate and did not say where")
    return match[1]
