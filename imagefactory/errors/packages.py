"""Packages, elements and the root file system."""

from imagefactory.errors.base import HostError, Refused, RemoteError, StepFailed, UsageError


class NoMirror(HostError):
    """No package mirror is known for the distribution."""

    code = "no-mirror"
    default_advice = "name repositories in the recipe, or give this host's apt a mirror"


class MirrorUnreachable(RemoteError):
    """The package mirror did not answer, or what it said is not signed by the expected key."""

    code = "mirror-unreachable"
    default_advice = "check the mirror, the proxy and signed_by in the recipe, then run the same command again"


class PackageMissing(Refused):
    """A package of the recipe or of an element is offered by no source."""

    code = "package-missing"
    default_advice = "check the name and the recipe's repositories"


class RootfsFailed(StepFailed):
    """diskimage-builder ended with an error."""

    code = "rootfs-failed"
    default_advice = "the last lines of the log name the element and the script"


class RootfsUnreadable(StepFailed):
    """A root file system does not say what is installed in it, or says what cannot be true."""

    code = "rootfs-unreadable"
    default_advice = "look which element or package writes to /var/lib/dpkg, or fills /usr/share/doc"


class ElementsConflict(UsageError):
    """The elements of a recipe do not go together."""

    code = "elements-conflict"
    default_advice = "look at element-deps and element-provides of the elements it names"


class ElementsUnsafe(HostError):
    """Elements that root would run may be written by others, or lie where diskimage-builder cannot read them."""

    code = "elements-unsafe"
    default_advice = "own the elements yourself, and let nobody else write to them: chmod -R o-w"


class InputsChanged(Refused):
    """Something that goes into a build changed while it was built."""

    code = "inputs-changed"
    default_advice = "let nobody edit elements, keys and certificates during a build, and build again"
