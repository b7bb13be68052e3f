"""An audit: images of ours in a cloud against what was signed and what the records say; what can be is put right.

What is put right is what an image says of itself, who sees it and whether it can be booted, and the certificate in
Barbican. Data is compared and never touched; where it is not what was signed, nothing else is changed either, because
the image would look genuine afterwards.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from imagefactory.errors import CloudForbidden, ImageNotActive, ImageOfAnotherRelease, ImageReplaced, Refused
from imagefactory.model.drift import (
    PUBLISH_AGAIN,
    REPLACED,
    Audit,
    AuditedImage,
    Drift,
    Finding,
    after_repair,
    drifts_of,
    hopeless,
    status_drift,
)
from imagefactory.model.glance import (
    CERTIFICATE_PROPERTY,
    SIGNATURE_PROPERTIES,
    Audience,
    GlanceImage,
    appearing,
    repairs,
    revealing,
)
from imagefactory.model.release import ReleaseRef
from imagefactory.progress import Advance
from imagefactory.steps.glance_manifest import described
from imagefactory.steps.glance_reveal import require_name, share
from imagefactory.steps.glance_verify import NO_BARBICAN, certificate_errors, check_data, data_errors
from imagefactory.tools.openstack.barbican import Barbican
from imagefactory.tools.openstack.glance import Glance
from imagefactory.tools.openstack.session import Cloud
from signing.digest import read_document
from signing.envelope import parse_bundle
from signing.errors import ReleaseExpired, SigningError
from signing.manifest import ReleaseManifest
from signing.trust import Trust
from signing.verify import VerifiedManifest, verify_manifest

BEGUN: Final = frozenset({"queued", "saving", "importing"})
NOT_READABLE: Final = "its data was not read: it is deactivated, or this account may not"


@dataclass(frozen=True)
class Auditor:
    """Audits images in one cloud by the manifests that `trust` verifies, telling `advance` what it does."""

    cloud: Cloud
    trust: Trust
    advance: Advance
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def audit(self, order: Audit) -> list[Finding]:
        """A finding for each image, in their order. What is refused about one of them is told there, and the others
        are looked at.

        Raises RemoteError of any kind (the cloud cannot be asked now), NoImageService, and errors of its log-in.
        """
        glance = Glance(self.cloud)
        glance.require()
        owner = order.owner or self.cloud.project
        with_barbican = Barbican(self.cloud).there
        findings = []
        for number, wanted in enumerate(order.images):
            self.advance(f"comparing {wanted.release} in {self.cloud.name}", number, len(order.images))
            try:
                signed, notes = verified_once(Path(wanted.manifest), wanted.release, self.trust, self.clock())
            except SigningError as error:
                findings.append(_failed(Finding(wanted.image_id, wanted.release), error))
                continue
            except Refused as error:
                findings.append(_failed(Finding(wanted.image_id, wanted.release), error))
                continue
            notes = notes if with_barbican else (*notes, NO_BARBICAN)
            findings.append(_Case(self.cloud, owner, wanted, signed, notes).finding(deep=order.deep, fix=order.fix))
        return findings


def verified_once(
    manifest: Path, release: str, trust: Trust, now: datetime
) -> tuple[VerifiedManifest, tuple[str, ...]]:
    """The manifest of a release, and what is worth knowing of it. One that has expired still says what was signed.

    Raises ImageOfAnotherRelease, and errors of the room signing.
    """
    raw, name, notes = read_document(manifest), ReleaseRef.parse(release).name, tuple[str, ...]()
    try:
        signed = verify_manifest(raw, trust, now=now, name=name)
    except ReleaseExpired as expired:
        said = ReleaseManifest.from_statement(parse_bundle(raw).open(trust.release))
        signed = verify_manifest(raw, trust, now=(said.expires or now) - timedelta(seconds=1), name=name)
        notes = (expired.message,)
    found = f"{signed.manifest.name}@{signed.manifest.version}"
    if found != release:
        raise ImageOfAnotherRelease(f"the manifest is of {found}, not of {release}")
    return signed, notes


def _failed(finding: Finding, error: Refused | SigningError) -> Finding:
    return replace(finding, code=error.code, message=error.message)


@dataclass(frozen=True)
class _Case:
    """One image, the manifest that it is held against, and what is wanted of it."""

    cloud: Cloud
    owner: str
    wanted: AuditedImage
    signed: VerifiedManifest
    notes: tuple[str, ...]

    @property
    def glance(self) -> Glance:
        return Glance(self.cloud)

    @property
    def barbican(self) -> Barbican:
        return Barbican(self.cloud)

    @property
    def audience(self) -> Audience:
        return Audience.of(self.wanted.target)

    def finding(self, *, deep: bool, fix: bool) -> Finding:
        """What there is to be said of the image, after it was put right if that is wanted."""
        result = Finding(self.wanted.image_id, self.wanted.release, notes=self.notes)
        try:
            image = self.glance.show(self.wanted.image_id)
            if image is None:
                return replace(result, drift=(Drift("image", self.wanted.image_id, None, False, PUBLISH_AGAIN),))
            if image.owner != self.owner:
                advice = "nothing of another project is touched; publish the release again"
                return replace(result, drift=(Drift("owner", self.owner, image.owner, False, advice),))
            result = replace(result, drift=self._compared(image))
            if deep and _whole(result.drift):
                result = self._read(image, result)
            return self._fixed(image, result) if fix and any(each.fixable for each in result.drift) else result
        except Refused as error:
            return _failed(result, error)

    # -- looking -------------------------------------------------------------------------------------------------------

    def _compared(self, image: GlanceImage) -> tuple[Drift, ...]:
        """Everything that Glance and Barbican say and that should be otherwise. Worst first."""
        data = self._data(image)
        found = (
            *data,
            *status_drift(image, self.wanted.look.deactivated),
            *self._certificate(image),
            *drifts_of(image, self._properties(image)),
            *self._unverifiable(image),
            *drifts_of(image, self._looks(image)),
            *self._members(image),
        )
        return hopeless(found) if data else found

    def _data(self, image: GlanceImage) -> tuple[Drift, ...]:
        if image.status in BEGUN or not data_errors(image, self.signed):
            return ()  # without data yet, which its status says
        formats = self.signed.manifest.formats
        entry = formats.get(image.disk_format)
        expected = f"sha512:{entry.sha512}, {entry.size} bytes" if entry else f"one of {', '.join(formats)}"
        found = f"{image.hash_algorithm}:{image.hash_value}, {image.size} bytes" if entry else image.disk_format
        return (Drift("data", expected, found, fixable=False, advice=REPLACED),)

    def _certificate(self, image: GlanceImage) -> tuple[Drift, ...]:
        entry = self.signed.manifest.formats.get(image.disk_format)
        if entry is None or not self.barbican.there:
            return ()
        expected = f"sha256:{entry.glance.certificate_sha256} in Barbican"
        uuid = image.properties.get(CERTIFICATE_PROPERTY)
        if uuid is None:
            return (Drift("certificate", expected, None, fixable=True),)
        errors = certificate_errors(self.barbican, uuid, self.signed, image)
        return tuple(Drift("certificate", expected, each.message, fixable=True) for each in errors)

    def _properties(self, image: GlanceImage, certificate: str | None = None) -> list[dict[str, object]]:
        """The patch that gives an image everything that it should say of itself. `certificate` is the UUID that it is
        to name, if that is not the one that it names."""
        signed = self.barbican.there and image.disk_format in self.signed.manifest.formats
        named = certificate or image.properties.get(CERTIFICATE_PROPERTY)
        wanted = described(self.signed, image.disk_format, (named or "") if signed else None)
        if named is None:
            wanted.pop(CERTIFICATE_PROPERTY, None)
        return repairs(image, wanted)

    def _unverifiable(self, image: GlanceImage) -> tuple[Drift, ...]:
        """A signature where nobody has the certificate that it would be verified with."""
        if self.barbican.there:
            return ()
        advice = "this cloud has no Barbican in this region: see whether clouds.yaml names the right one"
        return tuple(
            Drift(key, None, image.properties[key], fixable=False, advice=advice)
            for key in SIGNATURE_PROPERTIES
            if key in image.properties
        )

    def _looks(self, image: GlanceImage) -> list[dict[str, object]]:
        return revealing(image, self.audience, self.wanted.look.appearance)

    def _members(self, image: GlanceImage) -> tuple[Drift, ...]:
        if self.audience.visibility != "shared" or image.visibility != "shared":
            return ()  # which is a drift of its own
        expected, found = (", ".join(sorted(each)) for each in (self.audience.members, self.glance.members(image.id)))
        return () if expected == found else (Drift("members", expected, found, fixable=True),)

    def _read(self, image: GlanceImage, result: Finding) -> Finding:
        """With what its data says, every byte of it."""
        try:
            check_data(self.cloud, image, self.signed.manifest.formats[image.disk_format])
        except ImageReplaced as error:
            drift = Drift("data", "the bytes that were signed", error.message, fixable=False, advice=REPLACED)
            return replace(result, drift=hopeless((drift, *result.drift)))
        except (ImageNotActive, CloudForbidden):
            return replace(result, notes=(*result.notes, NOT_READABLE))
        return result

    # -- putting right -------------------------------------------------------------------------------------------------

    def _fixed(self, image: GlanceImage, result: Finding) -> Finding:
        """With what was put right, even if not all of it could be. What it says is what Glance says afterwards."""
        try:
            self._fix(image, result.drift)
        except Refused as error:
            result = _failed(result, error)
        again = self.glance.show(image.id)
        left = self._compared(again) if again else result.drift
        return replace(result, drift=after_repair(result.drift, left))

    def _fix(self, image: GlanceImage, drifts: tuple[Drift, ...]) -> None:
        """Put right what is fixable. An image says what it should before it can be booted, and can be booted before it
        is shown; what nobody is to boot is deactivated last. Raises DuplicateName, GlanceRefused, CloudForbidden."""
        look, certificate = self.wanted.look, None
        if not look.hidden and (image.hidden or image.name != look.name):
            require_name(self.glance, look.name, self.owner, self.signed.manifest.name)
        if any(each.what == "certificate" for each in drifts):
            certificate = self._kept(image)
        image = self._patched(image, self._properties(image, certificate))
        if image.status == "deactivated" and not look.deactivated:
            self.glance.reactivate(image.id)
        if self.audience.visibility == "shared":
            if image.visibility != "shared":  # Glance wants it before there can be members
                image = self._patched(image, [{"op": "replace", "path": "/visibility", "value": "shared"}])
            share(self.glance, image.id, self.audience.members)
        # Who may not change who sees an image may hide it all the same.
        image = self._patched(image, appearing(image, look.appearance) if look.hidden else [])
        self._patched(image, self._looks(image))
        if image.status == "active" and look.deactivated:
            self.glance.deactivate(image.id)

    def _kept(self, image: GlanceImage) -> str:
        """The UUID under which Barbican has the right certificate now, for everybody who should read it."""
        glance = self.signed.manifest.formats[image.disk_format].glance
        uuid = self.barbican.keep(glance.certificate, glance.certificate_sha256)
        if self.audience.certificate_readers:
            self.barbican.admit(uuid, self.audience.certificate_readers)
        return uuid

    def _patched(self, image: GlanceImage, patch: list[dict[str, object]]) -> GlanceImage:
        return self.glance.update(image.id, patch) if patch else image


def _whole(drifts: tuple[Drift, ...]) -> bool:
    """Whether, as far as Glance tells, there is data, and it is what was signed."""
    return not any(each.what == "data" or (each.what == "status" and not each.fixable) for each in drifts)
