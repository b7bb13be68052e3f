"""What the environment says, read once, here and nowhere else. Only a proxy may hold a secret, and is never shown."""

import os
import pwd
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from imagefactory.errors import HomeUnusable, UsageError
from imagefactory.model.broker import BrokerAddress, parse_broker
from imagefactory.model.database_url import DatabaseUrl, parse_database_url
from imagefactory.model.storage import Storage, parse_storage
from imagefactory.tools.known_catalogue import KnownCatalogue, known_catalogue
from imagefactory.tools.passphrase import Ask, PassphraseSource
from imagefactory.tools.process import BASE_ENVIRONMENT

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROXIES = ("http_proxy", "https_proxy", "no_proxy")
CLOUD_VARIABLES = ("HOME", "XDG_CONFIG_HOME", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
# Where the modules of PKCS #11 tokens find their configuration: SoftHSM, YubiHSM, OpenSC.
TOKEN_VARIABLES = ("SOFTHSM2_CONF", "YUBIHSM_PKCS11_CONF", "OPENSC_CONF")
# Paths that diskimage-builder's shell, apt's source lines and lists of paths all read as one word.
PLAIN_PATH = re.compile(r"[\w./@+~-]+")

# Login names as they are written here and there, with a domain, too; no blanks, nothing that a terminal would obey.
LOGIN_NAME = re.compile(r"[\w.+@\\-]{1,255}", re.ASCII)


@dataclass(frozen=True)
class Settings:
    """Where things lie and what programs see."""

    home: Path
    trust: Path | None
    policy: Path | None
    elements_path: tuple[Path, ...]
    path: str
    root_path: str
    account: str  # who works here: what is decided about releases is recorded with it
    proxies: Mapping[str, str] = field(repr=False)  # may hold a user name and a password
    cloud: Mapping[str, str] = field(repr=False, default_factory=dict)  # may hold a password or a token
    tokens: Mapping[str, str] = field(default_factory=dict)
    passphrase_file: Path | None = None
    database_url: DatabaseUrl | None = None  # where several hosts share their records
    broker: BrokerAddress | None = None
    broker_password_file: Path | None = None
    storage: Storage | None = None  # where workers of several hosts share artifacts
    notify: Path | None = None  # who is told of what
    recipes: tuple[Path, ...] = ()  # below which workers take recipes from
    own_catalogue: Path | None = None  # where it does not lie in the home
    environ: Mapping[str, str] = field(repr=False, default_factory=dict)  # all of it: for processes of ours alone
    ask: Ask | None = field(repr=False, default=None)  # the command line's, where somebody is at a terminal

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of the programs that we start: a search path, a locale, the proxies."""
        return {**BASE_ENVIRONMENT, "PATH": self.path, **self.proxies}

    @property
    def root_environment(self) -> dict[str, str]:
        """The same for what runs as root: nothing of the caller's PATH is in it."""
        return {**self.environment, "PATH": self.root_path}

    @property
    def cloud_environment(self) -> dict[str, str]:
        """The environment of the publisher: where openstacksdk finds clouds and their certificate authorities."""
        return {**self.environment, **self.cloud}

    @property
    def signer_environment(self) -> dict[str, str]:
        """The environment of the signer: its keys may be in a token."""
        return {**self.environment, **self.tokens}

    @cached_property
    def passphrase(self) -> PassphraseSource:
        """Where the passphrase of our keys comes from; nobody is asked for it twice."""
        return PassphraseSource(self.keys, self.passphrase_file, self.ask)

    def check_home(self) -> None:
        """Raises HomeUnusable for a path that diskimage-builder would read as several, or as shell."""
        if PLAIN_PATH.fullmatch(str(self.home)) is None:
            raise HomeUnusable(
                f"{str(self.home)!r} has white space, ':' or characters of the shell in it",
                advice="set IMAGEFACTORY_HOME to a path of letters, digits and . _ @ + ~ -",
            )

    @property
    def keys(self) -> Path:
        return self.home / "keys"

    @property
    def catalogue(self) -> Path:
        """Where releases go whose recipe names no place."""
        return self.own_catalogue or self.home / "catalogue"

    @property
    def trusted(self) -> Path:
        """What this machine remembers of catalogues, each in a trust store of its own."""
        return self.home / "trusted"

    @property
    def database(self) -> Path | DatabaseUrl:
        """Where the records are: in the home, unless they are shared."""
        return self.database_url or self.home / "imagefactory.db"

    @property
    def has_records(self) -> bool:
        """Whether anything was ever recorded here; what is shared has been made by somebody."""
        return isinstance(self.database, DatabaseUrl) or self.database.is_file()

    @property
    def audit(self) -> Path:
        return self.home / "audit.log"

    @property
    def strays(self) -> Path:
        """What audits remember of images that no record knows."""
        return self.home / "strays"

    @property
    def scap(self) -> Path:
        """What measures images."""
        return self.home / "scap"

    @property
    def packages(self) -> Path:
        """Packages that images install anew in their boot test."""
        return self.home / "packages"

    @property
    def feeds(self) -> Path:
        """What is known of vulnerabilities."""
        return self.home / "feeds"

    @property
    def bases(self) -> Path:
        """Images that recipes start from and that came from an address: a cache that may be removed."""
        return self.home / "bases"

    @property
    def caches(self) -> tuple[Path, ...]:
        """What all names share and may be removed. The time of a directory in one is that of its last use; where it is
        renewed daily, it is of a day before that at most."""
        return (self.scap, self.feeds, self.bases, self.packages)

    @property
    def signed(self) -> Path:
        """The signer's memory of what it signed."""
        return self.home / "signed"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    def build_logs(self, name: str, version: str) -> Path:
        """The directory of what the steps of a build said."""
        return self.logs / name / version

    def publisher_log(self, cloud: str) -> Path:
        """What the publisher complained about in a cloud, whose name, as `CloudPlace` has it, fits into one of a
        file."""
        return self.logs / f"publisher-{cloud}.log"

    @property
    def work(self) -> Path:
        return self.home / "work"

    def trust_files(self, given: Path | None = None) -> tuple[Path, ...]:
        """Where a trust file may lie, in the order of looking. One that is named must be there."""
        named = given or self.trust
        if named is not None:
            return (named,)
        return (self.home / "trust.json", Path("/etc/imagefactory/trust.json"))

    def known_catalogue(self, where: str | Path, root: Path | None = None) -> KnownCatalogue:
        """A catalogue as this machine knows it; `root` is the file with a root that somebody names, and has to be
        there. Raises TargetUnsupported."""
        return known_catalogue(where, self.trusted, self.root_files(), root)

    def root_files(self) -> tuple[Path, ...]:
        """Where the first root of catalogues may lie, in the order of looking."""
        return (self.home / "root.json", Path("/etc/imagefactory/root.json"))

    def policy_files(self) -> tuple[Path, ...]:
        """Where the signer's policy may lie, in the order of looking. One that is named must be there."""
        if self.policy is not None:
            return (self.policy,)
        return (self.home / "policy.json", Path("/etc/imagefactory/policy.json"))


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read IMAGEFACTORY_HOME, _CATALOGUE, _DATABASE, _BROKER, _BROKER_PASSWORD_FILE, _STORE, _TRUST, _POLICY,
    _PASSPHRASE_FILE, _NOTIFY, _RECIPES, _ELEMENTS and _PATH (all three like PATH), PATH and the proxies.

    Programs come from IMAGEFACTORY_PATH, then from beside our Python (diskimage-builder must be the one whose elements
    and version we know), then from PATH, which root does not follow. Raises UsageError when a path of ours is not
    absolute, and for an address that cannot be one; what is not absolute in PATH is left out.
    """
    seen = os.environ if environ is None else environ
    user_home = seen.get("HOME") or str(Path("~").expanduser())
    home = seen.get("IMAGEFACTORY_HOME") or f"{user_home}/.local/share/imagefactory"
    trust, policy = seen.get("IMAGEFACTORY_TRUST"), seen.get("IMAGEFACTORY_POLICY")
    passphrase, database = seen.get("IMAGEFACTORY_PASSPHRASE_FILE"), seen.get("IMAGEFACTORY_DATABASE")
    broker, password = seen.get("IMAGEFACTORY_BROKER"), seen.get("IMAGEFACTORY_BROKER_PASSWORD_FILE")
    storage, notify = seen.get("IMAGEFACTORY_STORE"), seen.get("IMAGEFACTORY_NOTIFY")
    catalogue = seen.get("IMAGEFACTORY_CATALOGUE")
    elements = _parts(seen.get("IMAGEFACTORY_ELEMENTS", ""))
    programs, recipes = _parts(seen.get("IMAGEFACTORY_PATH", "")), _parts(seen.get("IMAGEFACTORY_RECIPES", ""))
    for value in (home, catalogue, trust, policy, passphrase, password, notify, *elements, *programs, *recipes):
        if value and not Path(value).is_absolute():
            raise UsageError(f"{value} is not an absolute path", advice="give IMAGEFACTORY_* absolute paths")
    inherited = [part for part in _parts(seen.get("PATH", "")) if Path(part).is_absolute()]
    own = str(Path(sys.executable).parent)
    return Settings(
        home=Path(home),
        trust=Path(trust) if trust else None,
        policy=Path(policy) if policy else None,
        elements_path=tuple(map(Path, elements)),
        path=":".join(dict.fromkeys([*programs, own, *inherited, *_parts(SYSTEM_PATH)])),
        root_path=":".join(dict.fromkeys([*programs, own, *_parts(SYSTEM_PATH)])),
        cloud={name: value for name, value in seen.items() if name in CLOUD_VARIABLES or name.startswith("OS_")},
        tokens={name: seen[name] for name in TOKEN_VARIABLES if name in seen},
        passphrase_file=Path(passphrase) if passphrase else None,
        database_url=parse_database_url(database) if database else None,
        broker=parse_broker(broker) if broker else None,
        broker_password_file=Path(password) if password else None,
        storage=parse_storage(storage) if storage else None,
        notify=Path(notify) if notify else None,
        recipes=tuple(map(Path, recipes)),
        own_catalogue=Path(catalogue) if catalogue else None,
        environ=dict(seen),
        account=account_of(os.getuid(), seen),
        proxies={name: value for name in PROXIES if (value := seen.get(name) or seen.get(name.upper()))},
    )


def account_of(uid: int, environ: Mapping[str, str]) -> str:
    """Who works as `uid`: the account behind sudo, which only root can speak of, or the login name, or the number.

    What anybody may set, such as USER, is not asked.
    """
    behind = environ.get("SUDO_USER", "")
    if uid == 0 and LOGIN_NAME.fullmatch(behind):
        return behind
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _parts(value: str) -> list[str]:
    return [part for part in value.split(":") if part]
