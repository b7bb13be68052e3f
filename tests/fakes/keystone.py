"""As much of Keystone as it takes to log in with a password: docs.openstack.org/api-ref/identity/v3."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.fakes.service import Caller, FakeService, Refusal, Reply, Request

PASSWORD = "a password for tests"


@dataclass(frozen=True)
class Endpoint:
    """An entry of the catalogue. $(project_id)s in `url` is the project's id, and the entry is left out without one."""

    kind: str
    url: str
    region: str = "RegionOne"
    interface: str = "public"


class FakeKeystone(FakeService):
    """Users log in with PASSWORD; each is in one project, or in none and in the system."""

    def __init__(self, users: Mapping[str, Caller]) -> None:
        self.users = dict(users)
        self.tokens: dict[str, Caller] = {}
        self.catalogue: list[Endpoint] = []
        super().__init__(self.tokens.get)

    def open_to_all(self, request: Request) -> bool:
        return request.path in {"", "/v3"} or (request.method, request.path) == ("POST", "/v3/auth/tokens")

    def reply(self, request: Request) -> Reply:
        if request.path in {"", "/v3"}:
            return self._version(request)
        if (request.method, request.path) == ("POST", "/v3/auth/tokens"):
            return self._log_in(json.loads(request.body)["auth"])
        raise Refusal(404, f"Not Found: {request.path}")

    def clouds_yaml(self, path: Path, region: str | None = "RegionOne", **more: object) -> Path:
        """An entry for each user, with its name."""
        clouds = {
            name: {**self._entry(name), **({"region_name": region} if region else {}), **more} for name in self.users
        }
        path.write_text(json.dumps({"clouds": clouds}))  # which is YAML, too
        return path

    def _entry(self, name: str) -> dict[str, object]:
        auth = {"auth_url": f"{self.url}/v3", "username": name, "password": PASSWORD, "user_domain_name": "Default"}
        project = self.users[name].project
        scope = {"system_scope": "all"} if project is None else {"project_id": project}
        return {"auth": auth | scope}

    def _version(self, request: Request) -> Reply:
        version = {"id": "v3.14", "status": "stable", "links": [{"rel": "self", "href": f"{self.url}/v3/"}]}
        if request.path == "/v3":
            return Reply(200, {"version": version})
        return Reply(300, {"versions": {"values": [version]}})

    def _log_in(self, auth: Mapping[str, Any]) -> Reply:
        said = auth["identity"]["password"]["user"]
        caller = self.users.get(said["name"])
        if caller is None or said["password"] != PASSWORD:
            raise Refusal(401, "The request you have made requires authentication.")
        scope = auth.get("scope", {})
        if scope != ({"system": {"all": True}} if caller.project is None else {"project": {"id": caller.project}}):
            raise Refusal(401, "No such scope.")
        token = uuid4().hex
        self.tokens[token] = caller
        return Reply(201, {"token": self._token(caller)}, {"X-Subject-Token": token})

    def _token(self, caller: Caller) -> dict[str, object]:
        now = datetime.now(UTC)
        domain = {"id": "default", "name": "Default"}
        project = {"project": {"id": caller.project, "name": caller.project, "domain": domain}}
        return {
            "methods": ["password"],
            "user": {"id": caller.user, "name": caller.user, "domain": domain},
            "roles": [{"id": uuid4().hex, "name": role} for role in sorted(caller.roles)],
            "issued_at": now.isoformat().replace("+00:00", "Z"),
            "expires_at": (now + timedelta(hours=1)).isoformat().replace("+00:00", "Z"),
            "catalog": self._catalogue(caller),
            **({"system": {"all": True}} if caller.project is None else project),
        }

    def _catalogue(self, caller: Caller) -> list[dict[str, object]]:
        shown = [each for each in self.catalogue if caller.project or "%(project_id)s" not in each.url]
        return [
            {
                "type": kind,
                "id": kind,
                "name": kind,
                "endpoints": [
                    {
                        "id": uuid4().hex,
                        "interface": each.interface,
                        "region": each.region,
                        "region_id": each.region,
                        "url": each.url.replace("%(project_id)s", caller.project or ""),
                    }
                    for each in shown
                    if each.kind == kind
                ],
            }
            for kind in dict.fromkeys(each.kind for each in shown)
        ]
