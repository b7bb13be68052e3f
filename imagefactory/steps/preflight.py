"""What an account may do in a cloud, and what that cloud does with signatures: asked of the services, not assumed.

What can only be known by trying is tried on an image and a secret of its own, which are removed again at once. What
cannot be seen from outside is "unknown", never guessed.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal
from uuid import uuid4

from imagefactory.errors import (
    BarbicanFailed,
    CloudForbidden,
    CloudQuota,
    CloudUnreachable,
    FactoryError,
    GlanceRefused,
    GlanceRefusedSignature,
)
from imagefactory.model.glance import SIGNATURE_PROPERTIES, GlanceImage, creation
from imagefactory.tools.openstack.barbican import Barbican
from imagefactory.tools.openstack.glance import Glance
from imagefactory.tools.openstack.session import Again, Cloud
from signing.glance import HASH_METHOD, KEY_TYPE

Outcome = Literal["yes", "no", "unknown"]
PROBE: Final = "imagefactory-preflight"
DATA: Final = bytes(4096)

# What no API tells, and what an operator does about it. Names of options: nova's and glance's configuration references.
OPERATOR: Final = (
    ("glance-api.conf", "[key_manager] backend = barbican", "Glance verifies what is uploaded, and finds certificates"),
    (
        "glance-api.conf",
        "[DEFAULT] property_protection_file = FILE, with img_signature.* and imagefactory_.* for the publisher only",
        "nobody else in the project changes or removes a signature afterwards",
    ),
    ("nova.conf", "[glance] verify_glance_signatures = true", "Nova verifies what it downloads for an instance"),
    ("nova.conf", "[glance] enable_certificate_validation = true", "Nova wants a certificate that somebody trusts"),
    (
        "nova.conf",
        "[glance] default_trusted_certificate_ids = UUID of our CA in Barbican",
        "and that somebody is us, also for users who name no certificate",
    ),
    ("nova.conf", "[key_manager] backend = barbican", "Nova finds the certificates"),
)
GAPS: Final = (
    "instances on Ceph: Nova clones the image inside RBD and verifies nothing",
    "image cache of a compute host: what was verified once is not verified again",
    "boot from volume: Cinder copies the image, Nova never sees it",
    "imports by glance-download drop signatures; imports by location verify nothing",
)


@dataclass(frozen=True)
class Finding:
    """One thing that was asked: the answer, what was seen, and what to do about a no."""

    question: str
    outcome: Outcome
    detail: str
    advice: str = ""

    def to_json(self) -> dict[str, str]:
        return dict(vars(self))


@dataclass(frozen=True)
class Preflight:
    """What was found in a cloud. `ready` tells whether a release can be published there, privately and signed."""

    cloud: str
    project: str
    user: str
    roles: tuple[str, ...]
    findings: tuple[Finding, ...]
    formats: tuple[str, ...]

    @property
    def ready(self) -> bool:
        answers = {finding.question: finding.outcome for finding in self.findings}
        return answers.get(CREATE) == "yes" and answers.get(UPLOAD) == "yes"


CREATE, UPLOAD = "create images", "upload data"
SEEN_BY = {
    "shared": "role member (policy modify_image)",
    "community": "role member (policy communitize_image)",
    "public": "a role that policy publicize_image names: admin, unless the operator chose another",
}


def preflight(name: str) -> Preflight:
    """Ask a cloud of clouds.yaml. Raises CloudUnknown, CloudAuthFailed, NoImageService, CloudUnreachable."""
    cloud = Cloud(name)
    glance = Glance(cloud)
    project, user, roles = cloud.project, cloud.user, cloud.roles
    glance.require()
    formats = glance.formats()
    findings = [
        _formats(formats),
        *_images(glance),
        *_usage(glance.usage()),
        *_barbican(cloud),
        Finding(
            "Nova verifies signatures",
            "unknown",
            "no API tells; it is off by default",
            "ask the operator; what they configure is below",
        ),
    ]
    return Preflight(name, project, user, roles, tuple(findings), formats)


def _formats(formats: tuple[str, ...]) -> Finding:
    ours = [each for each in ("qcow2", "raw") if each in formats]
    if not formats:
        return Finding("take qcow2 or raw", "unknown", "the image schema does not list formats")
    if not ours:
        return Finding("take qcow2 or raw", "no", f"takes {', '.join(formats)}", "publish to another cloud")
    return Finding("take qcow2 or raw", "yes", ", ".join(ours))


def _images(glance: Glance) -> Iterator[Finding]:
    try:
        _remove_leftovers(glance)
        with _probe(glance) as image:
            yield Finding(CREATE, "yes", "an image without data was created and removed")
            for visibility, role in SEEN_BY.items():
                seen = partial(_seen_for_a_moment, glance, image.id, visibility)
                yield _allowed(f"make images {visibility}", seen, role)
            yield _upload(glance, image)
        with _probe(glance, _wrong_signature()) as image:
            yield _refuses(glance, image)
    except (CloudForbidden, CloudQuota, GlanceRefused) as error:
        yield Finding(CREATE, "no", error.message, "role member in this project (policy add_image)")


def _upload(glance: Glance, image: GlanceImage) -> Finding:
    return _allowed(UPLOAD, lambda: glance.upload(image.id, iter((DATA,))), "role member (policy upload_image)")


def _refuses(glance: Glance, image: GlanceImage) -> Finding:
    """A signature that is none, under a certificate that is none: whoever verifies does not take it."""
    question = "Glance verifies signatures"
    try:
        glance.upload(image.id, iter((DATA,)))
    except GlanceRefusedSignature:
        return Finding(question, "yes", "it refused a wrong one")
    except (FactoryError, Again) as error:
        return Finding(question, "unknown", f"the upload with a wrong one failed: {error}")
    return Finding(
        question, "no", "it took a wrong one", "the operator sets glance-api.conf [key_manager] backend = barbican"
    )


def _barbican(cloud: Cloud) -> Iterator[Finding]:
    barbican = Barbican(cloud)
    question = "keep certificates in Barbican"
    if not barbican.there:
        yield Finding(
            question, "no", "this cloud has no key manager", "images are published with our manifest only, unsigned"
        )
        return
    try:
        barbican.try_out(f"{PROBE} {uuid4().hex}")
        yield Finding(question, "yes", "a secret was created and removed")
    except CloudForbidden as error:
        yield Finding(question, "no", error.message, "role creator or member (policy secrets:post)")
    except (BarbicanFailed, CloudUnreachable) as error:
        yield Finding(question, "unknown", error.message, "try again when Barbican answers")


def _usage(usage: Mapping[str, Any]) -> Iterator[Finding]:
    if not usage:
        yield Finding("room for more images", "unknown", "this cloud sets no quotas in Glance, or does not tell")
    for name, numbers in sorted(usage.items()):
        limit, used = (numbers.get(key) if isinstance(numbers, dict) else None for key in ("limit", "usage"))
        if not isinstance(limit, int) or not isinstance(used, int):
            continue
        full = limit >= 0 and used >= limit
        said = f"{used} of {limit}" if limit >= 0 else f"{used}, no limit"
        yield Finding(f"room in quota {name}", "no" if full else "yes", said, "delete old images" if full else "")


def _allowed(question: str, work: Callable[[], object], role: str) -> Finding:
    try:
        work()
    except CloudForbidden as error:
        return Finding(question, "no", error.message, role)
    except (FactoryError, Again) as error:
        return Finding(question, "unknown", str(error))
    return Finding(question, "yes", "tried")


@contextmanager
def _probe(glance: Glance, properties: Mapping[str, str] | None = None) -> Iterator[GlanceImage]:
    """An image that nobody sees, and that is gone afterwards."""
    image = glance.create(creation(str(uuid4()), PROBE, "raw", properties or {}, ()))
    try:
        yield image
    finally:
        with suppress(FactoryError):  # the next preflight finds it
            glance.delete(image.id)


def _remove_leftovers(glance: Glance) -> None:
    """Probes of a preflight that was killed."""
    for image in glance.search(name=PROBE, owner=glance.cloud.project):
        if image.owner == glance.cloud.project and image.name == PROBE and image.hidden:
            glance.delete(image.id)


def _seen_for_a_moment(glance: Glance, image_id: str, visibility: str) -> None:
    """Hidden, and without data."""
    glance.update(image_id, _visibility(visibility))
    glance.update(image_id, _visibility("private"))


def _visibility(visibility: str) -> list[dict[str, object]]:
    return [{"op": "replace", "path": "/visibility", "value": visibility}]


def _wrong_signature() -> dict[str, str]:
    signature, method, key_type, certificate = SIGNATURE_PROPERTIES
    return {signature: "AAAA", method: HASH_METHOD, key_type: KEY_TYPE, certificate: str(uuid4())}
