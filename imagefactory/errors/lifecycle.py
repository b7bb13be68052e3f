"""Names, channels and the retirement of releases."""

from imagefactory.errors.base import Refused, RemoteError, UsageError


class ChannelUnknown(UsageError):
    """A recipe has no such channel."""

    code = "channel-unknown"
    default_advice = "the recipe's key channels names them"


class ApprovalMissing(Refused):
    """Not enough people have approved a release."""

    code = "approval-missing"
    default_advice = "somebody else approves it"


class NothingToChange(Refused):
    """A release is as this change would make it."""

    code = "nothing-to-change"
    default_advice = "imagefactory releases show says how it stands"


class PreviousMissing(Refused):
    """No other release can have the name."""

    code = "previous-missing"
    default_advice = "imagefactory releases list shows what there is"


class PlacesLeft(RemoteError):
    """What was decided is recorded, and some places do not show it yet."""

    code = "places-left"
    default_advice = "imagefactory lifecycle apply, once these places can be reached: what is done is not repeated"


class ReleaseDeleted(Refused):
    """A release was deleted in a place, for good."""

    code = "release-deleted"
    default_advice = "build again, and publish the new version"


class DriftFound(Refused):
    """Published images are not as they were signed and recorded, or there are some that no record knows."""

    code = "drift-found"
    default_advice = "imagefactory lifecycle audit --fix puts right what is metadata; publish again what is gone"


class CloudsUnasked(RemoteError):
    """Some clouds could not be asked how their images are."""

    code = "clouds-unasked"
    default_advice = "run the same command again when they answer: imagefactory lifecycle audit"
