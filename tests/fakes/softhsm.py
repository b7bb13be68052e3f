"""A real PKCS #11 token in files: SoftHSM 2."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from signing.token_uri import TokenUri

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "1234-token-pin"


@dataclass(frozen=True)
class SoftToken:
    """An initialised token; `environ` is what programs need to find it."""

    uri: TokenUri
    environ: dict[str, str]


def make_token(root: Path, label: str = "our token") -> SoftToken:
    """Make a token below the new directory `root`, with a file that holds its PIN."""
    (root / "tokens").mkdir(parents=True)
    configuration = root / "softhsm2.conf"
    configuration.write_text(
        f"directories.tokendir = {root / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    pin = root / "pin"
    pin.write_text(f"{PIN}\n")
    pin.chmod(0o600)
    environ = {"SOFTHSM2_CONF": str(configuration)}
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "87654321"],
        env={**os.environ, **environ},
        check=True,
        capture_output=True,
        timeout=30,
    )
    return SoftToken(TokenUri(label, MODULE, pin), environ)
