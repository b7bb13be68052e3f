"""Images that a recipe starts from."""

from imagefactory.errors.base import Refused, RemoteError, UsageError


class BaseMissing(UsageError):
    """The file that a recipe starts from is not there, is no regular file, or cannot be read."""

    code = "base-missing"
    default_advice = "put the image where the recipe says (base.image), or name another"


class BaseUnreachable(RemoteError):
    """The image that a recipe starts from could not be fetched."""

    code = "base-unreachable"
    default_advice = "check the network, the proxy and the address; a base may be a file, too"


class BaseChanged(Refused):
    """The image that a recipe starts from does not have the digest that was pinned."""

    code = "base-changed"
    default_advice = "find out why it is another image; if you trust the new one, write its digest into base.sha256"


class BaseTooLarge(Refused):
    """The image that a recipe starts from, its disk, or what is in it is larger than the limit."""

    code = "base-too-large"
    default_advice = "docs/how-to/start-from-your-image.md has the limits; what is in the base must fit into disk.size"


class BaseNotAnImage(Refused):
    """What a recipe starts from is no disk image with a file system in it."""

    code = "base-not-an-image"
    default_advice = "give a raw or qcow2 image of a disk whose root file system is ext4"


class BaseUnsupported(Refused):
    """The image that a recipe starts from is made in a way that cannot be taken apart here."""

    code = "base-unsupported"
    default_advice = "docs/how-to/start-from-your-image.md says what a base may be like"


class BaseDamaged(Refused):
    """The file system of the image that a recipe starts from is not sound."""

    code = "base-damaged"
    default_advice = "fetch the image again from its origin; one of a running machine is never whole"


class BaseForeign(Refused):
    """The image that a recipe starts from has another operating system than the recipe says, or none that is known."""

    code = "base-foreign"
    default_advice = "let os in the recipe say what the base is, or name another base"


class BaseWithoutPackages(Refused):
    """The image that a recipe starts from has no known package manager."""

    code = "base-without-packages"
    default_advice = "give an image whose packages are installed by dpkg"
