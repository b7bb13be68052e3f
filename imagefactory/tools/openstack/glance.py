"""Glance, the image service: one method a request, each telling what its answer means.

API: docs.openstack.org/api-ref/image/v2. Image data goes up and down in chunks, never as a whole.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Timer
from typing import Any, BinaryIO, Final, cast
from urllib.parse import quote, urlencode, urlsplit

from imagefactory.errors import (
    CloudAnswerInvalid,
    CloudForbidden,
    CloudUnreachable,
    GlanceRefused,
    GlanceRefusedFormat,
    GlanceRefusedSignature,
    ImageIdBurnt,
    ImageInUse,
    ImageNotActive,
    NoImageService,
    UploadFailed,
)
from imagefactory.model.glance import GlanceImage, is_uuid
from imagefactory.tools.openstack.session import Again, Answer, Cloud, read_answer

PATCH: Final = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
STREAM: Final = {"Content-Type": "application/octet-stream", "Accept": "*/*"}
MOST_IMAGES: Final = 1000
MAX_MEMBER: Final = 255  # characters of a project's id
LEAST_RATE: Final = 64 << 10  # bytes a second that a download gives on the whole
DOWNLOAD_SLACK: Final = 300.0  # seconds
UPLOAD_STALL: Final = 120.0  # seconds that Glance may take no byte, or give no answer after the last one


@dataclass(frozen=True)
class Glance:
    """The image service of a cloud. Every method raises what `Cloud.request` raises, too."""

    cloud: Cloud

    def require(self) -> None:
        """Raises NoImageService when the cloud has none."""
        if self.cloud.endpoint("image") is None:
            raise NoImageService(f"{self.cloud.name} has no image service in this region")

    def show(self, image_id: str) -> GlanceImage | None:
        """One image by its id, or None."""
        answer = self.cloud.request("image", "GET", f"/images/{quote(image_id, safe='')}")
        if answer.status == 404:
            return None
        return self._that(image_id, _image(self._expect(answer, 200).json()))

    def search(self, **filters: str) -> list[GlanceImage]:
        """Images that have these values, hidden ones included. Raises CloudAnswerInvalid beyond MOST_IMAGES."""
        return [image for hidden in ("false", "true") for image in self._pages({**filters, "os_hidden": hidden})]

    def named(self, ref: str) -> list[GlanceImage]:
        """The images whose id or name `ref` is: ours, shared with us, community and public ones."""
        if is_uuid(ref):
            found = self.show(ref)
            return [found] if found else []
        return [image for image in self.search(name=f"in:{_quoted(ref)}", visibility="all") if image.name == ref]

    def listed_as(self, name: str, owner: str) -> list[GlanceImage]:
        """The images of a project that are called `name` and not hidden."""
        filters = {"name": f"in:{_quoted(name)}", "owner": owner, "visibility": "all", "os_hidden": "false"}
        return [each for each in self._pages(filters) if (each.name, each.owner, each.hidden) == (name, owner, False)]

    def create(self, document: Mapping[str, Any]) -> GlanceImage:
        """Create an image that has an id already. When nobody knows whether that happened, Glance is asked.

        Raises ImageIdBurnt, GlanceRefused.
        """

        def once() -> GlanceImage:
            try:
                answer = self._created(document)
            except Again:
                found = self.show(document["id"])
                if found is None:
                    raise
                return found
            if answer.status == 409:
                found = self.show(document["id"])
                if found is None:
                    raise ImageIdBurnt(f"{self.cloud.name}: {answer.words}")
                return found
            return self._that(document["id"], _image(self._expect(answer, 201).json()))

        return self.cloud.patiently(once)

    def update(self, image_id: str, patch: Sequence[Mapping[str, Any]]) -> GlanceImage:
        """Apply a JSON patch. Raises GlanceRefused."""
        answer = self.cloud.request("image", "PATCH", f"/images/{image_id}", document=list(patch), headers=PATCH)
        return self._that(image_id, _image(self._expect(answer, 200).json()))

    def delete(self, image_id: str) -> bool:
        """Delete an image; False when it was not there. Raises ImageInUse, GlanceRefused."""
        answer = self.cloud.request("image", "DELETE", f"/images/{image_id}")
        if answer.status == 404:
            return False
        if answer.status == 409:
            raise ImageInUse(f"{self.cloud.name}: image {image_id}: {answer.words}")
        self._expect(answer, 204)
        return True

    def deactivate(self, image_id: str) -> None:
        """Let nobody but administrators have the data of an image any more. Raises GlanceRefused."""
        answer = self.cloud.request("image", "POST", f"/images/{image_id}/actions/deactivate")
        if answer.status != 404:
            self._expect(answer, 204)

    def reactivate(self, image_id: str) -> None:
        """Let those have the data of an image again who could before it was deactivated. Raises GlanceRefused."""
        answer = self.cloud.request("image", "POST", f"/images/{image_id}/actions/reactivate")
        if answer.status != 404:
            self._expect(answer, 204)

    def share(self, image_id: str, member: str) -> None:
        """Share an image with a project. Raises GlanceRefused."""
        answer = self.cloud.request("image", "POST", f"/images/{image_id}/members", document={"member": member})
        if answer.status != 409:  # it is a member already
            self._expect(answer, 200)

    def unshare(self, image_id: str, member: str) -> None:
        """No longer share an image with a project. Raises GlanceRefused."""
        answer = self.cloud.request("image", "DELETE", f"/images/{image_id}/members/{quote(member, safe='')}")
        if answer.status != 404:
            self._expect(answer, 204)

    def members(self, image_id: str) -> list[str]:
        """The ids of the projects that an image is shared with. Raises GlanceRefused, CloudAnswerInvalid."""
        document = self._expect(self.cloud.request("image", "GET", f"/images/{image_id}/members"), 200).json()
        listed = document.get("members") if isinstance(document, dict) else None
        if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
            raise CloudAnswerInvalid(f"{self.cloud.name}: a list of members that is none")
        found = [each.get("member_id") for each in listed]
        if not all(isinstance(each, str) and 0 < len(each) <= MAX_MEMBER for each in found):
            raise CloudAnswerInvalid(f"{self.cloud.name}: a member that is no project")
        return found

    def upload(self, image_id: str, chunks: Iterator[bytes]) -> None:
        """Send an image's data, once. `chunks` is used up whatever happens.

        Raises Again when the connection, the token or Glance failed on the way; ImageIdBurnt when this image takes no
        data any more; GlanceRefusedSignature, GlanceRefusedFormat, GlanceRefused.
        """
        with self.cloud.opened(
            "image",
            "PUT",
            f"/images/{image_id}/file",
            data=chunks,
            # A refused upload leaves a connection that only looks alive.
            headers={**STREAM, "Connection": "close"},
            allow_reauth=False,
            timeout=(UPLOAD_STALL, UPLOAD_STALL),
        ) as response:
            answer = read_answer(response)
            if answer.status == 401:
                raise Again(CloudUnreachable(f"{self.cloud.name}: the token expired before the upload"))
            if answer.status == 400 and "ignature" in answer.words:
                raise GlanceRefusedSignature(f"{self.cloud.name}: {answer.words}")
            if answer.status == 415:
                raise GlanceRefusedFormat(f"{self.cloud.name}: {answer.words}")
            if answer.status == 409:
                raise Again(UploadFailed(f"{self.cloud.name}: somebody else is uploading: {answer.words}"))
            # 404 and 410: somebody deleted it. 500: what an earlier upload left stands in the way for good.
            if answer.status in {404, 410, 500}:
                raise ImageIdBurnt(f"{self.cloud.name}: {answer.status} {answer.words}")
            self._expect(self.cloud.judged("image", answer, response), 204)

    @contextmanager
    def download(self, image: GlanceImage) -> Iterator[BinaryIO]:
        """The image's data as a stream to be read once. Raises ImageNotActive; reading raises OSError."""
        with self.cloud.opened(
            "image", "GET", f"/images/{image.id}/file", headers={"Accept": "*/*", "Accept-Encoding": "identity"}
        ) as response:
            if response.status_code == 403:
                raise CloudForbidden(
                    f"{self.cloud.name}: {read_answer(response).words}",
                    advice="reading image data takes role member; verify --metadata-only compares all but the data",
                )
            if response.status_code in {204, 404, 409, 410}:
                raise ImageNotActive(f"{self.cloud.name}: image {image.id} has no data to read")
            if response.status_code != 200:
                self._expect(self.cloud.judged("image", read_answer(response), response), 200)
            # A socket's time limit is for each byte: somebody who drips would never run into it.
            limit = Timer(DOWNLOAD_SLACK + (image.size or 0) / LEAST_RATE, response.raw.shutdown)
            limit.daemon = True
            limit.start()
            try:
                yield cast(BinaryIO, response.raw)
            finally:
                limit.cancel()

    def formats(self) -> tuple[str, ...]:
        """The disk formats that this Glance takes, as its schema says; nothing when that does not tell."""
        document = self._expect(self.cloud.request("image", "GET", "/schemas/image"), 200).json()
        try:
            listed = document["properties"]["disk_format"]["enum"]
            return tuple(each for each in listed if isinstance(each, str))
        except (KeyError, TypeError):
            return ()

    def usage(self) -> Mapping[str, Any]:
        """Quotas by name, each {"limit": N, "usage": N} (-1: none); empty when this Glance keeps none."""
        answer = self.cloud.request("image", "GET", "/info/usage")
        document = answer.json() if answer.status == 200 else {}
        found = document.get("usage") if isinstance(document, dict) else None
        return found if isinstance(found, dict) else {}

    def _that(self, image_id: str, image: GlanceImage) -> GlanceImage:
        if image.id != image_id:
            raise CloudAnswerInvalid(f"{self.cloud.name} answered with image {image.id} to a question about {image_id}")
        return image

    def _created(self, document: Mapping[str, Any]) -> Answer:
        with self.cloud.opened(
            "image", "POST", "/images", json=dict(document), headers={"Accept": "application/json"}
        ) as response:
            return self.cloud.judged("image", read_answer(response), response)

    def _pages(self, filters: Mapping[str, str]) -> Iterator[GlanceImage]:
        path: str | None = f"/images?{urlencode({**filters, 'limit': '100'})}"
        seen = 0
        while path is not None:
            document = self._expect(self.cloud.request("image", "GET", path), 200).json()
            listed = document.get("images") if isinstance(document, dict) else None
            if not isinstance(listed, list):
                raise CloudAnswerInvalid(f"{self.cloud.name}: a list of images that is none")
            seen += len(listed)
            if seen > MOST_IMAGES:
                raise CloudAnswerInvalid(f"{self.cloud.name}: more than {MOST_IMAGES} images", advice="use an id")
            yield from map(_image, listed)
            path = self._next(document.get("next")) if listed else None

    def _next(self, link: object) -> str | None:
        """The path of the next page. Only its query is taken: a link that leads elsewhere would get our token."""
        if link is None:
            return None
        parts = urlsplit(str(link))
        if parts.scheme or parts.netloc or not parts.path.endswith("/images"):
            raise CloudAnswerInvalid(f"{self.cloud.name}: the list of images goes on somewhere else")
        return f"/images?{parts.query}"

    def _expect(self, answer: Answer, status: int) -> Answer:
        if answer.status != status:
            raise GlanceRefused(f"{self.cloud.name}: {answer.words} ({answer.status})")
        return answer


def _image(document: object) -> GlanceImage:
    try:
        return GlanceImage.from_json(document)
    except ValueError as error:
        raise CloudAnswerInvalid(f"Glance answered with something that is no image: {error}") from error


def _quoted(name: str) -> str:
    """A name as the `in:` filter takes it, commas and all."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
