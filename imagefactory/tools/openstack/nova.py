"""Nova, the compute service: one method a request, as far as it takes to learn which images servers are made of.

API: docs.openstack.org/api-ref/compute, and the API guide's page on down cells. Four things are easily got wrong:

- While a cell is down Nova leaves its servers out of every list with a limit, a marker or a filter, and says nothing.
  Only what is asked without any, from microversion 2.69 on, has them, with status UNKNOWN and without their image.
- A list has no soft-deleted servers, which their owners may still restore, unless it is asked for deleted ones.
- Filters that somebody may not use are dropped in silence. Only status=DELETED is refused to who is no administrator.
- From 2.3 on administrators are given user data, 64 KiB a server: long lists are asked for in 2.1.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from imagefactory.errors import CloudAnswerInvalid, NoCloudService
from imagefactory.tools.openstack.paging import Record, document_of, pages, records
from imagefactory.tools.openstack.session import Cloud

PLAIN: Final = "2.1"
DOWN_CELLS: Final = "2.69"  # Stein, 2019
UNKNOWN: Final = "UNKNOWN"
ALL: Final = {"all_tenants": "true"}
SOFT_DELETED: Final = {"deleted": "true", "status": "SOFT_DELETED"}


@dataclass(frozen=True)
class Nova:
    """The compute service of a cloud in one region. Every method raises what `Cloud.request` raises, too."""

    cloud: Cloud

    def down_hosts(self) -> list[str]:
        """The compute hosts whose cell does not answer. Raises NoCloudService when this Nova cannot tell."""
        document = self._ask("/os-services", {}, DOWN_CELLS)
        listed = document.get("services") if isinstance(document, dict) else None
        if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
            raise CloudAnswerInvalid(f"{self.cloud.name}: a list of services that is none")
        return [str(each.get("host"))[:255] for each in listed if each.get("status") == UNKNOWN]

    def unknown_servers(self) -> list[str]:
        """Servers of all projects whose cell does not answer, as far as the first page without a limit has them."""
        listed = records(self.cloud.name, "servers", self._ask("/servers", ALL, DOWN_CELLS))
        return [each["id"] for each in listed if each.get("status") == UNKNOWN]

    def may_ask_for_deleted(self) -> None:
        """Returns when we are an administrator to Nova; raises CloudForbidden otherwise."""
        records(self.cloud.name, "servers", self._ask("/servers", {**ALL, "status": "DELETED", "limit": "1"}, PLAIN))

    def servers(self) -> Iterator[list[Record]]:
        """The servers of all projects with their details, page by page."""
        return self._pages(ALL)

    def soft_deleted(self) -> Iterator[list[Record]]:
        """The servers of all projects that are deleted and can be restored."""
        return self._pages({**ALL, **SOFT_DELETED})

    def _pages(self, filters: Mapping[str, str]) -> Iterator[list[Record]]:
        def ask(query: Mapping[str, str]) -> object:
            return self._ask("/servers/detail", {**filters, **query}, PLAIN)

        return pages(self.cloud.name, "servers", ask)

    def _ask(self, path: str, query: Mapping[str, str], microversion: str) -> object:
        said = f"compute {microversion}"
        where = f"{path}?{urlencode(query)}" if query else path
        answer = self.cloud.request("compute", "GET", where, headers={"OpenStack-API-Version": said})
        if microversion != PLAIN and (answer.status == 406 or answer.microversion != said):
            raise NoCloudService(
                f"{self.cloud.name}: this Nova does not speak {microversion}, so that it cannot say whether a part of "
                "it is down",
                advice="Nova does from Stein (2019) on; nothing is deleted in an older cloud",
            )
        return document_of(self.cloud.name, "servers", answer, query)
