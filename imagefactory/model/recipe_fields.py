"""What a single field of a recipe may hold. Validators refuse with the code of an error class and a text for people.

A recipe is data that becomes part of programs run as root (apt sources, the environment of elements), and it is
published with the image. So every text has a strict form, and whatever looks like a secret is refused, without
repeating it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Final, TypeVar, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    Strict,
)
from pydantic.config import JsonDict
from pydantic_core import CoreSchema, core_schema

from imagefactory.model.quantity import refusal, shown
from signing.properties import KEY, MAX_VALUE, RESERVED, is_attribute, is_reserved

T = TypeVar("T")


class Part(BaseModel):
    """A mapping of the recipe: strict, frozen, no unknown keys."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", use_attribute_docstrings=True)


def keys_at(top: type[BaseModel], path: Sequence[str | int]) -> tuple[str, ...]:
    """The keys that may stand in the mapping at `path` of a file that `top` describes; () is the top."""
    models: list[type[BaseModel]] = [top]
    for part in path:
        found = [model.model_fields[part].annotation for model in models if part in model.model_fields]
        models = [model for annotation in found for model in _models(annotation)] if found else models
    return tuple(dict.fromkeys(field.alias or key for model in models for key, field in model.model_fields.items()))


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


@dataclass(frozen=True)
class Matching:
    """For an annotation: the whole text matches `pattern`; otherwise "should be `what`"."""

    pattern: str
    what: str

    def check(self, value: str) -> str:
        """`value`, or a refusal."""
        if re.fullmatch(self.pattern, value) is None:
            raise refusal("recipe-invalid", f"should be {self.what}, not {shown(value)}")
        return value

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "pattern": f"^(?:{self.pattern})$"}


@dataclass(frozen=True)
class Unique:
    """For an annotation: at least `at_least` items, and none twice."""

    at_least: int = 0

    def check(self, value: tuple[str, ...]) -> tuple[str, ...]:
        """`value`, or a refusal."""
        if len(value) < self.at_least:
            raise refusal("recipe-invalid", f"should have at least {self.at_least} item")
        seen = set[str]()
        for item in value:
            if item in seen:
                raise refusal("recipe-invalid", f"has {shown(item)} twice")
            seen.add(item)
        return value

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "minItems": self.at_least, "uniqueItems": True}


# -- no secrets -------------------------------------------------------------------------------------------------------

_USERINFO: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s@]*@", re.IGNORECASE)
_PRIVATE_KEY: Final = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY")
_SECRET_NAME: Final = re.compile(r"PASSWORD|PASSWD|PASSPHRASE|TOKEN|SECRET|CREDENTIAL|KEYS?(?:_|$)")


def no_secret(value: str) -> str:
    """Validator: `value` holds neither a URL with user information nor a private key."""
    if _USERINFO.search(value):
        raise refusal("secret-in-recipe", "has a URL with a user name or password in it")
    if holds_private_key(value):
        raise refusal("secret-in-recipe", "holds a private key")
    return value


def holds_private_key(text: str) -> bool:
    """Whether `text` has the first line of a private key in it."""
    return _PRIVATE_KEY.search(text) is not None


# -- texts ------------------------------------------------------------------------------------------------------------

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def plain(value: str) -> str:
    """Validator: no control characters but tab and newline."""
    if _CONTROL.search(value):
        raise refusal("recipe-invalid", "should not hold control characters")
    return value


def one_line(value: str) -> str:
    """Validator: one line without control characters."""
    if _CONTROL.search(value) or "\n" in value or "\t" in value:
        raise refusal("recipe-invalid", "should be one line without control characters")
    return value


# Lengths come first: they bound what the patterns after them cost.
Prose = Annotated[str, Field(max_length=4096), AfterValidator(plain), AfterValidator(no_secret)]
Line = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(one_line), AfterValidator(no_secret)]
Slug = Annotated[
    str,
    Matching(
        r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
        "1 to 63 lower-case letters, digits and hyphens, with no hyphen first or last",
    ),
]
ElementName = Annotated[str, Matching(r"[a-z0-9][a-z0-9._-]{0,127}", "the name of an element, such as soe-base")]
PackageName = Annotated[
    str, Matching(r"[a-z0-9][a-z0-9+.-]{1,127}", "the name of a Debian package, without version or architecture")
]
CloudName = Annotated[str, Matching(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", "the name of a cloud in clouds.yaml")]
# Keystone makes up 32 digits, and 64 for users that come from elsewhere.
KeystoneId = Annotated[str, Matching(r"[0-9a-f]{32}|[0-9a-f]{64}", "an id of 32 or 64 hexadecimal digits, not a name")]
ImageTag = Annotated[str, Matching(r"[A-Za-z0-9][A-Za-z0-9_.:=+@-]{0,254}", "a tag, such as os:debian")]
Suite = Annotated[str, Matching(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}", "a suite, such as bookworm-updates")]
Component = Annotated[str, Matching(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}", "a component, such as main")]
FilePath = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(one_line)]
KeyringPath = Annotated[FilePath, Matching(r".*\.(asc|gpg)", "a path that ends in .asc or .gpg")]

Items = Annotated[tuple[T, ...], Strict(False)]
"""A list in YAML, a tuple here."""


# -- addresses --------------------------------------------------------------------------------------------------------

_URL: Final = re.compile(r"[A-Za-z]+://[A-Za-z0-9._~:/@%+\[\]-]*")
_ADDRESS: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_url(value: str) -> bool:
    """Whether `value` is an address, of whatever scheme, and no path."""
    return _ADDRESS.match(value) is not None


def url(value: str) -> str:
    """Validator: an http or https address without user information."""
    no_secret(value)
    schemes = ("http://", "https://")
    wanted = refusal("recipe-invalid", f"should be an address that begins with {' or '.join(schemes)}")
    try:
        parts = urlsplit(value)
        _ = parts.port  # raises for a wrong one
    except ValueError:
        raise wanted from None
    if _URL.fullmatch(value) is None or f"{parts.scheme}://" not in schemes or not value.startswith(schemes):
        raise wanted
    if not parts.hostname:
        raise wanted
    return value


RepositoryUrl = Annotated[str, Field(max_length=2048), AfterValidator(url)]
ProxyUrl = Annotated[str, Field(max_length=2048), AfterValidator(url)]


# -- the environment of elements --------------------------------------------------------------------------------------

# Names by which an environment takes over the programs that see it.
_TAKEOVER: Final = re.compile(
    r"PATH|ENV|IFS|SHELL|SHELLOPTS|CDPATH|GLOBIGNORE|PS[0-9]|PROMPT_COMMAND|EDITOR|VISUAL|PAGER|HOME|USER|LOGNAME"
    r"|TMPDIR|TMP_DIR|DIB_IMAGE_CACHE|DIB_LOCKFILES|DIB_NO_TMPFS|DIB_PYTHON.*|DIB_GZIP_BIN"
    r"|DIB_DEBIAN_DEBOOTSTRAP_SCRIPT|DIB_DEBOOTSTRAP_EXTRA_ARGS|APT_CONFIG|TAR_OPTIONS|TAPE|RUBYOPT|RUBYLIB|NODE_OPTIONS|LOCPATH|NLSPATH|HOSTALIASES"
    r"|(LD_|BASH|PYTHON|PERL|GCONV|GLIBC|MALLOC_|SUDO_|DPKG_|GIT_|SSL_|OPENSSL_|XDG_|IMAGEFACTORY_).*"
)
# Names that the build sets itself, and the field of the recipe that they come from.
_SET_BY_FIELD: Final[Mapping[str, str]] = {
    "ARCH": "os",
    "DISTRO_NAME": "os",
    "DIB_RELEASE": "os",
    "IMAGE_ELEMENT": "elements",
    "ELEMENTS_PATH": "elements",
    "IMAGE_NAME": "name",
    "DIB_SOE_BASE": "base",
    "DIB_SOE_PACKAGES": "packages",
    "DIB_SOE_SOURCES": "repositories",
    "DIB_SOE_IMAGE_SOURCES": "repositories",
    "DIB_SOE_KEYRINGS": "repositories",
    "DIB_SOE_CA_CERTIFICATES": "ca_certificates",
    "DIB_SOE_SCAP_CONTENT": "compliance",
    "DIB_SOE_SCAP_PROFILE": "compliance",
    "HTTP_PROXY": "proxy",
    "HTTPS_PROXY": "proxy",
}


def _variable(name: str) -> str:
    if _SECRET_NAME.search(name):
        raise refusal("secret-in-recipe", f"{shown(name)} looks like the name of a secret")
    if _TAKEOVER.fullmatch(name):
        raise refusal("recipe-invalid", f"{shown(name)} would change how programs run: elements may not have it set")
    if name in _SET_BY_FIELD:
        raise refusal("recipe-invalid", f"{name} is set by the build: see the field {_SET_BY_FIELD[name]}")
    return name


VariableName = Annotated[
    str,
    Matching(r"[A-Z][A-Z0-9_]{0,127}", "upper-case letters, digits and underscores"),
    AfterValidator(_variable),
]
VariableValue = Annotated[str, Field(max_length=4096), AfterValidator(one_line), AfterValidator(no_secret)]


# -- Glance properties ------------------------------------------------------------------------------------------------


def _property(key: str) -> str:
    if is_reserved(key):
        raise refusal("recipe-invalid", f"{shown(key)} is reserved: keys that begin with {', '.join(RESERVED)} are")
    if is_attribute(key):
        raise refusal("recipe-invalid", f"{key} is set by the publication itself")
    return key


def _property_value(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise refusal("recipe-invalid", "should be text or a whole number; put true, false and fractions in quotes")
    if isinstance(value, str):
        if len(value) > MAX_VALUE:
            raise refusal("recipe-invalid", f"should have at most {MAX_VALUE} characters")
        return no_secret(one_line(value))
    return value


PropertyName = Annotated[
    str,
    Matching(KEY.pattern, "letters, digits and _ . : -, a letter first"),
    AfterValidator(_property),
]
PropertyValue = Annotated[str | int, BeforeValidator(_property_value)]


# -- mappings that nobody can alter -----------------------------------------------------------------------------------

MAX_TYPED: Final = 80  # a release carries at most 100 properties, and those that are proved are among them

_NO_OTHERS: Final[JsonDict] = {"additionalProperties": False}

Variables = Annotated[
    Mapping[VariableName, VariableValue],
    Field(max_length=200, json_schema_extra=_NO_OTHERS),
    AfterValidator(MappingProxyType),
    PlainSerializer(dict),
]
Properties = Annotated[
    Mapping[PropertyName, PropertyValue],
    Field(max_length=MAX_TYPED, json_schema_extra=_NO_OTHERS),
    AfterValidator(MappingProxyType),
    PlainSerializer(dict),
]
