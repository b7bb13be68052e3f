"""A cloud as far as its lists go, whose services answer what they like: no sockets, no waiting."""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Final, TypeVar, cast

from imagefactory.tools.openstack.session import Again, Answer, Cloud

T = TypeVar("T")
DATE: Final = b"Sun, 22 Nov 2026 12:00:00 GMT"
OWNER: Final = "abc"
EMPTY: Final = b'{"images": [], "servers": [], "volumes": [], "services": [], "members": []}'


class Hostile:
    """Its answers are `bodies`, one after the other, with a header Date; afterwards every list is empty."""

    name, project, roles, whole_system = "hostile", OWNER, ("admin",), False

    def __init__(self, bodies: list[bytes], date: bytes = DATE) -> None:
        self._bodies = iter(bodies)
        self._date = date.decode("latin-1")
        self._answered: list[tuple[str, bytes]] = []

    @property
    def cloud(self) -> Cloud:
        """What the code under test takes for one."""
        return cast("Cloud", self)

    def listed(self, key: str) -> list[dict[str, Any]]:
        """The records of all answers to questions for details."""
        said = [json.loads(body)[key] for path, body in self._answered if path.startswith(f"/{key}/detail")]
        return [each for records in said for each in records]

    def endpoint(self, _: str) -> str:
        return "http://127.0.0.1/"

    def regions(self, _: str) -> tuple[str, ...]:
        return ("RegionOne",)

    def in_region(self, _: str) -> "Hostile":
        return self

    def patiently(self, once: Callable[[], T]) -> T:
        try:
            return once()
        except Again as failure:
            raise failure.error from failure

    def request(self, _: str, __: str, path: str, *, headers: Mapping[str, str] | None = None, **___: object) -> Answer:
        body = next(self._bodies, EMPTY)
        self._answered.append((path, body))
        return Answer(200, body, (headers or {}).get("OpenStack-API-Version", ""))

    @contextmanager
    def opened(self, *_: object, **__: object) -> Iterator[Any]:
        body = io.BytesIO(next(self._bodies, EMPTY))
        yield SimpleNamespace(status_code=200, raw=body, headers={"Date": self._date})
