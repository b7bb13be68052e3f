"""Looking for known vulnerabilities in an image."""

from imagefactory.errors.base import Refused, RemoteError, StepFailed, UsageError


class FeedMissing(UsageError):
    """The file that should be a feed of vulnerabilities is not there, or cannot be read."""

    code = "feed-missing"
    default_advice = "put the feed where the recipe says (vulnerabilities.feed), or name another"


class FeedTooLarge(UsageError):
    """A feed, or a part of it, is larger than any feed of vulnerabilities should be."""

    code = "feed-too-large"
    default_advice = "give the Debian security tracker's JSON, or OSV's records of Debian alone"


class FeedInvalid(UsageError):
    """What should be a feed of vulnerabilities is none, or holds what no such feed holds."""

    code = "feed-invalid"
    default_advice = "give the Debian security tracker's JSON, or OSV records as a zip, a JSON array or JSON lines"


class FeedForeign(UsageError):
    """A feed of vulnerabilities says nothing about the distribution and release of the image."""

    code = "feed-foreign"
    default_advice = "give a feed for the release of Debian that the recipe names under os"


class FeedStale(Refused):
    """A feed of vulnerabilities is too old to say what is known today, or of a day that has not come yet."""

    code = "feed-stale"
    default_advice = "fetch the feed again; a file is of the day on which it was last modified"


class FeedUnreachable(RemoteError):
    """A feed of vulnerabilities could not be fetched."""

    code = "feed-unreachable"
    default_advice = "check the network, the proxy and the address; a feed may be a file, too"


class VulnerabilitiesFound(StepFailed):
    """An image has known vulnerabilities that are worse than its recipe lets pass."""

    code = "vulnerabilities-found"
    default_advice = "build with packages that have the fixes, or write an exception with a reason, an owner and a day"


class NotScanned(Refused):
    """Nobody looked for known vulnerabilities in a release."""

    code = "not-scanned"
    default_advice = "write vulnerabilities into the recipe and build again; docs/reference/recipe.md says how"
