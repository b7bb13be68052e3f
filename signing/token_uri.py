"""Where a key in a token is: the part of the PKCS #11 URI scheme (RFC 7512) that we need, read strictly.

::

    pkcs11:token=LABEL;object=NAME;id=%01%02?module-path=/path/to/module.so&pin-source=file:/path/to/pin

Rules, in order:

1. Printable ASCII without white space, at most 2,048 characters; path attributes with ";" between them, then "?" and
   query attributes with "&" between them.
2. Only the attributes above, each at most once, in their part of the URI. So `pin-value` is refused: a PIN in a URI is
   a PIN in arguments, files and logs.
3. Values are percent-encoded (RFC 3986); all but `id` are UTF-8 without control characters.
4. `token`, `module-path` and `pin-source` are there; the two paths are absolute, `pin-source` with `file:`.

Messages never quote a URI.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import quote, unquote_to_bytes

from signing.errors import SignerUnknown

_PATH = frozenset({"token", "object", "id"})
_QUERY = frozenset({"module-path", "pin-source"})
# RFC 7512, section 2.3: pk11-pchar and pk11-qchar, less what separates attributes.
_VALUE = re.compile(r"(?:[A-Za-z0-9._~:\[\]@!$'()*+,=/|-]|%[0-9A-Fa-f]{2})+")
_FORM = re.compile(r"pkcs11:(?P<path>[!-~]*?)(?:\?(?P<query>[!-~]*))?")


@dataclass(frozen=True)
class TokenUri:
    """A token, its module (a shared library), the file with its PIN; and by label or id or both, a key in it."""

    token: str
    module: Path
    pin_source: Path
    label: str | None = None
    id: bytes | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what a URI says. Raises: SignerUnknown."""
        form = _FORM.fullmatch(text)
        if form is None or len(text) > 2048:
            raise SignerUnknown("this is not a PKCS #11 URI")
        path = _attributes(form["path"], ";", _PATH)
        query = _attributes(form["query"] or "", "&", _QUERY)
        missing = {"token", "module-path", "pin-source"} - path.keys() - query.keys()
        if missing:
            raise SignerUnknown(f"the PKCS #11 URI has no {min(missing)}")
        module, pin_source = _text(query["module-path"]), _text(query["pin-source"])
        if not module.startswith("/") or not pin_source.startswith("file:/"):
            raise SignerUnknown("module-path is an absolute path, and pin-source file: and one")
        label = _text(path["object"]) if "object" in path else None
        pin = Path(pin_source.removeprefix("file:"))
        return cls(_text(path["token"]), Path(module), pin, label, path.get("id"))

    def encode(self) -> str:
        """Return the URI, which `parse` reads back."""
        path = {"token": self.token.encode(), "object": (self.label or "").encode(), "id": self.id or b""}
        shown = ";".join(f"{name}={quote(value, safe='')}" for name, value in path.items() if value)
        return f"pkcs11:{shown}?module-path={quote(str(self.module))}&pin-source=file:{quote(str(self.pin_source))}"


def _attributes(text: str, separator: str, known: frozenset[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for piece in text.split(separator) if text else ():
        name, _, value = piece.partition("=")
        if name not in known or name in found:
            raise SignerUnknown(f"the PKCS #11 URI may have {', '.join(sorted(known))} here, each once, and no other")
        if not _VALUE.fullmatch(value):
            raise SignerUnknown(f"the {name} of the PKCS #11 URI is empty or not percent-encoded")
        found[name] = unquote_to_bytes(value)
    return found


def _text(raw: bytes) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if not text.isprintable() or not text:
        raise SignerUnknown("a text in the PKCS #11 URI is not printable UTF-8")
    return text
