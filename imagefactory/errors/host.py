"""What this machine lacks."""

from imagefactory.errors.base import HostError


class ExtraMissing(HostError):
    """A part of imagefactory that is installed separately is needed."""

    code = "extra-missing"


class DiskFull(HostError):
    """A file system ran out of space."""

    code = "disk-full"
    default_advice = "free some space, or run imagefactory gc; finished steps are kept"


class NoRights(HostError):
    """The build of a root file system needs root, and neither root nor sudo was to be had."""

    code = "no-rights"
    default_advice = "run sudo -v first, or run as root"


class HomeUnusable(HostError):
    """IMAGEFACTORY_HOME cannot be used."""

    code = "home-unusable"


class Busy(HostError):
    """Another process works on the same image name, or uses the same trust store."""

    code = "busy"
    default_advice = "wait for it to end; nothing is left behind when it dies"


class OutputUnusable(HostError):
    """The output of a command cannot be written where it should be."""

    code = "output-unusable"
    default_advice = "name a file in a directory that exists and that you may write to"


class SystemFailure(HostError):
    """The operating system refused something that has no code of its own. The message has the path and the reason."""

    code = "system-error"
    default_advice = "look at that path: its owner, its rights and the state of its file system"
