"""The signed metadata of a catalogue: what is wrong with it."""

from imagefactory.errors.base import Refused, RemoteError


class CatalogueDamaged(Refused):
    """The metadata of a catalogue is not what its format says, or a part of it is missing."""

    code = "catalogue-damaged"
    default_advice = "use a mirror, or restore the metadata directory from one or from a backup"


class CatalogueUnsigned(Refused):
    """The metadata of a catalogue is not signed by enough of the keys that its root names."""

    code = "catalogue-unsigned"
    default_advice = "trust nothing in it; find out who wrote there, and restore it from a mirror or a backup"


class CatalogueMixed(Refused):
    """A part of a catalogue's metadata, or a manifest, is not the one that the rest of it names."""

    code = "catalogue-mixed"
    default_advice = "use a mirror, or restore the whole catalogue from one or from a backup"


class CatalogueRollback(Refused):
    """A catalogue shows a state that is older than one it has shown before."""

    code = "catalogue-rollback"
    default_advice = "somebody may be hiding newer releases: compare with a mirror, and ask whoever publishes there"


class CatalogueFrozen(Refused):
    """The metadata of a catalogue has expired: nobody vouches any more that it is the newest."""

    code = "catalogue-frozen"
    default_advice = (
        "compare with a mirror, check the clock of this machine, and ask whoever publishes there;"
        " where no network goes, import the metadata of today (catalogue export, which needs no release)"
    )


class CatalogueEndless(Refused):
    """A catalogue sends more than a file of its kind may have."""

    code = "catalogue-endless"
    default_advice = "use a mirror, and find out what answers at that address"


class CatalogueUnreachable(RemoteError):
    """A catalogue does not answer, not in time, or not with what it promised."""

    code = "catalogue-unreachable"
    default_advice = "check the address, the network and the proxy, then try again later or use a mirror"


class CatalogueUntrusted(Refused):
    """There is no root to trust a catalogue by, or another one than the one that was pinned."""

    code = "catalogue-untrusted"
    default_advice = (
        "get the catalogue's root.json from its makers by a way that you trust, and give it once, with --root;"
        " a catalogue that was moved is another one"
    )


class CatalogueUninitialised(Refused):
    """A catalogue has no signed metadata yet, and what is published there would have to be believed for itself."""

    code = "catalogue-uninitialised"
    default_advice = "make it one with imagefactory catalogue init"


class CatalogueIncomplete(Refused):
    """Releases that a catalogue lists are not there, or not as they were signed."""

    code = "catalogue-incomplete"
    default_advice = (
        "restore their folders from a mirror, or revoke them (imagefactory catalogue revoke);"
        " with --present releases that are not there at all are no error"
    )
