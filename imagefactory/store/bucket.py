"""A bucket that speaks S3: Swift, Ceph, AWS. The only place that imports s3fs; loaded only when a bucket is named.

Where it is and who we are is read from where every S3 client looks: AWS_* in the environment, ~/.aws. Nothing of what
the client or the service says is repeated, for it may quote what identifies us; its loggers are silent.
"""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, TypeAlias, TypeVar

from imagefactory.errors import ArtifactMissing, ExtraMissing
from imagefactory.errors.service import StoreUnusable
from imagefactory.model.storage import Bucket
from imagefactory.store.copying import Read

try:
    import aiohttp
    import s3fs
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential
except ModuleNotFoundError as missing:
    raise ExtraMissing(f"buckets need s3fs: {missing}", advice="pip install 'imagefactory[service]'") from missing

PART = 32 << 20  # bytes: what is held in memory, and sent again when it got lost
MOST_PARTS = 10_000  # as S3 has it
STALE = timedelta(days=1)  # after which nobody uploads any more
CONNECT_TIMEOUT, READ_TIMEOUT = 10.0, 60.0  # seconds
ATTEMPTS = 3  # of each request: neither the client nor s3fs tries again by itself
_DIGEST = re.compile(r"[0-9a-f]{64}")
_CODE = re.compile(r"[A-Za-z0-9]{1,64}")

_FAILURES = (OSError, BotoCoreError, ClientError, aiohttp.ClientError)
_Client: TypeAlias = s3fs.S3FileSystem
Answer = TypeVar("Answer")

for _name in ("aiobotocore", "botocore", "fsspec", "s3fs"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)


class SharedBucket:
    """Objects below a prefix of a bucket, named by their SHA-256. S3 shows an object whole, or not at all."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def size(self, digest: str) -> int | None:
        def size(client: _Client) -> int | None:
            try:
                return int(client.call_s3("head_object", **self._object(digest))["ContentLength"])
            except FileNotFoundError:
                return None

        return self._ask(size)

    def put(self, digest: str, size: int, pieces: Iterator[bytes]) -> None:
        parts = _parts(pieces, max(PART, -(-size // MOST_PARTS)))
        if size <= PART:
            self._call("put_object", **self._object(digest), Body=b"".join(parts))
            return
        upload = {**self._object(digest), "UploadId": self._begin(digest)}
        try:
            tags = [
                {
                    "PartNumber": number,
                    "ETag": self._call("upload_part", **upload, PartNumber=number, Body=part)["ETag"],
                }
                for number, part in enumerate(parts, start=1)
            ]
            self._call("complete_multipart_upload", **upload, MultipartUpload={"Parts": tags})
        except BaseException:
            with suppress(StoreUnusable):
                self._call("abort_multipart_upload", **upload)
            raise

    @contextmanager
    def reading(self, digest: str) -> Iterator[Read]:
        size, position, block = self.size(digest), 0, b""
        if size is None:
            raise ArtifactMissing(f"artifact {digest[:12]} is not in {self._bucket}")

        def read(most: int) -> bytes:
            nonlocal position, block
            if not block and position < size:
                part = {"start": position, "end": min(position + PART, size)}
                block = self._ask(lambda client: bytes(client.cat_file(self._path(digest), **part)))
                position = part["end"]
            piece, block = block[:most], block[most:]
            return piece

        yield read

    def remove(self, digest: str) -> None:
        self._call("delete_object", **self._object(digest))

    def sizes(self) -> dict[str, int]:
        found = self._ask(lambda client: client.find(self._path(""), detail=True))
        names = ((path.rpartition("/")[2], facts["size"]) for path, facts in found.items())
        return {name: size for name, size in names if _DIGEST.fullmatch(name)}

    def sweep(self) -> None:
        oldest = datetime.now(UTC) - STALE
        for each in self._ask(lambda client: client.list_multipart_uploads(self._bucket.name)):
            if each["Key"].startswith(self._bucket.key("")) and each["Initiated"] < oldest:
                upload = {"Key": each["Key"], "UploadId": each["UploadId"]}
                self._call("abort_multipart_upload", Bucket=self._bucket.name, **upload)

    @cached_property
    def _client(self) -> _Client:
        """Of a bucket that is there: what is not in it and what is not in no bucket look the same later."""
        client = s3fs.S3FileSystem(
            skip_instance_cache=True,
            use_listings_cache=False,
            config_kwargs={
                "connect_timeout": CONNECT_TIMEOUT,
                "read_timeout": READ_TIMEOUT,
                "retries": {"mode": "standard", "total_max_attempts": 1},
                # Checksums that come after a body are not known everywhere; ours is in the name.
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            },
        )
        client.retries = 1
        try:
            client.call_s3("head_bucket", Bucket=self._bucket.name)
        except FileNotFoundError:
            raise StoreUnusable(f"{self._bucket}: there is no such bucket") from None
        return client

    def _begin(self, digest: str) -> str:
        return str(self._call("create_multipart_upload", **self._object(digest))["UploadId"])

    def _call(self, method: str, **arguments: object) -> dict[str, Any]:
        return self._ask(lambda client: dict(client.call_s3(method, **arguments)))

    def _object(self, digest: str) -> dict[str, str]:
        return {"Bucket": self._bucket.name, "Key": self._bucket.key(digest)}

    def _path(self, name: str) -> str:
        return f"{self._bucket.name}/{self._bucket.key(name)}"

    def _ask(self, what: Callable[[_Client], Answer]) -> Answer:
        """Raises StoreUnusable."""
        retrying = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.5, max=5.0),
            retry=retry_if_exception(_may_pass),
            reraise=True,
        )
        try:
            return retrying(lambda: what(self._client))
        except _FAILURES as error:
            raise StoreUnusable(f"{self._bucket}: {_why(error)}") from None


def _parts(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in parts of `size`, but for the last one."""
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)


def _may_pass(error: BaseException) -> bool:
    """Whether the same may be answered when it is asked again."""
    if isinstance(error, FileNotFoundError | PermissionError | NoCredentialsError) or not isinstance(error, _FAILURES):
        return False
    said = _answer(error)
    return said is None or said.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500) >= 500


def _answer(error: BaseException) -> ClientError | None:
    """What the service said, if it did: s3fs makes an OSError of it."""
    said = error if isinstance(error, ClientError) else error.__cause__
    return said if isinstance(said, ClientError) else None


def _why(error: Exception) -> str:
    """What went wrong, in words of our own."""
    if isinstance(error, NoCredentialsError):
        return "there are no credentials for it"
    if isinstance(error, PermissionError):
        return "it refuses our credentials, or does not let them do this"
    said = _answer(error)
    code = said.response.get("Error", {}).get("Code", "") if said else ""
    return f"it fails ({code if _CODE.fullmatch(code) else type(error).__name__})"
