"""Publication to a cloud's Glance: one image, complete and compared with what was signed before anybody sees it.

The image's id was recorded before it is created here, so whoever comes after a dead predecessor finds what it began:
by that id, or by the property that names the manifest, within our own project. It is finished or removed. An image of
somebody else is never touched, whatever its name.
"""

import os
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from hashlib import sha512
from pathlib import Path

import tenacity

from imagefactory.errors import (
    CloudUnreachable,
    FactoryError,
    GlanceRefused,
    GlanceRefusedSignature,
    ImageIdBurnt,
    ImageReplaced,
    UploadFailed,
)
from imagefactory.model.glance import (
    CERTIFICATE_PROPERTY,
    MANIFEST_PROPERTY,
    NOT_BY_GLANCE,
    Appearance,
    Audience,
    GlanceImage,
    creation,
    repairs,
    versioned_name,
    without_signature,
)
from imagefactory.steps.glance_manifest import described
from imagefactory.steps.glance_reveal import require_name, reveal
from imagefactory.steps.glance_verify import check_data, require, require_leftover
from imagefactory.tools.inspect import opened
from imagefactory.tools.openstack.barbican import Barbican
from imagefactory.tools.openstack.glance import Glance
from imagefactory.tools.openstack.session import Again, Cloud
from signing.digest import FileState, require_unchanged
from signing.errors import DigestMismatch, SigningError, Unreadable
from signing.manifest import FormatEntry
from signing.verify import VerifiedManifest

CHUNK = 256 << 10  # bytes: Glance takes these the fastest (64 to 256 KiB)
TOKEN_LEFT = 600  # seconds that a token must be good for when an upload begins
SETTLING = 30.0  # seconds that Glance has to notice that an uploader died
POLL = 0.5
UPLOAD_RATE = 20 << 20  # bytes a second at which a store takes over what Glance has received, at least


@dataclass(frozen=True)
class CloudOrder:
    """What to publish: the `file` that is the `format` of a verified release, as the image `image_id`.

    It gets the display name `name`; a `hidden` one stays hidden and is called NAME VERSION. One that is `coming` stays
    hidden only until it is recorded, so that nobody else may have the name either.
    `bandwidth` is the most bytes a second (None: as fast as it goes). `deep` reads the whole image back.
    """

    image_id: str
    name: str
    signed: VerifiedManifest
    format: str
    file: Path
    audience: Audience
    bandwidth: int | None = None
    deep: bool = False
    hidden: bool = False
    coming: bool = False

    @property
    def entry(self) -> FormatEntry:
        return self.signed.manifest.formats[self.format]

    @property
    def versioned_name(self) -> str:
        """What the image is called while it is hidden."""
        return versioned_name(self.name, str(self.signed.manifest.version))

    @property
    def appearance(self) -> Appearance:
        """As what the image is to be listed in the end."""
        return Appearance(self.versioned_name if self.hidden else self.name, self.hidden)


@dataclass(frozen=True)
class CloudImage:
    """What is in the cloud now. `certificate` is its UUID in Barbican, None where there is no Barbican; `uploaded`
    tells whether bytes went there this time."""

    id: str
    name: str
    format: str
    visibility: str
    sha512: str
    certificate: str | None
    certificate_sha256: str
    uploaded: bool
    facts: tuple[str, ...]


@dataclass(frozen=True)
class Publisher:
    """Publishes to one cloud, telling `on_advance` what it does and `on_bytes` how many bytes of it went by."""

    cloud: Cloud
    on_advance: Callable[[str], None]
    on_bytes: Callable[[int], None]

    @property
    def glance(self) -> Glance:
        return Glance(self.cloud)

    def publish(self, order: CloudOrder) -> CloudImage:
        """Publish, or finish what was begun, or see that it is there already.

        Raises ImageIdBurnt (record another id and call again), DuplicateName, UploadFailed, GlanceRefused...,
        BarbicanFailed, what verification of the image raises, and errors of the cloud and of the room signing.
        """
        self.glance.require()
        certificate = self._certificate(order)
        wanted = _properties(order, certificate)
        image = self._clean_up(order)
        if (order.coming or not order.hidden) and (image is None or image.hidden or image.name != order.name):
            require_name(self.glance, order.name, self._owner(order), order.signed.manifest.name)
        if image is None:
            self.on_advance("creating the image")
            name, audience = order.versioned_name, order.audience
            image = self.glance.create(
                creation(order.image_id, name, order.format, wanted, audience.tags, audience.owner)
            )
        self._require_ours(order, image)
        image = self._put_right(image, wanted)
        uploaded = image.status == "queued"
        if uploaded:
            image = self._upload(order, image)
        by_glance = certificate is None or not uploaded or CERTIFICATE_PROPERTY in image.properties
        facts = self._check(order, image, wanted)
        image = self._show(order, image)
        facts = facts if by_glance else (*facts, NOT_BY_GLANCE)
        return CloudImage(
            id=image.id,
            name=image.name,
            format=order.format,
            visibility=image.visibility,
            sha512=image.hash_value,
            certificate=certificate,
            certificate_sha256=order.entry.glance.certificate_sha256,
            uploaded=uploaded,
            facts=facts,
        )

    # -- the certificate -----------------------------------------------------------------------------------------------

    def _certificate(self, order: CloudOrder) -> str | None:
        barbican = Barbican(self.cloud)
        if not barbican.there:
            return None
        self.on_advance("keeping the certificate in Barbican")
        glance = order.entry.glance
        uuid = barbican.keep(glance.certificate, glance.certificate_sha256)
        if order.audience.certificate_readers:
            barbican.admit(uuid, order.audience.certificate_readers)
        return uuid

    # -- what is there -------------------------------------------------------------------------------------------------

    def _clean_up(self, order: CloudOrder) -> GlanceImage | None:
        """The image that this publication goes on with, if there is one; what else was begun for it is removed."""
        ours = self._ours(order)
        known = self.glance.show(order.image_id)
        if known is not None and known.owner != self._owner(order):
            raise ImageIdBurnt(f"{self.cloud.name}: image {order.image_id} belongs to another project")
        images = [*([known] if known else []), *(each for each in ours if each.id != order.image_id)]
        kept: GlanceImage | None = None
        for image in map(self._settled, images):
            if image is not None and kept is None and self._goes_on(order, image):
                kept = image
            elif image is not None and image.hidden and image.status != "deactivated":
                self.on_advance(f"removing what was begun before: {image.id}")
                self.glance.delete(image.id)
        # Another image beside one that was deactivated would offer again what somebody took back.
        known = next((each for each in ours if each.status == "deactivated"), known)
        if known is not None and kept is None:
            require_leftover(known, order.signed.manifest, order.format)
            raise ImageIdBurnt(f"{self.cloud.name}: image {order.image_id} was begun and could not be finished")
        return kept

    def _owner(self, order: CloudOrder) -> str:
        return order.audience.owner or self.cloud.project

    def _ours(self, order: CloudOrder) -> list[GlanceImage]:
        owner = self._owner(order)
        found = self.glance.search(
            **{"owner": owner, "disk_format": order.format, MANIFEST_PROPERTY: order.signed.sha256}
        )
        # Filters are a wish: what decides is what the images say.
        return [
            each
            for each in found
            if each.owner == owner and each.properties.get(MANIFEST_PROPERTY) == order.signed.sha256
        ]

    def _settled(self, image: GlanceImage) -> GlanceImage | None:
        """An image that nobody is uploading to any more. Whoever was, died: only one publisher works on a release."""
        if image.status != "saving":
            return image
        self.on_advance("waiting for Glance to notice that an upload was cut off")
        return self._wait(image.id, "saving")

    def _wait(self, image_id: str, status: str, seconds: float = SETTLING) -> GlanceImage | None:
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_delay(seconds),
            wait=tenacity.wait_fixed(POLL),
            retry=tenacity.retry_if_result(lambda image: image is not None and image.status == status),
        )
        try:
            return retrying(self.glance.show, image_id)
        except tenacity.RetryError as error:
            image: GlanceImage | None = error.last_attempt.result()
            return image

    def _goes_on(self, order: CloudOrder, image: GlanceImage) -> bool:
        """Whether an image can become what was ordered. What somebody changed of its properties is put right later."""
        if image.disk_format != order.format:
            return False
        if image.status == "active":
            return (image.hash_algorithm, image.hash_value) == ("sha512", order.entry.sha512)
        return image.status == "queued" and image.hidden

    def _require_ours(self, order: CloudOrder, image: GlanceImage) -> None:
        """What Glance made, or found, is the project's, and nobody sees it before it has its data."""
        if image.owner != self._owner(order):
            raise GlanceRefused(f"{self.cloud.name}: image {image.id} belongs to another project")
        if image.status == "queued" and not (image.hidden and image.visibility in {"private", "shared"}):
            raise GlanceRefused(
                f"{self.cloud.name} did not make image {image.id} hidden and private",
                advice="this Glance is too old, or something changes requests on the way: publish elsewhere",
            )

    def _put_right(self, image: GlanceImage, wanted: dict[str, str]) -> GlanceImage:
        """Properties that somebody changed, or that an earlier run could not set."""
        patch = repairs(image, wanted)
        return self.glance.update(image.id, patch) if patch else image

    # -- uploading -----------------------------------------------------------------------------------------------------

    def _upload(self, order: CloudOrder, image: GlanceImage) -> GlanceImage:
        """Send the data, again while that makes sense; an image that cannot be finished does not stay."""
        try:
            try:
                return self.cloud.patiently(lambda: self._attempt(order, image))
            except GlanceRefusedSignature as refused:
                if "ertificate" not in refused.message or not self.cloud.delegated:
                    raise
            # Our comparison stands in for Glance's; the signature comes afterwards, for Nova.
            image = self.glance.update(image.id, without_signature(image))
            return self.cloud.patiently(lambda: self._attempt(order, image))
        except (CloudUnreachable, UploadFailed) as error:
            raise UploadFailed(error.message) from error
        except (FactoryError, SigningError):
            self._abandon(image)
            raise

    def _abandon(self, image: GlanceImage) -> None:
        """Remove an image that cannot be finished. If that cannot be done now, the next run finds it."""
        # Its database may be busy just now with the end of the upload, which is a 500.
        patient = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(3),
            wait=tenacity.wait_fixed(POLL),
            retry=tenacity.retry_if_exception_type(FactoryError),
            reraise=True,
        )
        with suppress(FactoryError):
            # Glance cannot delete what it still writes.
            if self._wait(image.id, "saving") is not None:
                patient(self.glance.delete, image.id)

    def _attempt(self, order: CloudOrder, image: GlanceImage) -> GlanceImage:
        self.on_advance("uploading")
        self.cloud.freshen(TOKEN_LEFT)
        sent = 0

        def on_bytes(count: int) -> None:
            nonlocal sent
            sent += count
            self.on_bytes(count)

        try:
            with opened(order.file) as descriptor:
                before = FileState.of(descriptor)
                if before.size != order.entry.size:
                    raise DigestMismatch(f"{order.file} has {before.size} bytes, signed were {order.entry.size}")
                # Closed here, wherever the upload ends: it has a thread, which no garbage collector should wait for.
                with closing(_chunks(descriptor, before, order, on_bytes)) as chunks:
                    self.glance.upload(image.id, chunks)
            failure = None
        except (Again, ImageIdBurnt) as error:
            failure = error
        # The answer may have been lost on the way, so Glance is asked what came of it. With all the data in its hands
        # it may still be busy.
        found = self._wait(image.id, "saving", SETTLING + (sent / UPLOAD_RATE if sent >= order.entry.size else 0))
        if found is not None and found.status == "active":
            return found
        if isinstance(failure, Again) and found is not None and found.status == "queued":
            raise failure
        state = found.status if found else "gone"
        raise ImageIdBurnt(f"{self.cloud.name}: image {image.id} is {state}: {failure or 'after its upload'}")

    # -- comparing and showing -----------------------------------------------------------------------------------------

    def _check(self, order: CloudOrder, image: GlanceImage, wanted: dict[str, str]) -> tuple[str, ...]:
        """See that the image is what was signed. Properties that were changed since are put right, data never."""
        self.on_advance("comparing the image with the manifest")
        try:
            return self._compared(order, image, wanted)
        except ImageReplaced:
            if image.hidden:
                self._abandon(image)
            raise

    def _compared(self, order: CloudOrder, image: GlanceImage, wanted: dict[str, str]) -> tuple[str, ...]:
        facts = require(self.cloud, self._put_right(image, wanted), order.signed)
        if not order.deep:
            return facts
        self.on_advance("reading the image back")
        check_data(self.cloud, image, order.entry, on_bytes=self.on_bytes)
        return (*facts, "every byte was read back")

    def _show(self, order: CloudOrder, image: GlanceImage) -> GlanceImage:
        """Let those see the image who should."""
        return reveal(
            self.glance,
            image,
            order.audience,
            order.appearance,
            Appearance(order.versioned_name, hidden=True),
            order.signed,
            self.on_advance,
        )


def _properties(order: CloudOrder, certificate: str | None) -> dict[str, str]:
    return described(order.signed, order.format, certificate)


def _chunks(
    descriptor: int, before: FileState, order: CloudOrder, on_bytes: Callable[[int], None]
) -> Generator[bytes, None, None]:
    """The file in chunks. The last one is given only when all of them together have the digest of the manifest, so
    Glance never gets the whole of anything else. Hashing goes on in a thread while the network works."""
    hasher, offset, started = sha512(), 0, time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        hashed: Future[None] | None = None
        while piece := _read(descriptor, offset, order.file):
            if hashed is not None:
                hashed.result()
            hashed = pool.submit(hasher.update, piece)
            offset += len(piece)
            if offset >= before.size:
                hashed.result()
                require_unchanged(descriptor, before)
                if hasher.hexdigest() != order.entry.sha512:
                    raise DigestMismatch(f"{order.file} is not what was signed")
            yield piece
            on_bytes(len(piece))
            if order.bandwidth:
                time.sleep(max(0.0, offset / order.bandwidth - (time.monotonic() - started)))


def _read(descriptor: int, offset: int, file: Path) -> bytes:
    try:
        return os.pread(descriptor, CHUNK, offset)
    except OSError as error:
        raise Unreadable(f"{file} cannot be read: {error.strerror}") from None
