"""Measuring an image by a standard."""

from imagefactory.errors.base import Refused, StepFailed, UsageError


class ContentMissing(Refused):
    """There is no SCAP content for this release of the distribution."""

    code = "scap-content-missing"
    default_advice = "name a data stream of your own in the recipe (compliance.content), or leave compliance out"


class ContentInvalid(UsageError):
    """What should be a SCAP data stream is none, is too large, or is made for another release."""

    code = "scap-content-invalid"
    default_advice = "give a SCAP 1.2 or 1.3 source data stream, such as ssg-debian12-ds.xml"


class ProfileUnknown(UsageError):
    """The SCAP content has no profile of this name."""

    code = "profile-unknown"
    default_advice = "write the short name of a profile, such as anssi_bp28_enhanced"


class RuleUnknown(UsageError):
    """An exception is made for a rule that the profile does not have."""

    code = "rule-unknown"
    default_advice = "write the short name of a rule that the profile selects, such as sshd_disable_root_login"


class TailoringInvalid(UsageError):
    """What should be an XCCDF tailoring file is none, is too large, or selects what does not exist."""

    code = "tailoring-invalid"
    default_advice = "give an XCCDF 1.2 Tailoring document, as SCAP Workbench or autotailor write it"


class ScanFailed(StepFailed):
    """The image could not be measured, or what the scanner wrote cannot be believed."""

    code = "scan-failed"
    default_advice = "the log has what the scanner said"


class ComplianceFailed(StepFailed):
    """An image does not reach what its recipe wants of it."""

    code = "compliance-failed"
    default_advice = "mend the image, or write an exception with a reason, an owner and a day into the recipe"


class ExceptionExpired(Refused):
    """What was accepted for a time, a failing rule or a vulnerability, is no longer: its exception has expired."""

    code = "exception-expired"
    default_advice = "mend what it is for, or have the exception's owner renew it"


class NotMeasured(Refused):
    """A release, or what should become one, was not measured by any standard."""

    code = "not-measured"
    default_advice = "write compliance into the recipe and build again; docs/reference/recipe.md says how"
