"""Who is told of what, and the secrets that this takes, from files."""

import base64
import binascii
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from imagefactory.errors import RecipeError
from imagefactory.errors.service import NotifyInvalid
from imagefactory.model.notify import Notify
from imagefactory.model.recipe_fields import keys_at
from imagefactory.tools.recipe_errors import as_recipe_error
from imagefactory.tools.recipe_yaml import read_tree
from signing.digest import others_may_write, read_document
from signing.errors import SigningError
from signing.keys import read_secret

MAX_BYTES: Final = 1 << 16
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what every secret begins with
SECRET_SIZES: Final = range(24, 65)  # bytes, by the rules of Standard Webhooks


def load_notify(path: Path) -> Notify:
    """What the file says. Others may not write to it: it says where news go, and which files are read as secrets.

    Raises NotifyInvalid, with file, line and column; where several things are wrong, `lines` has the rest.
    """
    try:
        text = read_document(path, most=MAX_BYTES).decode()
    except SigningError as error:
        raise NotifyInvalid(error.message) from None
    except UnicodeDecodeError as error:
        raise NotifyInvalid(f"{path}: byte {error.start} is not UTF-8") from None
    if others_may_write(path):
        raise NotifyInvalid(f"{path} may be written to by others", advice=f"chmod go-w {path}")
    try:
        return _parse(text, path)
    except RecipeError as error:
        raise NotifyInvalid(error.message, lines=error.lines) from None


def webhook_secret(path: Path) -> str:
    """The secret of a webhook, as BASE64. Raises NotifyInvalid, which does not repeat it."""
    text = _secret(path).strip().removeprefix(SECRET_PREFIX)
    try:
        size = len(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        size = 0
    if size not in SECRET_SIZES:
        raise NotifyInvalid(
            f"{path} holds no secret of a webhook",
            advice=f"write {SECRET_PREFIX} and 24 to 64 random bytes in base64, as openssl rand -base64 32 makes them",
        )
    return text


def mail_password(path: Path) -> str:
    """The password of an account for mail: ASCII, on one line. Raises NotifyInvalid, which does not repeat it."""
    text = _secret(path)
    if not (text.isascii() and text.isprintable()):
        raise NotifyInvalid(f"{path} holds more than one line of plain ASCII")
    return text


def _parse(text: str, path: Path) -> Notify:
    """Raises RecipeError."""
    tree = read_tree(text.removeprefix("\ufeff"), path)
    try:
        return Notify.model_validate(tree.plain())
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise as_recipe_error(found, tree, path, lambda at: keys_at(Notify, at)) from None


def _secret(path: Path) -> str:
    try:
        return read_secret(path).decode("ascii")
    except SigningError as error:
        raise NotifyInvalid(error.message, advice="a secret is in a file of mode 0600 of this user") from None
    except UnicodeDecodeError:
        raise NotifyInvalid(f"{path} holds more than one line of plain ASCII") from None
