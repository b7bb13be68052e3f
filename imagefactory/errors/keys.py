"""Our keys: making, replacing and revoking them."""

from imagefactory.errors.base import Refused, UsageError


class PassphraseWeak(UsageError):
    """The passphrase for new keys is too short for what it protects."""

    code = "passphrase-weak"
    default_advice = "make one that nobody has to remember: openssl rand -base64 24 > FILE, mode 0600"


class KeyUnknown(UsageError):
    """No key, or more than one, has an id that begins like this."""

    code = "key-unknown"
    default_advice = "imagefactory keys list shows them all"


class KeyNeeded(Refused):
    """This key cannot be revoked: it is the last trusted one for its purpose, or the one that signs here."""

    code = "key-needed"
    default_advice = "make its successor first, with imagefactory keys rotate PURPOSE; then revoke this one"


class KeyringUnusable(Refused):
    """The keyring of the operating system cannot be used, or does not have the passphrase."""

    code = "keyring-unusable"
    default_advice = "unlock the keyring of your session, or use --passphrase-file"
