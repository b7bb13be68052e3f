"""As much of Nova as lists servers and services: docs.openstack.org/api-ref/compute, and how 34.0.0 does it.

test_fake_nova_cinder.py holds it against what is written there.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from tests.fakes.service import FakeService, Identify, Refusal, Reply, Request, number

PAGING = {"limit", "marker", "sort_key", "sort_dir"}
OF_EVERYBODY = {"all_tenants", "status", "name", "image", "flavor", "changes-since", "reservation_id", "ip", "ip6"}
VM_STATES = {"ACTIVE": "active", "SHUTOFF": "stopped", "ERROR": "error", "BUILD": "building", "RESCUE": "rescued"} | {
    "SHELVED": "shelved", "SHELVED_OFFLOADED": "shelved_offloaded", "SOFT_DELETED": "soft-delete", "DELETED": "deleted"
}  # fmt: skip


@dataclass(frozen=True)
class FakeServer:
    """`image` is "" for a server that was booted from a volume."""

    id: str
    project: str
    image: str
    status: str = "ACTIVE"
    volumes: tuple[str, ...] = ()
    cell: str = "cell1"
    more: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class FakeHost:
    host: str
    cell: str = "cell1"


class FakeNova(FakeService):
    """Servers are listed as they are in `servers`: newest first. `down` are cells that do not answer."""

    oldest, newest = (2, 1), (2, 104)

    def __init__(self, identify: Identify | None = None, servers: Iterable[FakeServer] = ()) -> None:
        super().__init__(identify)
        self.servers = list(servers)
        self.hosts = [FakeHost("compute1")]
        self.down: set[str] = set()
        self.skips_down_cells = True
        self.max_limit = 1000
        self.lists_all = "admin"  # the role that os_compute_api:servers:detail:get_all_tenants takes, and index
        self.lists_services = "admin"
        self.all_filters = "admin"
        self.is_admin = "admin"  # the role of context_is_admin
        self.refuses_large_limits = False

    @property
    def endpoint(self) -> str:
        return f"{self.url}/v2.1"

    def open_to_all(self, request: Request) -> bool:
        return request.path in {"", "/v2.1"}

    def reply(self, request: Request) -> Reply:
        if request.path == "":
            return Reply(200, {"versions": [self._version()]})
        if request.path == "/v2.1":
            return Reply(200, {"version": self._version()})
        microversion = self._microversion(request)
        text = f"{microversion[0]}.{microversion[1]}"
        names = {"OpenStack-API-Version": f"compute {text}", "X-OpenStack-Nova-API-Version": text}
        headers = {**names, "Vary": "OpenStack-API-Version, X-OpenStack-Nova-API-Version"}
        if request.method != "GET":
            raise Refusal(404, "The resource could not be found.")
        if request.path == "/v2.1/os-services":
            return Reply(200, self._services(request, microversion), headers)
        if request.path in {"/v2.1/servers", "/v2.1/servers/detail"}:
            return Reply(200, self._list(request, microversion, detail=request.path.endswith("/detail")), headers)
        raise Refusal(404, "The resource could not be found.")

    def _version(self) -> dict[str, object]:
        return {
            "id": "v2.1",
            "status": "CURRENT",
            "version": "{}.{}".format(*self.newest),
            "min_version": "{}.{}".format(*self.oldest),
            "links": [{"rel": "self", "href": f"{self.endpoint}/"}],
        }

    def _microversion(self, request: Request) -> tuple[int, int]:
        service, _, text = request.headers.get("openstack-api-version", "compute 2.1").partition(" ")
        if service != "compute":
            return self.oldest
        major, _, minor = text.partition(".")
        if not (major.isdigit() and minor.isdigit()):
            raise Refusal(400, f"API Version String {text} is of invalid format.")
        if not self.oldest <= (int(major), int(minor)) <= self.newest:
            raise Refusal(406, f"Version {text} is not supported by the API.")
        return int(major), int(minor)

    def _services(self, request: Request, microversion: tuple[int, int]) -> dict[str, object]:
        if self.lists_services not in _roles(request):
            raise Refusal(403, "Policy doesn't allow os_compute_api:os-services:list to be performed.")
        listed: list[dict[str, object]] = []
        for each in self.hosts:
            record: dict[str, object] = {"binary": "nova-compute", "host": each.host}
            if each.cell not in self.down:
                listed.append({**record, "status": "enabled", "state": "up", "zone": "nova", "disabled_reason": None})
            elif microversion >= (2, 69):
                listed.append({**record, "status": "UNKNOWN"})
        return {"services": listed}

    def _list(self, request: Request, microversion: tuple[int, int], *, detail: bool) -> dict[str, object]:
        everybody = request.flag("all_tenants")
        if everybody and self.lists_all not in _roles(request):
            rule = f"os_compute_api:servers:{'detail' if detail else 'index'}:get_all_tenants"
            raise Refusal(403, f"Policy doesn't allow {rule} to be performed.")
        filters = {key: value for key, value in request.query.items() if key not in PAGING | {"all_tenants"}}
        if self.all_filters not in _roles(request):
            filters = {key: value for key, value in filters.items() if key in OF_EVERYBODY}
        partial = microversion >= (2, 69) and not filters and not PAGING & set(request.query)
        if self.down and not partial and not self.skips_down_cells:
            raise Refusal(500, "Unexpected API Error. Please report this at http://bugs.launchpad.net/nova/")
        project = None if everybody else request.caller and request.caller.project
        found = [each for each in self._matching(request, filters) if project in {None, each.project}]
        there = [each for each in found if each.cell not in self.down]
        limit = self._limit(request)
        page = there[self._begin(request, there) :][:limit]
        lost = [each for each in found if each.cell in self.down] if partial and everybody else []
        lost = lost[: limit - len(page)]
        records = [self._lost(each, detail) for each in lost] + [
            self._record(each, detail, microversion) for each in page
        ]
        return {"servers": records, **self._links(request, records, limit, detail=detail)}

    def _matching(self, request: Request, filters: dict[str, str]) -> list[FakeServer]:
        """The servers that filters leave. Deleted ones, soft-deleted ones too, only when they are asked for."""
        states = None
        if "status" in filters:
            state = VM_STATES.get(filters["status"].upper())
            if state is None:
                return []
            if state == "deleted" and self.is_admin not in _roles(request):
                raise Refusal(403, "Only administrators may list deleted instances")
            states = {state}
        deleted = filters.get("deleted", "").lower() in {"1", "t", "true", "yes"} or states == {"deleted"}
        gone = {"SOFT_DELETED", "DELETED"}
        shown = [each for each in self.servers if (each.status in gone) == deleted]
        return [each for each in shown if states is None or VM_STATES[each.status] in states]

    def _limit(self, request: Request) -> int:
        limit = number(request, "limit", self.max_limit)
        if self.refuses_large_limits and limit > self.max_limit:
            raise Refusal(413, "The limit is larger than this deployment supports.")
        return min(limit, self.max_limit)

    def _begin(self, request: Request, listed: list[FakeServer]) -> int:
        marker = request.query.get("marker")
        if marker is None:
            return 0
        ids = [each.id for each in listed]
        if marker not in ids:
            raise Refusal(400, f"marker [{marker}] not found")
        return ids.index(marker) + 1

    def _links(self, request: Request, records: list[dict[str, Any]], limit: int, *, detail: bool) -> dict[str, object]:
        if not records or len(records) != limit:
            return {}
        query = urlencode({**request.query, "marker": records[-1]["id"]})
        path = "servers/detail" if detail else "servers"
        return {"servers_links": [{"rel": "next", "href": f"{self.endpoint}/{path}?{query}"}]}

    def _lost(self, server: FakeServer, detail: bool) -> dict[str, Any]:
        more = {"tenant_id": server.project, "created": "2026-11-01T00:00:00Z"} if detail else {}
        return {"id": server.id, "status": "UNKNOWN", "links": self._self(server), **more}

    def _record(self, server: FakeServer, detail: bool, microversion: tuple[int, int]) -> dict[str, Any]:
        record: dict[str, Any] = {"id": server.id, "name": "a server", "links": self._self(server)}
        if not detail:
            return record
        image = {"id": server.image, "links": [{"rel": "bookmark", "href": f"{self.url}/images/{server.image}"}]}
        return {
            **record,
            "status": server.status,
            "tenant_id": server.project,
            "image": image if server.image else "",
            "os-extended-volumes:volumes_attached": [{"id": each} for each in server.volumes],
            **({"OS-EXT-SRV-ATTR:user_data": "IyEvYmluL3NoCg=="} if microversion >= (2, 3) else {}),
            **server.more,
        }

    def _self(self, server: FakeServer) -> list[dict[str, str]]:
        return [{"rel": "self", "href": f"{self.endpoint}/servers/{server.id}"}]


def _roles(request: Request) -> frozenset[str]:
    return request.caller.roles if request.caller else frozenset()
