"""Files from https addresses, fetched by apt's own helper.

It knows this host's proxies and certificate authorities, goes from https to nothing else, and dates a file as the
server does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from imagefactory.errors import FactoryError, ProgramFailed, ProgramTimeout
from imagefactory.tools.apt import SANDBOX_USER
from imagefactory.tools.process import Limits, run

HELPER = "/usr/lib/apt/apt-helper"
STALLED = 60  # seconds without a byte


@dataclass(frozen=True)
class Refusals:
    """What is raised for a file that is larger than it may be, and for one that does not come."""

    too_large: type[FactoryError]
    unreachable: type[FactoryError]


def download(
    url: str, target: Path, *, most: int, timeout: float, refusals: Refusals, environment: Mapping[str, str]
) -> None:
    """Fetch at most `most` bytes from the https address `url` into the new file `target`, within `timeout` seconds.

    Raises what `refusals` say, ProgramMissing, DiskFull.
    """
    settings = {
        "APT::Sandbox::User": SANDBOX_USER,
        "Acquire::Retries": 2,
        "Acquire::https::Timeout": STALLED,
    }
    options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]
    try:
        run(
            [HELPER, *options, "download-file", url, target],
            env=environment,
            timeout=timeout,
            limits=Limits(file_size=most),
        )
    except ProgramTimeout as error:
        raise refusals.unreachable(f"{url} did not come within {timeout:.0f} s") from error
    except ProgramFailed as error:
        _require_room(url, target, most, refusals)
        raise refusals.unreachable(f"{url} could not be fetched", lines=error.lines) from error
    _require_room(url, target, most, refusals)
    if not target.is_file() or target.stat().st_size == 0:  # apt's word for an answer that does not say its length
        raise refusals.unreachable(f"{url} gave nothing")


def _require_room(url: str, target: Path, most: int, refusals: Refusals) -> None:
    """What fills all the room that it had was cut off there, whatever the helper says."""
    if target.is_file() and target.stat().st_size >= most:
        raise refusals.too_large(f"{url} has {most} bytes or more")
