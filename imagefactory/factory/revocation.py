"""Revoking keys: no longer in the trust file, and what becomes of the releases that they signed."""

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from imagefactory.errors import FactoryError, Interrupted, KeyNeeded, KeyUnknown, SystemFailure
from imagefactory.factory.catalogues import Catalogues
from imagefactory.factory.key_notes import note_rotated
from imagefactory.factory.loop import Factory
from imagefactory.factory.publishing import published
from imagefactory.factory.rotation import authority, finish, load_authority
from imagefactory.model.build import PublicationState
from imagefactory.model.recipe import LoadedRecipe
from imagefactory.model.target import CataloguePlace, parse_place
from imagefactory.settings import Settings
from imagefactory.store.artifacts import ArtifactStore
from imagefactory.store.lock import FileLocks
from imagefactory.store.records import release_version
from imagefactory.store.tables import Publication, Release
from imagefactory.tools.audit_log import AuditLog
from imagefactory.tools.durable import replace_file
from imagefactory.tools.trusted_roots import TrustedRoots
from signing.certificates import fingerprint, load_certificate
from signing.digest import read_document
from signing.envelope import parse_bundle
from signing.errors import SigningError
from signing.keys import AUTHORITY, KeyRing, Purpose, keyid_of, load_public_key
from signing.manifest import MANIFEST_FILE, PROVENANCE_FILE, ReleaseManifest
from signing.strict_json import decode
from signing.trust import Trust, find_trust, load_trust

Kind = Literal["release", "provenance", "glance-ca"]
LEAST_PREFIX = 8
Failure = FactoryError | SigningError


@dataclass(frozen=True)
class Revocable:
    """A key that signs documents, by its keyid, or a CA by the SHA-256 of its certificate. `trusted`: it is in the
    trust file; `in_use`: it signs here."""

    kind: Kind
    id: str
    trusted: bool
    in_use: bool
    ca: x509.Certificate | None = None


@dataclass
class Outcome:
    """What was found and done. `unknown` are releases whose documents are not there to tell who signed them; `left` is
    what remains to be done, and `failures` say why what was asked for was not."""

    key: Revocable
    dry_run: bool
    affected: Sequence[Release] = ()
    unknown: Sequence[Release] = ()
    withdrawn: list[str] = field(default_factory=list)
    signed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @property
    def again(self) -> str:
        """The command that goes on."""
        return f"imagefactory keys revoke {self.key.id[:16]}"

    def attempt(self, action: Callable[[], object], otherwise: str) -> None:
        """Do one thing of many. One that fails stops no other: it is left, and its failure remembered."""
        failure = _failure(action)
        if failure is not None:
            self.failed(failure, otherwise)

    def failed(self, failure: Failure, otherwise: str) -> None:
        self.left.append(f"{otherwise}: {failure.message}")
        self.failures.append(failure)


def begin(settings: Settings, factory: Factory | None, prefix: str, *, dry_run: bool) -> Outcome:
    """Take the key whose id begins with `prefix` out of the trust file, and find what it signed.

    A rotation that was interrupted is finished first; when it cannot be, the key is revoked all the same.
    Raises Busy, KeyUnknown, KeyNeeded, errors of the room signing.
    """
    trust_file = find_trust(settings.trust_files())
    with ExitStack() as stack:
        if settings.home.exists():
            stack.enter_context(FileLocks(settings.home / "locks").whole())
        ring, stuck = None, None
        if settings.keys.exists():
            if not dry_run:
                stuck = _failure(partial(finish, settings.keys, trust_file, partial(note_rotated, settings)))
            ring = KeyRing(settings.keys)
        trust = load_trust(trust_file)
        outcome = Outcome(choose(revocable(trust, ring), prefix, _glance_keys(ring) if ring else ()), dry_run)
        try:
            check_revocable(trust, outcome.key)
        except KeyNeeded:
            if stuck is not None:  # its successor is what cannot be finished
                raise stuck from None
            raise
        if stuck is not None:
            outcome.failed(stuck, f"{outcome.again}  # a rotation was interrupted and cannot be finished")
        if factory is not None:
            releases = factory.records.releases()
            signed = [signed_with(outcome.key, release, factory.artifacts) for release in releases]
            outcome.affected = [each for each, was in zip(releases, signed, strict=True) if was]
            outcome.unknown = [each for each, was in zip(releases, signed, strict=True) if was is None]
        if outcome.key.trusted and not dry_run:
            if settings.home.exists():
                AuditLog(settings.audit).append("key-revoked", purpose=outcome.key.kind, keyid=outcome.key.id)
            revoke(trust_file, outcome.key)
    return outcome


def follow(
    factory: Factory,
    outcome: Outcome,
    read: Callable[[Path, Settings], LoadedRecipe],
    *,
    re_sign: bool,
    withdraw: bool,
) -> None:
    """Withdraw and sign again what is asked for, as far as it can be, and say what is left.

    Raises Interrupted, AuditDamaged, Unwritable.
    """
    for release in outcome.unknown:
        outcome.left += _cannot_tell(release)
    if not outcome.dry_run:
        _tell_catalogues(factory, outcome)
    public = [(release, each) for release in outcome.affected for each in release.publications if is_there(each)]
    recipes = _recipes(factory, outcome.affected)
    if withdraw and not outcome.dry_run:
        for release, publication in public:
            what = f"{publication.target}: {ref(release)}"
            action = partial(_withdraw, factory, outcome, release, publication)
            outcome.attempt(action, f"{outcome.again} --withdraw  # {what}")
    elif public:
        outcome.left.append(f"{outcome.again} --withdraw")
    if re_sign and not outcome.dry_run:
        for name, recipe in recipes.items():
            outcome.attempt(
                partial(_sign_again, factory, outcome, recipe, read), f"imagefactory build RECIPE  # of {name}"
            )
    elif recipes:
        outcome.left.append(f"{outcome.again} --re-sign")


def _tell_catalogues(factory: Factory, outcome: Outcome) -> None:
    """Publish the trust file, from which the key is gone, in every catalogue that this factory has published to."""
    catalogues = Catalogues(factory.settings, find_trust(factory.settings.trust_files()), factory.progress)
    for place in known_catalogues(factory):
        command = f"imagefactory catalogue refresh {place}  # it has not heard of this"
        if place.is_dir():
            outcome.attempt(partial(catalogues.refresh, place), command)
        else:
            outcome.left.append(command)


def known_catalogues(factory: Factory) -> list[Path]:
    """The catalogues that this factory has published to, and that its signer knows. Raises Unreadable."""
    roots = TrustedRoots(factory.settings.signed)
    targets = (each.target for release in factory.records.releases() for each in release.publications)
    places = dict.fromkeys(map(parse_place, targets))
    return [each.root for each in places if isinstance(each, CataloguePlace) and roots.of(each.root) is not None]


def is_there(publication: Publication) -> bool:
    """Whether a publication was neither withdrawn nor deleted."""
    return publication.state not in {PublicationState.WITHDRAWN, PublicationState.DELETED}


def ref(release: Release) -> str:
    """NAME@VERSION."""
    return f"{release.name}@{release_version(release)}"


def _failure(action: Callable[[], object]) -> Failure | None:
    try:
        action()
    except Interrupted:
        raise
    except (FactoryError, SigningError) as error:
        return error
    except OSError as why:
        return SystemFailure(f"{why.filename or 'the system'}: {why.strerror or why}")
    return None


def _cannot_tell(release: Release) -> list[str]:
    why = f"cannot tell whether this key signed {ref(release)}: its document is absent here, or damaged"
    places = [published(release, each).target for each in release.publications if is_there(each)]
    if release.publications:
        return [f"imagefactory verify {place}  # {why}" for place in places]
    return [why]


def _withdraw(factory: Factory, outcome: Outcome, release: Release, publication: Publication) -> None:
    AuditLog(factory.settings.audit).append("release-withdrawn", release=ref(release), target=publication.target)
    factory.withdraw(release, publication, f"the {outcome.key.kind} key {outcome.key.id[:16]} was revoked")
    outcome.withdrawn.append(f"{publication.target}: {ref(release)}")


def _sign_again(
    factory: Factory, outcome: Outcome, recipe: Path, read: Callable[[Path, Settings], LoadedRecipe]
) -> None:
    outcome.signed.append(ref(factory.build(read(recipe, factory.settings)).release))


def _recipes(factory: Factory, affected: Sequence[Release]) -> dict[str, Path]:
    """The recipe of each image whose newest release is affected."""
    lost = {release.id for release in affected}
    found: dict[str, Path] = {}
    for name in dict.fromkeys(release.name for release in affected):
        newest = factory.records.releases(name)[0]
        if newest.id in lost:
            builds = {build.id: build for build in factory.records.builds(name)}
            found[name] = Path(builds[newest.build_id].recipe_file)
    return found


def _glance_keys(ring: KeyRing) -> list[str]:
    return [*_retired_keys(ring, "glance"), *(key for name, key in ring.metadata.keyids.items() if name == "glance")]


def revocable(trust: Trust, ring: KeyRing | None) -> list[Revocable]:
    """The trusted keys and CAs, and those whose public half stayed in the key directory after they were replaced.

    Raises KeyDamaged, Unreadable.
    """
    used = set(ring.metadata.keyids.values()) | {fingerprint(authority(ring))} if ring else set()
    found: dict[str, Revocable] = {}
    for kind in ("release", "provenance"):
        retired = _retired_keys(ring, kind) if ring else []
        for keyid in (*trust.keys(kind), *retired):
            found.setdefault(keyid, Revocable(kind, keyid, keyid in trust.keys(kind), keyid in used))
    trusted = {fingerprint(ca) for ca in trust.glance_ca}
    kept = [load_authority(path) for path in sorted(ring.directory.glob(f"{AUTHORITY}.*.crt"))] if ring else []
    for ca in (*trust.glance_ca, *kept):
        each = fingerprint(ca)
        found.setdefault(each, Revocable("glance-ca", each, each in trusted, each in used, ca))
    return list(found.values())


def choose(
    candidates: Sequence[Revocable], prefix: str, glance: Collection[str] = (), what: str = "can be revoked"
) -> Revocable:
    """The one whose id begins with `prefix`. `glance` are keys that are believed through their CA alone; `what` is said
    of the candidates. Raises KeyUnknown."""
    found = [each for each in candidates if each.id.startswith(prefix.lower())]
    if len(prefix) >= LEAST_PREFIX and any(each.startswith(prefix.lower()) for each in glance):
        raise KeyUnknown(
            f"{prefix[:16]} is a Glance key, and no trust file lists those: it is believed because of its CA",
            advice="imagefactory keys rotate glance-ca, then imagefactory keys revoke the CA that was replaced",
        )
    if len(prefix) < LEAST_PREFIX or len(found) != 1:
        many = f"{len(found)} keys have" if found else f"no key that {what} has"
        raise KeyUnknown(
            f"{LEAST_PREFIX} digits or more are needed, not {prefix!r}"
            if len(prefix) < LEAST_PREFIX
            else f"{many} an id that begins with {prefix}"
        )
    return found[0]


def check_revocable(trust: Trust, key: Revocable) -> None:
    """Raises KeyNeeded for the last trusted key of its purpose, and for the one that signs here."""
    rest = len(trust.glance_ca) if key.kind == "glance-ca" else len(trust.keys(key.kind))
    if key.trusted and rest == 1:
        raise KeyNeeded(f"{key.id[:16]} is the last {key.kind} that is trusted: nothing could be verified without it")
    if key.trusted and key.in_use:
        raise KeyNeeded(f"{key.id[:16]} is the {key.kind} that signs here")


def revoke(trust_file: Path, key: Revocable) -> None:
    """Take a key out of the trust file. Raises KeyNeeded, TrustInvalid, Unwritable."""
    trust = load_trust(trust_file)
    check_revocable(trust, key)
    without = {each: value for each, value in trust.release.items() if each != key.id}
    builders = {each: value for each, value in trust.provenance.items() if each != key.id}
    authorities = tuple(ca for ca in trust.glance_ca if fingerprint(ca) != key.id)
    names = {each: value for each, value in trust.names.items() if each != key.id}
    changed = replace(trust, release=without, provenance=builders, glance_ca=authorities, names=names)
    if changed != trust:
        replace_file(trust_file, changed.encode())


def signed_with(key: Revocable, release: Release, artifacts: ArtifactStore) -> bool | None:
    """Whether a key signed a release; None when its document is absent or damaged, so that nobody can tell.

    What the document says of itself is enough: nothing is believed for it.
    """
    name = PROVENANCE_FILE if key.kind == "provenance" else MANIFEST_FILE
    digest = release.files.get(name)
    if digest is None or not artifacts.has(digest):
        return None
    try:
        bundle = parse_bundle(read_document(artifacts.require(digest)))
        if key.ca is None:
            return bundle.keyid == key.id
        statement: dict[str, Any] = decode(bundle.envelope.payload, "statement")
        formats = ReleaseManifest.from_statement(statement).formats.values()
        return any(_issued(load_certificate(entry.glance.certificate), key.ca) for entry in formats)
    except SigningError:
        return None


def _issued(leaf: x509.Certificate, ca: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _retired_keys(ring: KeyRing, kind: Purpose) -> list[str]:
    found = []
    for path in sorted(ring.directory.glob(f"{kind}.*.pub")):
        try:
            found.append(keyid_of(load_public_key(read_document(path).decode("ascii"), kind)))
        except (SigningError, UnicodeDecodeError):
            continue
    return found
