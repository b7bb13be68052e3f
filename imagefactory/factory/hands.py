"""Whom a factory has do what itself may not: sign, and speak to clouds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from imagefactory.progress import Advance
from imagefactory.settings import Settings
from imagefactory.steps.registrar import ONLINE
from imagefactory.tools.durable import translated
from imagefactory.tools.hand import call_publisher, call_signer
from imagefactory.tools.trusted_roots import TrustedRoots
from signing.keys import KeyRing


class Hands(Protocol):
    """Who has keys and credentials. Each call raises what the hand raises, and says how far it is."""

    def sign(
        self, request: Mapping[str, Any], trust_file: Path, log: Path | None, on_advance: Advance
    ) -> dict[str, Any]:
        """Have the signer do what hands/signer.py can; it adds what is its own."""

    def publish(self, cloud: str, request: Mapping[str, Any], on_advance: Advance) -> dict[str, Any]:
        """Have the publisher do in a cloud what hands/publisher.py can."""

    def open_keys(self) -> None:
        """Ask for the passphrase before a signer, who cannot, needs it. Raises PassphraseMissing, KeysMissing."""

    @property
    def may_begin(self) -> bool:
        """Whether the signer can begin a catalogue by itself. Raises KeysMissing."""

    @property
    def roots(self) -> TrustedRoots:
        """By which roots catalogues of ours are known."""


@dataclass(frozen=True)
class OwnHands:
    """Processes of this host, with the keys and the credentials of these settings."""

    settings: Settings

    def sign(
        self, request: Mapping[str, Any], trust_file: Path, log: Path | None, on_advance: Advance
    ) -> dict[str, Any]:
        settings = self.settings
        with translated(settings.logs):
            settings.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        own = {
            "keys": str(settings.keys),
            "passphrase": settings.passphrase.for_signer(),
            "trust": str(trust_file),
            "policy": [str(path) for path in settings.policy_files()],
            "signed": str(settings.signed),
            "audit": str(settings.audit),
        }
        return call_signer(
            {**request, **own},
            environment=settings.signer_environment,
            log=log or settings.logs / "signer.log",
            on_advance=on_advance,
        )

    def publish(self, cloud: str, request: Mapping[str, Any], on_advance: Advance) -> dict[str, Any]:
        return call_publisher(
            request,
            environment=self.settings.cloud_environment,
            log=self.settings.publisher_log(cloud),
            on_advance=on_advance,
        )

    def open_keys(self) -> None:
        ring = KeyRing(self.settings.keys)
        if not ring.development and any(ring.where(purpose).startswith("file:") for purpose in ONLINE):
            self.settings.passphrase()

    @property
    def may_begin(self) -> bool:
        return KeyRing(self.settings.keys).development

    @property
    def roots(self) -> TrustedRoots:
        return TrustedRoots(self.settings.signed)
