"""Where the database of the service is: `postgresql://USER@HOST:PORT/NAME`, and never a password."""

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from imagefactory.errors import UsageError

MOST_CHARACTERS = 2000
DEFAULT_PORT = 5432
_HOST = re.compile(r"[A-Za-z0-9_.-]{1,253}|[0-9A-Fa-f:.]{2,45}", re.ASCII)
# What PostgreSQL takes for a name, in bytes.
_NAME_BYTES = 63
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# libpq's own words; those without values here are absolute paths.
_CHOICES = {"sslmode": _SSL_MODES, "channel_binding": ("disable", "prefer", "require")}
_PATHS = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")


@dataclass(frozen=True)
class DatabaseUrl:
    """`host` may be the absolute path of the directory with PostgreSQL's socket."""

    user: str
    host: str
    port: int
    name: str
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """May be shown: there is no password in it."""
        host = f"[{self.host}]" if ":" in self.host and self.host[0] != "/" else quote(self.host, safe="")
        options = f"?{urlencode(self.options)}" if self.options else ""
        return f"postgresql://{quote(self.user, safe='')}@{host}:{self.port}/{quote(self.name, safe='')}{options}"


def parse_database_url(text: str) -> DatabaseUrl:
    """Raises UsageError, which shows nothing of `text`: there may be a password in it, in any place."""
    if len(text) > MOST_CHARACTERS or not text.isprintable():
        raise _wrong(f"it is longer than {MOST_CHARACTERS} characters, or has some that cannot be shown")
    try:
        parts = urlsplit(text)
        port = DEFAULT_PORT if parts.port is None else parts.port
    except ValueError:
        raise _wrong("its host or its port is none") from None
    if parts.password is not None:
        raise _secret()
    if port == 0:
        raise _wrong("its port is none")
    if parts.scheme != "postgresql" or parts.fragment:
        raise _wrong("it is something else")
    user, name = (_name(each, what) for each, what in ((parts.username or "", "user"), (parts.path[1:], "database")))
    return DatabaseUrl(user, _host(parts), port, name, _options(parts.query))


def _name(quoted: str, what: str) -> str:
    name = unquote(quoted)
    if not 0 < len(name.encode()) <= _NAME_BYTES or not name.isprintable() or "/" in name:
        raise _wrong(f"it names no {what}, or not as PostgreSQL does")
    return name


def _host(parts: SplitResult) -> str:
    # A host name is read without regard to case, a path is not.
    written = unquote(parts.netloc.rpartition("@")[2].partition(":")[0])
    if written.startswith("/"):
        if not written.isprintable():
            raise _wrong("the directory of its socket has characters that cannot be shown")
        return written
    host = parts.hostname or ""
    if _HOST.fullmatch(host) is None:
        raise _wrong("it names no host")
    return host


def _options(query: str) -> tuple[tuple[str, str], ...]:
    try:
        found = parse_qsl(query, keep_blank_values=True, strict_parsing=True, max_num_fields=10) if query else []
    except ValueError:
        raise _wrong("what follows its ? is no list of options") from None
    for option, value in found:
        if option in _CHOICES:
            if value not in _CHOICES[option]:
                raise _wrong(f"{option} is one of {', '.join(_CHOICES[option])}")
        elif option.endswith("password"):
            raise _secret()
        elif option not in _PATHS:
            raise _wrong(f"its options are {', '.join((*_CHOICES, *_PATHS))}")
        elif not value.startswith("/") or not value.isprintable():
            raise _wrong(f"{option} is an absolute path")
    if len({option for option, _ in found}) < len(found):
        raise _wrong("an option is there twice")
    return tuple(found)


def _secret() -> UsageError:
    return _wrong("it has a password, which whoever sees the environment of a process may read")


def _wrong(reason: str) -> UsageError:
    return UsageError(
        f"IMAGEFACTORY_DATABASE is not as it should be: {reason}",
        advice="write postgresql://USER@HOST:PORT/NAME, and the password into ~/.pgpass or the file of PGPASSFILE",
    )
