"""Where the workers of several hosts find each other's artifacts: a directory that all reach, or a bucket."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from imagefactory.errors import UsageError

# A name as S3 has it, then folders of plain names: no user, no password, no query.
_BUCKET = re.compile(
    r"s3://(?P<name>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>(?:/(?!\.)[\w.=+-]{1,255}){0,16})/?", re.ASCII
)


@dataclass(frozen=True)
class Bucket:
    """A part of a bucket: what begins with `prefix`, which has no slash at either end and may be empty."""

    name: str
    prefix: str = ""

    def key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def __str__(self) -> str:
        return f"s3://{self.name}/{self.prefix}".rstrip("/")


Storage: TypeAlias = Path | Bucket


def parse_storage(value: str) -> Storage:
    """Read an absolute path, or s3://BUCKET/PREFIX. Raises UsageError, which does not repeat what may hold a secret."""
    if value.startswith("/"):
        return Path(value)
    match = _BUCKET.fullmatch(value)
    if match is None:
        raise UsageError(
            "IMAGEFACTORY_STORE is neither an absolute path nor s3://BUCKET/PREFIX",
            advice="keys and endpoints belong into the AWS_* variables, or into ~/.aws",
        )
    return Bucket(match["name"], match["prefix"].strip("/"))
