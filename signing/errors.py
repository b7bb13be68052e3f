"""The errors of the signing room, by meaning.

::

    SigningError
    ├── NotARegularFile, Unreadable, Unwritable, FileChanged         files
    ├── KeysExist, KeysMissing, KeyPermissions, KeyDamaged,
    │   KeyPurpose, SignerUnknown, PassphraseMissing,
    │   PassphraseWrong, TokenFailed                                 our own keys
    ├── DocumentInvalid                                              something that was to be read
    │   ├── BundleInvalid, ManifestInvalid, ProvenanceInvalid
    │   └── ChecksumsInvalid, TrustInvalid
    ├── NoTrustRoot, KeyUntrusted, WrongPurpose, KeyName,
    │   SignatureInvalid                                             who signed
    ├── ReleaseExpired, ReleaseNotYet, NameMismatch, VersionTooOld   what was expected
    ├── DigestMismatch, FolderMismatch, ProvenanceMismatch           what is there
    └── GlanceLabelInvalid, GlanceEncodingInvalid, GlanceSignatureInvalid,
        CertificateDamaged, CertificateMismatch, CertificatePurpose,
        CertificateExpired, CertificateUntrusted                     Glance

A docstring is the one-sentence meaning; `code` is stable and never reused; `advice` says what to do next.
No message holds key material.
"""

from typing import ClassVar


class SigningError(Exception):
    """Signing or verification was refused."""

    code: ClassVar[str] = "signing-error"
    exit_code: ClassVar[int] = 1
    advice: str = "See the message."

    def __init__(self, message: str, *, advice: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if advice is not None:
            self.advice = advice


class NotARegularFile(SigningError):
    """A regular file was expected, and something else is there: a directory, symbolic link, pipe, socket or device."""

    code = "not-a-regular-file"
    advice = "Give the path of the file itself."


class Unreadable(SigningError):
    """A file could not be opened or read."""

    code = "unreadable"
    advice = "Check the path, its permissions and the disk."


class Unwritable(SigningError):
    """A file or directory could not be written."""

    code = "unwritable"
    advice = "Check the path, its permissions and the free space."


class FileChanged(SigningError):
    """A file was changed by somebody while it was being read, so nothing can be said about it."""

    code = "file-changed"
    advice = "Stop whatever writes to the file, then try again."


class KeysExist(SigningError):
    """Keys or a trust file are already where new ones were to be made."""

    code = "keys-exist"
    advice = "Use the keys that are there, or move them away first; nothing is ever overwritten."


class KeysMissing(SigningError):
    """There is no key for this purpose."""

    code = "keys-missing"
    advice = "Make keys with `imagefactory keys init`; none are ever made on the fly."


class KeyPermissions(SigningError):
    """A private key can be read or written by somebody other than its owner."""

    code = "key-permissions"
    advice = "chmod 700 the key directory and 600 the files in it; if others could read a key, replace it."


class KeyDamaged(SigningError):
    """A key file, its certificate or keys.json is not what was written."""

    code = "key-damaged"
    advice = "Restore the key directory from a backup, or make new keys and distribute a new trust file."


class KeyPurpose(SigningError):
    """One of our keys was to be used for something that is not its one purpose."""

    code = "key-purpose"
    advice = "Every key has one purpose: put each key file back under its own name."


class SignerUnknown(SigningError):
    """The signer URI names a kind of key storage that does not exist."""

    code = "signer-unknown"
    advice = (
        "Write file:/path/to/key/directory, or "
        "pkcs11:token=LABEL;object=KEY?module-path=/path/to/module.so&pin-source=file:/path/to/pin."
    )


class PassphraseMissing(SigningError):
    """A key is encrypted, or in a token, and there is no passphrase or PIN to open it with."""

    code = "passphrase-missing"
    advice = (
        "Name a file that holds it with --passphrase-file or IMAGEFACTORY_PASSPHRASE_FILE; it is never an argument."
    )


class PassphraseWrong(SigningError):
    """The passphrase does not open the key, or the PIN does not open the token."""

    code = "passphrase-wrong"
    advice = "Check the passphrase file or the PIN file; tokens lock themselves after a few wrong PINs."


class TokenFailed(SigningError):
    """A PKCS#11 token, its module or a key in it cannot be used."""

    code = "token-failed"
    advice = "Check that the module is installed, the token plugged in and the key in it: `pkcs11-tool --list-objects`."


class DocumentInvalid(SigningError):
    """A document does not follow its format."""

    code = "document-invalid"
    advice = "Fetch the document again from its source."


class BundleInvalid(DocumentInvalid):
    """A file is not a sigstore bundle of the one form that we write."""

    code = "bundle-invalid"
    advice = "Fetch the .sigstore.json file again, byte for byte; a reformatted bundle is refused."


class ManifestInvalid(DocumentInvalid):
    """The signed statement is not a release manifest, or a field in it is out of range."""

    code = "manifest-invalid"
    advice = "Fetch release.sigstore.json of this release again; if it persists, a newer imagefactory may have made it."


class ProvenanceInvalid(DocumentInvalid):
    """The signed statement is not a provenance of our build type, or a field in it is out of range."""

    code = "provenance-invalid"
    advice = "Fetch provenance.sigstore.json again; if it persists, a newer imagefactory may have made it."


class ChecksumsInvalid(DocumentInvalid):
    """A file is not a SHA256SUMS of ours: first line, form, order or names are wrong."""

    code = "checksums-invalid"
    advice = "Fetch SHA256SUMS again, byte for byte."


class TrustInvalid(DocumentInvalid):
    """The trust file is damaged, incomplete, contradicts itself, or others may write to it."""

    code = "trust-invalid"
    advice = "Get the trust file again from the people whose images you use; never from the place of the image."


class NoTrustRoot(SigningError):
    """There is no trust file, so there is nobody to believe."""

    code = "no-trust-root"
    advice = "Give one with --trust FILE, or put it at /etc/imagefactory/trust.json."


class KeyUntrusted(SigningError):
    """A document is signed by a key that the trust file does not know."""

    code = "key-untrusted"
    advice = "Check that the image comes from whom you think, and that your trust file is up to date."


class WrongPurpose(SigningError):
    """A document is signed by a trusted key that may not sign this kind of document."""

    code = "wrong-purpose"
    advice = "Treat it as an attack until explained: a key with another purpose signed this document."


class KeyName(SigningError):
    """A document is signed by a trusted key that may not sign for this image name."""

    code = "key-name"
    advice = "Check the name, and that your trust file is up to date; if both are right, treat it as an attack."


class SignatureInvalid(SigningError):
    """A signature does not belong to these bytes."""

    code = "signature-invalid"
    advice = "Fetch both the document and its signature again; if it persists, do not use the release."


class ReleaseExpired(SigningError):
    """The release is past the date until which its makers stand by it."""

    code = "release-expired"
    advice = "Use a newer release."


class ReleaseNotYet(SigningError):
    """The release was created after now: the clock of this machine, or that of the makers, is wrong."""

    code = "release-not-yet"
    advice = "Check the clock of this machine; if it is right, ask the makers about theirs."


class NameMismatch(SigningError):
    """The release is genuine, but it is another one than expected."""

    code = "name-mismatch"
    advice = "Check the name you gave, and where the file came from."


class VersionTooOld(SigningError):
    """The release is genuine, but older than the oldest acceptable version."""

    code = "version-too-old"
    advice = "Use a newer release."


class DigestMismatch(SigningError):
    """A file is not the one that was signed."""

    code = "digest-mismatch"
    advice = "Fetch the file again; do not use it as it is."


class FolderMismatch(SigningError):
    """A release folder does not hold exactly the files that were signed."""

    code = "folder-mismatch"
    advice = "Fetch or publish the whole folder again, and keep other files out of it."


class ProvenanceMismatch(SigningError):
    """The provenance is genuine, but about other files than the release."""

    code = "provenance-mismatch"
    advice = "Fetch the folder again; if it persists, the release was put together wrongly: do not use it."


class GlanceLabelInvalid(SigningError):
    """The Glance signature is labelled with another hash method or key type than we use."""

    code = "glance-label-invalid"
    advice = "Sign again; only SHA-512 with ECC_SECP384R1 is accepted."


class GlanceEncodingInvalid(SigningError):
    """The Glance signature is not canonical base64 of canonical DER."""

    code = "glance-encoding-invalid"
    advice = "Take img_signature from the release manifest as it is."


class GlanceSignatureInvalid(SigningError):
    """The Glance signature does not belong to the image."""

    code = "glance-signature-invalid"
    advice = "Do not use the image; fetch the release again."


class CertificateDamaged(SigningError):
    """The Glance certificate cannot be read."""

    code = "certificate-damaged"
    advice = "Take the certificate from the release manifest as it is."


class CertificateMismatch(SigningError):
    """The Glance certificate is not the one that was named, or does not hold the key that signed."""

    code = "certificate-mismatch"
    advice = "Take the certificate that belongs to the signature."


class CertificatePurpose(SigningError):
    """The Glance certificate is not a P-384 certificate for signing code."""

    code = "certificate-purpose"
    advice = "Issue a P-384 leaf with key usage digitalSignature and extended key usage codeSigning."


class CertificateExpired(SigningError):
    """The Glance certificate or its CA is not valid at this time."""

    code = "certificate-expired"
    advice = "Check the clock of this machine; if it is right, use a release that was signed more recently."


class CertificateUntrusted(SigningError):
    """The Glance certificate does not lead to a CA in the trust file."""

    code = "certificate-untrusted"
    advice = "Check that your trust file is up to date."
