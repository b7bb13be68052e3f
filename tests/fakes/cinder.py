"""As much of Cinder as lists volumes: docs.openstack.org/api-ref/block-storage/v3, and how 29.0.0 does it.

test_fake_nova_cinder.py holds it against what is written there.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from tests.fakes.service import FakeService, Identify, Refusal, Reply, Request, number


@dataclass(frozen=True)
class FakeVolume:
    """`image` is what the volume knows of the image that it was made from; None: it was not."""

    id: str
    project: str
    image: Mapping[str, str] | None = None
    bootable: bool = False
    more: dict[str, object] = field(default_factory=dict)


class FakeCinder(FakeService):
    """Volumes are listed as they are in `volumes`: newest first."""

    def __init__(self, identify: Identify | None = None, volumes: Iterable[FakeVolume] = ()) -> None:
        super().__init__(identify)
        self.volumes = list(volumes)
        self.max_limit = 1000
        self.is_admin = "admin"  # the role of context_is_admin
        self.lists_services = "admin"
        self.shows_image_metadata = "admin"
        self.loses_image_metadata = False  # the database fails while a list is made

    @property
    def endpoint(self) -> str:
        return f"{self.url}/v3/%(project_id)s"

    def open_to_all(self, request: Request) -> bool:
        return request.path in {"", "/v3"}

    def reply(self, request: Request) -> Reply:
        if request.path in {"", "/v3"}:
            return Reply(300 if request.path == "" else 200, {"versions": [self._version()]})
        path = self._within_project(request)
        headers = {"OpenStack-API-Version": "volume 3.0", "Vary": "OpenStack-API-Version"}
        if (request.method, path) == ("GET", "/os-services"):
            self._require(request, self.lists_services, "volume_extension:services:index")
            service = {
                "binary": "cinder-volume",
                "host": "volume1@rbd",
                "status": "enabled",
                "state": "up",
                "zone": "nova",
            }
            return Reply(200, {"services": [service]}, headers)
        if (request.method, path) == ("GET", "/volumes/detail"):
            return Reply(200, self._list(request), headers)
        action = re.fullmatch(r"/volumes/([^/]+)/action", path)
        if request.method == "POST" and action and json.loads(request.body) == {"os-show_image_metadata": None}:
            return Reply(200, {"metadata": self._image_metadata(action[1])}, headers)
        raise Refusal(404, "The resource could not be found.")

    def _version(self) -> dict[str, object]:
        links = [{"rel": "self", "href": f"{self.url}/v3/"}]
        return {"id": "v3.0", "status": "CURRENT", "version": "3.71", "min_version": "3.0", "links": links}

    def _within_project(self, request: Request) -> str:
        """The path after /v3/PROJECT; from 3.67 on /v3 will do."""
        project = request.caller.project if request.caller else None
        rest = request.path.removeprefix("/v3").removeprefix(f"/{project}")
        if not rest.startswith(("/os-services", "/volumes/")):
            raise Refusal(404, "The resource could not be found.")
        return rest

    def _list(self, request: Request) -> dict[str, object]:
        """Whoever is no administrator gets the volumes of the own project, whatever is asked for."""
        everybody = request.flag("all_tenants") and self._has(request, self.is_admin)
        project = None if everybody or request.caller is None else request.caller.project
        listed = [each for each in self.volumes if project in {None, each.project}]
        limit = min(number(request, "limit", self.max_limit), self.max_limit)
        page = listed[self._begin(request, listed) :][:limit]
        records = [self._record(request, each) for each in page]
        return {"volumes": records, **self._links(request, records, limit)}

    def _begin(self, request: Request, listed: list[FakeVolume]) -> int:
        marker = request.query.get("marker")
        if marker is None:
            return 0
        ids = [each.id for each in listed]
        if marker not in ids:
            raise Refusal(404, f"Volume {marker} could not be found.")
        return ids.index(marker) + 1

    def _links(self, request: Request, records: list[dict[str, Any]], limit: int) -> dict[str, object]:
        if not records or len(records) < limit:
            return {}
        project = request.caller.project if request.caller else ""
        query = urlencode({**request.query, "marker": records[-1]["id"]})
        return {"volumes_links": [{"rel": "next", "href": f"{self.url}/v3/{project}/volumes/detail?{query}"}]}

    def _record(self, request: Request, volume: FakeVolume) -> dict[str, Any]:
        shown = self._has(request, self.shows_image_metadata) and not self.loses_image_metadata
        return {
            "id": volume.id,
            "name": "a volume",
            "status": "available",
            "size": 10,
            "bootable": "true" if volume.bootable else "false",
            "os-vol-tenant-attr:tenant_id": volume.project,
            **({"volume_image_metadata": dict(volume.image)} if volume.image and shown else {}),
            **volume.more,
        }

    def _image_metadata(self, volume_id: str) -> Mapping[str, str]:
        volume = next((each for each in self.volumes if each.id == volume_id), None)
        if volume is None:
            raise Refusal(404, f"Volume {volume_id} could not be found.")
        return volume.image or {}

    def _require(self, request: Request, role: str, rule: str) -> None:
        if not self._has(request, role):
            raise Refusal(403, f"Policy doesn't allow {rule} to be performed.")

    def _has(self, request: Request, role: str) -> bool:
        return request.caller is not None and role in request.caller.roles
