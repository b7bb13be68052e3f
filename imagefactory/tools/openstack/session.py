"""One cloud of clouds.yaml: its token, its services, and what their answers mean.

Every request has a deadline, every answer a size. What may be asked twice is asked again when the network fails or the
service says that it is busy; a service that says when to come back is believed up to a limit.
"""

import copy
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, TypeVar

import openstack.config
import yaml
from keystoneauth1 import exceptions as ksa
from keystoneauth1.adapter import Adapter
from keystoneauth1.identity.base import BaseIdentityPlugin
from openstack.config.cloud_region import CloudRegion
from openstack.exceptions import ConfigException
from requests import RequestException, Response
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter
from urllib3.exceptions import HTTPError

from imagefactory import __version__
from imagefactory.errors import (
    BarbicanFailed,
    CloudAnswerInvalid,
    CloudAnswerTooLarge,
    CloudAuthFailed,
    CloudForbidden,
    CloudQuota,
    CloudUnknown,
    CloudUnreachable,
    FactoryError,
    NoCloudService,
    NoImageService,
)

T = TypeVar("T")
Service = Literal["image", "key-manager", "compute", "block-storage"]
MOST_JSON: Final = 8 << 20  # bytes of an answer that is not image data
CONNECT: Final = 15.0  # seconds
ANSWER: Final = 60.0  # seconds without a byte
WHOLE_ANSWER: Final = 300.0  # seconds for a JSON answer to arrive
MOST_WORDS: Final = 300  # characters of a server's own words in a message of ours
BUSY: Final = frozenset({429, 502, 503, 504})
VERSIONS: Final[Mapping[Service, str]] = {"image": "2", "key-manager": "1", "compute": "2.1", "block-storage": "3"}

# Both warn about what is an error of ours, with a code, a moment later.
for _name in ("openstack", "keystoneauth"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Patience:
    """How often a request is made again, and how long is waited at most before each time (seconds)."""

    attempts: int = 5
    longest: float = 30.0
    first: float = 0.5


PATIENCE = Patience()


class Again(Exception):
    """What went wrong may go right a moment later. `after`: the seconds that the service asks for."""

    def __init__(self, error: FactoryError, after: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.after = after


@dataclass(frozen=True)
class Answer:
    """A whole answer: its status, its body, which is not yet trusted, and the microversion that it claims to follow
    ("compute 2.69"), if any."""

    status: int
    body: bytes
    microversion: str = ""

    def json(self) -> Any:  # noqa: ANN401 - whoever asked knows what it should be
        """The body as JSON. Raises CloudAnswerInvalid."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise CloudAnswerInvalid("an answer that should be JSON is not") from error

    @property
    def words(self) -> str:
        """What the service says, on one line and not too long: without the HTML that some wrap it in."""
        text = self.body[: MOST_WORDS * 8].decode(errors="replace")
        try:
            found = json.loads(text)
            text = str(found.get("message") or found.get("description") or found.get("error") or text)
        except (ValueError, AttributeError, RecursionError):
            text = _without_tags(text)
        words = "".join(c if c.isprintable() else " " for c in text)
        return " ".join(words.split())[:MOST_WORDS] or f"status {self.status}"


class Cloud:
    """A cloud that clouds.yaml names, logged in when the first request needs it."""

    def __init__(self, name: str, patience: Patience | None = None) -> None:
        """Read clouds.yaml. Raises CloudUnknown."""
        self.name = name
        self.patience = patience or PATIENCE
        self._region = _region(name)
        self._session = self._asked(self._region.get_session)
        # Keystone and the discovery of versions: credentials go nowhere else, and nobody waits for ever.
        self._session.redirect = False
        self._session.timeout = self._session.timeout or ANSWER
        self._adapters: dict[Service, Adapter] = {}
        self._elsewhere: str | None = None  # a region other than the one of clouds.yaml

    def __repr__(self) -> str:
        return f"Cloud({self.name!r})"

    @property
    def project(self) -> str:
        """The id of the project that our credentials are for. Raises like `request`."""
        found = self._asked(self._session.get_project_id)
        if not isinstance(found, str) or not found:
            raise CloudAuthFailed(f"{self.name}: the credentials are for no project")
        return found

    @property
    def user(self) -> str:
        """The id of the user whom our credentials are for. Raises like `request`."""
        return str(self._asked(self._session.get_user_id))

    @property
    def roles(self) -> tuple[str, ...]:
        """The names of the roles that our token carries. Raises like `request`."""
        return tuple(sorted(self._asked(lambda: self._identity.get_access(self._session).role_names or ())))

    @property
    def whole_system(self) -> bool:
        """Whether our token is for the system, not for a project. Raises like `request`."""
        return bool(self._asked(lambda: self._identity.get_access(self._session).system_scoped))

    @property
    def delegated(self) -> bool:
        """Whether our token comes from an application credential, with which Keystone makes no further token: Glance
        then cannot ask Barbican in our name. Raises like `request`."""
        access = self._asked(lambda: self._identity.get_access(self._session))
        return getattr(access, "application_credential_id", None) is not None

    def endpoint(self, service: Service) -> str | None:
        """Where a service is, or None when this cloud has none in this region. Raises like `request`."""
        override: str | None = self._region.get_endpoint(service)
        if override:
            return override

        def look() -> str | None:
            with suppress(ksa.EndpointNotFound):
                found: str | None = self._session.get_endpoint(
                    service_type=service,
                    region_name=self._region_name(service),
                    interface=self._region.get_interface(service),
                )
                return found
            return None

        return self._asked(look)

    def regions(self, service: Service) -> tuple[str, ...]:
        """The regions in which Keystone's catalogue has a service, at whichever interface; nothing when it has none.
        Where clouds.yaml says itself at which address the service is, only its region. Raises like `request`."""
        if self._region.get_endpoint(service):
            return (self._region_name(service) or "",)

        def look() -> tuple[str, ...]:
            catalogue = self._identity.get_access(self._session).service_catalog
            found = catalogue.get_endpoint_data_list(service_type=service, interface=None)
            return tuple(sorted({each.region_name or "" for each in found}))

        return self._asked(look)

    def in_region(self, region: str) -> Self:
        """The same cloud, with the same token, in another region; "" is the one of clouds.yaml."""
        other = copy.copy(self)
        other.name = f"{self.name} in {region}" if region else self.name
        other._elsewhere, other._adapters = region or None, {}
        return other

    def freshen(self, seconds: int) -> None:
        """Get a new token unless the one we have is good for `seconds` more. Raises like `request`."""
        if self._asked(lambda: self._identity.get_access(self._session).will_expire_soon(seconds)):
            self._identity.invalidate()

    def request(
        self,
        service: Service,
        method: str,
        path: str,
        *,
        document: object = None,
        headers: Mapping[str, str] | None = None,
        again: bool = True,
    ) -> Answer:
        """Make a request and read its answer. `again` says that making it twice does no harm.

        Raises CloudAuthFailed, CloudForbidden, CloudQuota, NoImageService, NoCloudService, CloudUnreachable,
        CloudAnswerInvalid, CloudAnswerTooLarge, and returns any other status.
        """
        body = {} if document is None else {"data": json.dumps(document)}
        sent = {"Content-Type": "application/json", "Accept": "application/json", **(headers or {})}

        def once() -> Answer:
            with self.opened(service, method, path, headers=sent, **body) as response:
                return self.judged(service, read_answer(response), response)

        return self.patiently(once) if again else self.once(once)

    @contextmanager
    def opened(self, service: Service, method: str, path: str, **options: Any) -> Iterator[Response]:  # noqa: ANN401
        """The answer to a request, its body not yet read. Raises Again or what `request` raises."""
        if not path.startswith("/") or path.startswith("//"):
            raise CloudAnswerInvalid(f"{self.name}: {path[:80]!r} is no path of a service")
        with self.translated(service):
            adapter = self._adapter(service)
            response = adapter.request(
                path,
                method,
                raise_exc=False,
                stream=True,
                timeout=options.pop("timeout", (CONNECT, ANSWER)),
                connect_retries=0,
                status_code_retries=0,
                redirect=False,
                log=False,
                **options,
            )
            try:
                yield response
            finally:
                response.close()

    @property
    def _identity(self) -> BaseIdentityPlugin:
        if not isinstance(self._session.auth, BaseIdentityPlugin):
            raise CloudUnknown(f"{self.name}: clouds.yaml logs in without Keystone, which is not supported")
        return self._session.auth

    def _asked(self, work: Callable[[], T]) -> T:
        def once() -> T:
            with self.translated(), _sane(self.name):
                return work()

        return self.patiently(once)

    def patiently(self, once: Callable[[], T]) -> T:
        """Call `once` until it does not raise Again, or patience ends."""
        patience = self.patience
        backoff = wait_exponential_jitter(multiplier=patience.first, max=patience.longest, jitter=patience.first)

        def wait(state: RetryCallState) -> float:
            failure = state.outcome.exception() if state.outcome else None
            asked = failure.after if isinstance(failure, Again) else None
            return backoff(state) if asked is None else asked

        retrying = Retrying(
            stop=stop_after_attempt(patience.attempts), wait=wait, retry=retry_if_exception_type(Again), reraise=True
        )
        return self.once(lambda: retrying(once))

    def once(self, work: Callable[[], T]) -> T:
        """Call `work`; when it says Again, that is final."""
        try:
            return work()
        except Again as failure:
            raise failure.error from failure

    def judged(self, service: Service, answer: Answer, response: Response) -> Answer:
        """An answer that is about the request, or an error about who asks and about the service."""
        place, status = f"{self.name}: {service}", answer.status
        if status == 401:
            raise CloudAuthFailed(f"{place} does not accept our token: {answer.words}")
        if status == 403:
            raise CloudForbidden(f"{place}: {answer.words}")
        if status == 413:
            raise CloudQuota(f"{place}: {answer.words}")
        if status in BUSY:
            after = _seconds(response.headers.get("Retry-After"))
            busy = _failed(service)(f"{place} answered {status}: {answer.words}")
            if after is not None and after > self.patience.longest:
                raise _failed(service)(f"{busy.message}; it asks to come back after {after:.0f} s")
            raise Again(busy, after)
        if status >= 500:
            raise _failed(service)(f"{place} answered {status}: {answer.words}")
        if 300 <= status < 400 and status != 300:
            raise CloudAnswerInvalid(f"{place} wants us to go elsewhere ({status}), which is not done with a token")
        return answer

    @contextmanager
    def translated(self, service: Service | None = None) -> Iterator[None]:
        """Errors of the libraries below as ours. Failures of the network come as Again."""
        try:
            yield
        except (ksa.Unauthorized, ksa.NotFound) as error:  # 404: an application credential that is gone
            raise CloudAuthFailed(f"{self.name}: {_said(error)}") from error
        except (ksa.MissingRequiredOptions, ksa.AuthPluginException, ksa.MissingAuthMethods) as error:
            raise CloudUnknown(f"{self.name}: clouds.yaml is not complete: {_said(error)}") from error
        except ksa.EndpointNotFound as error:
            raise _missing(service)(f"{self.name}: {_said(error)}") from error
        except ksa.TooManyRequests as error:
            raise Again(_failed(service)(f"{self.name}: {_said(error)}")) from error
        except ksa.HTTPClientError as error:
            raise CloudAuthFailed(f"{self.name}: {_said(error)}") from error
        except (ksa.ClientException, RequestException, HTTPError, OSError) as error:
            raise Again(_failed(service)(f"{self.name}: {_said(error)}")) from error

    def _region_name(self, service: Service) -> str | None:
        named: str | None = self._elsewhere or self._region.get_region_name(service)
        return named

    def _adapter(self, service: Service) -> Adapter:
        """Requests to a service, at the address that discovery of its versions gives. Raises what `_missing` says."""
        if service not in self._adapters:
            region = self._region
            adapter = Adapter(
                self._session,
                service_type=service,
                region_name=self._region_name(service),
                interface=region.get_interface(service),
                endpoint_override=region.get_endpoint(service),
                version=VERSIONS[service],
            )
            with _sane(self.name):
                found = adapter.get_endpoint_data()
            if found is None or found.url is None:
                raise _missing(service)(f"{self.name} has no {service} service of version {VERSIONS[service]}")
            adapter.endpoint_override = found.url
            self._adapters[service] = adapter
        return self._adapters[service]


@contextmanager
def _sane(name: str) -> Iterator[None]:
    """What the libraries below stumble over in an answer of Keystone or of a service's list of versions."""
    try:
        yield
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise CloudAnswerInvalid(f"{name}: an answer that nobody understands: {_said(error)}") from error


def _missing(service: Service | None) -> type[FactoryError]:
    return NoCloudService if service in {"compute", "block-storage"} else NoImageService


def _failed(service: Service | None) -> type[FactoryError]:
    return BarbicanFailed if service == "key-manager" else CloudUnreachable


def _region(name: str) -> CloudRegion:
    try:
        return openstack.config.OpenStackConfig(app_name="imagefactory", app_version=__version__).get_one(cloud=name)
    except (ConfigException, ksa.ClientException) as error:
        raise CloudUnknown(f"{name}: {_said(error)}") from error
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise CloudUnknown(f"{name}: clouds.yaml cannot be read: {_said(error)}") from error


def read_answer(response: Response) -> Answer:
    """The body, whole. Raises CloudAnswerTooLarge, and CloudAnswerInvalid when it has no end."""
    deadline = time.monotonic() + WHOLE_ANSWER
    body = bytearray()
    # read1 gives what is there: a server that drips is not waited for until a piece is full.
    while piece := response.raw.read1(64 << 10, decode_content=True):
        body += piece
        if len(body) > MOST_JSON:
            raise CloudAnswerTooLarge(f"an answer has more than {MOST_JSON} bytes")
        if time.monotonic() > deadline:
            raise CloudAnswerInvalid(f"an answer has not ended after {WHOLE_ANSWER:.0f} s")
    return Answer(response.status_code, bytes(body), response.headers.get("OpenStack-API-Version", ""))


def _said(error: BaseException) -> str:
    """The words of an exception, bounded. Libraries put addresses into them, never tokens."""
    words = "".join(c if c.isprintable() else " " for c in str(error))
    return " ".join(words.split())[:MOST_WORDS] or type(error).__name__


def _seconds(text: str | None) -> float | None:
    """Retry-After in seconds (RFC 9110, section 10.2.3); its form as a date is not used by OpenStack."""
    return float(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else None


def _without_tags(text: str) -> str:
    """The text of an HTML page, as far as it matters in one line of an error."""
    return " ".join(piece.partition(">")[2] if ">" in piece else piece for piece in text.split("<"))
