"""Cinder, the block storage service: one method a request, as far as it takes to learn which images volumes are of.

API: docs.openstack.org/api-ref/block-storage/v3. Cinder never refuses `all_tenants`: who is no administrator gets the
volumes of the own project, with status 200. And when its database fails while it looks up the image metadata of a
page, it leaves them out and says nothing. Snapshots need no list of their own: while one is there, so is its volume.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode

from imagefactory.errors import CloudAnswerInvalid
from imagefactory.tools.openstack.paging import Record, document_of, pages
from imagefactory.tools.openstack.session import Answer, Cloud

ALL: Final = {"all_tenants": "true"}


@dataclass(frozen=True)
class Cinder:
    """The block storage service of a cloud in one region. Every method raises what `Cloud.request` raises, too."""

    cloud: Cloud

    def may_list_services(self) -> None:
        """Returns when we are an administrator to Cinder; raises CloudForbidden otherwise."""
        self._expect(self.cloud.request("block-storage", "GET", "/os-services"), {})

    def volumes(self) -> Iterator[list[Record]]:
        """The volumes of all projects with their details, page by page; of our project alone if we may see no more."""

        def ask(query: Mapping[str, str]) -> object:
            sent = {**ALL, **query}
            return self._expect(self.cloud.request("block-storage", "GET", f"/volumes/detail?{urlencode(sent)}"), sent)

        return pages(self.cloud.name, "volumes", ask)

    def image_metadata(self, volume_id: str) -> Mapping[str, object] | None:
        """What one volume knows of the image that it was made from; None when there is no such volume any more."""
        path, asked = f"/volumes/{quote(volume_id, safe='')}/action", {"os-show_image_metadata": None}
        answer = self.cloud.request("block-storage", "POST", path, document=asked)
        if answer.status == 404:
            return None
        document = self._expect(answer, {})
        found = document.get("metadata") if isinstance(document, dict) else None
        if not isinstance(found, dict):
            raise CloudAnswerInvalid(f"{self.cloud.name}: metadata of volume {volume_id} that are none")
        return found

    def _expect(self, answer: Answer, query: Mapping[str, str]) -> object:
        return document_of(self.cloud.name, "volumes", answer, query)
