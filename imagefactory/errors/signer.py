"""What the signer may sign, what it remembers, and its log."""

from imagefactory.errors.base import Refused


class PolicyMissing(Refused):
    """The signer has no policy, so there is nothing that it may sign."""

    code = "policy-missing"
    default_advice = "Make one with `imagefactory policy init`, then `imagefactory policy approve RECIPE`."


class PolicyInvalid(Refused):
    """The signer's policy is damaged, open to changes by others, or approves what only one for development may."""

    code = "policy-invalid"
    default_advice = "Restore the policy from where it was reviewed, or `imagefactory policy approve` again."


class NameNotApproved(Refused):
    """The policy does not speak of images of this name."""

    code = "name-not-approved"
    default_advice = "Review the recipe, then run `imagefactory policy approve RECIPE`."


class BuilderNotApproved(Refused):
    """The policy does not let this builder make images of this name."""

    code = "builder-not-approved"
    default_advice = "Check which host built it, then `imagefactory policy approve RECIPE --builder KEYID`."


class RecipeNotApproved(Refused):
    """The image was built from a recipe that the policy does not have."""

    code = "recipe-not-approved"
    default_advice = "Review what changed in the recipe, then run `imagefactory policy approve RECIPE`."


class ElementNotApproved(Refused):
    """The image was built with an element, or a state of one, that the policy does not have."""

    code = "element-not-approved"
    default_advice = "Review what changed in the element, then run `imagefactory policy approve RECIPE`."


class VersionUsed(Refused):
    """The signer has signed this version of this name for other bytes, or a newer version already."""

    code = "version-used"
    default_advice = "Build again: that takes the next version. Nothing is ever signed twice under one version."


class NotSignedHere(Refused):
    """The signer does not list a release in a catalogue that it has not signed itself, byte by byte."""

    code = "not-signed-here"
    default_advice = "Publish where it was signed. If the signer's memory was lost, restore it from a backup."


class VersionAhead(Refused):
    """A version is of a day that has not come yet; signing it would keep all days before it from being signed."""

    code = "version-ahead"
    default_advice = "Check the clocks of builder and signer."


class MemoryDamaged(Refused):
    """Something in the signer's memory of what it signed is none of its documents."""

    code = "memory-damaged"
    default_advice = "Find out who wrote there, and restore the directory from a backup."


class AuditDamaged(Refused):
    """The audit log was altered, or is not an audit log."""

    code = "audit-damaged"
    default_advice = "Keep the file as it is, find out who wrote to it, and restore it from a backup."


class AuditCut(Refused):
    """The audit log lacks entries that were there when a release was signed, or has two releases of one version."""

    code = "audit-cut"
    default_advice = "Treat it as an attack until explained; restore the log from a backup."
