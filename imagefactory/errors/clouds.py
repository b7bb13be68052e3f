"""Clouds: reaching them, publishing to them, and what is found there."""

from imagefactory.errors.base import HostError, Refused, RemoteError, UsageError


class CloudUnknown(UsageError):
    """clouds.yaml does not know this cloud, or cannot be read."""

    code = "cloud-unknown"
    default_advice = "look at clouds.yaml: OS_CLIENT_CONFIG_FILE, ./, ~/.config/openstack or /etc/openstack"


class CloudAuthFailed(Refused):
    """The cloud does not accept our credentials: wrong, expired or revoked."""

    code = "cloud-auth-failed"
    default_advice = "renew the password or application credential of this cloud in clouds.yaml"


class CloudForbidden(Refused):
    """The cloud knows us and does not let us do this."""

    code = "cloud-forbidden"
    default_advice = "imagefactory preflight CLOUD tells which role is missing"


class CloudQuota(Refused):
    """The cloud has no room for this: a quota of space, images or properties."""

    code = "cloud-quota"
    default_advice = "delete old images, or ask the cloud's operator for a larger quota"


class NoImageService(Refused):
    """The cloud's catalogue has no image service in this region."""

    code = "no-image-service"
    default_advice = "check region_name and interface of this cloud in clouds.yaml"


class CloudUnreachable(RemoteError):
    """A service of the cloud does not answer, or only with errors of its own."""

    code = "cloud-unreachable"
    default_advice = "try again later; what was begun is finished or removed then"


class CloudAnswerInvalid(RemoteError):
    """A service of the cloud answered something that it should not."""

    code = "cloud-answer-invalid"
    default_advice = "look at what sits between here and the cloud: a proxy, a load balancer, another version"


class CloudAnswerTooLarge(CloudAnswerInvalid):
    """A service of the cloud answered with more than is read."""

    code = "cloud-answer-too-large"


class CloudIncomplete(RemoteError):
    """A part of the cloud does not answer, so that nobody can say what is in use there. Nothing is deleted."""

    code = "cloud-incomplete"
    default_advice = "ask the cloud's operator which cell or service is down; try again when it is back"


class CloudCannotSeeAll(Refused):
    """This credential does not see what all projects use, so that nothing may be deleted because of what it sees."""

    code = "cloud-cannot-see-all"
    default_advice = (
        "name a credential with role admin as in_use_cloud; an application credential with access rules will do"
    )


class NoCloudService(Refused):
    """The cloud has no such service where clouds.yaml and Keystone's catalogue say, or only one that is too old."""

    code = "no-cloud-service"
    default_advice = "check region_name and interface of this cloud in clouds.yaml"


class ClockOff(HostError):
    """The clocks of this machine and of a cloud are more than five minutes apart: no date can be acted upon."""

    code = "clock-off"
    default_advice = "set the clock of this machine; if it is right, tell the cloud's operator"


class BarbicanFailed(RemoteError):
    """Barbican, which keeps the certificate that Glance verifies with, is down or refuses."""

    code = "barbican-failed"
    default_advice = "try again later; imagefactory preflight CLOUD tells what this account may do there"


class UploadFailed(RemoteError):
    """Every attempt to upload an image failed. No image is left behind, or the next run finds it."""

    code = "upload-failed"
    default_advice = "run the same command again"


class ImageIdBurnt(RemoteError):
    """Glance has used this image id before and never takes it again."""

    code = "image-id-burnt"
    default_advice = "run the same command again: it takes a new id"


class GlanceRefusedSignature(Refused):
    """Glance verified the signature of the upload itself and refused it."""

    code = "glance-refused-signature"
    default_advice = "do not upload this image; if it verifies here, look at the certificate in Barbican"


class GlanceRefusedFormat(Refused):
    """Glance inspected the upload and refused its format."""

    code = "glance-refused-format"
    default_advice = "publish the other format; imagefactory preflight CLOUD lists what this cloud takes"


class GlanceRefused(Refused):
    """Glance refuses the image as it was described: a property, a name, a tag."""

    code = "glance-refused"
    default_advice = "imagefactory properties check RECIPE shows what would be written"


class ImageUnknown(Refused):
    """The cloud has no image of this name or id that we may see."""

    code = "image-unknown"
    default_advice = "openstack image list shows what there is; releases show RELEASE has the ids"


class ImageAmbiguous(Refused):
    """Several images of the cloud have this name."""

    code = "image-ambiguous"
    default_advice = "name the image by its id"


class ImageNotActive(Refused):
    """The image has no data that could be verified: it is queued, saving, deactivated or being deleted."""

    code = "image-not-active"
    default_advice = "publish the release again, or reactivate the image"


class ImageInUse(Refused):
    """Glance does not delete the image, because its store still needs it: volumes or machines were cloned from it."""

    code = "image-in-use"
    default_advice = "it is hidden; try again when what was made from it is gone"


class ImageProtected(Refused):
    """Somebody else than this publisher protected the image against deletion."""

    code = "image-protected"
    default_advice = "find out who still wants it; openstack image set --unprotect lets it be deleted"


class DuplicateName(Refused):
    """Another image of the project, which is no release of this name, is shown under the display name."""

    code = "duplicate-name"
    default_advice = "rename, hide or delete the other image, or choose another display_name"


class HolderNotShown(Refused):
    """The image that is to have the name could not be shown, so that no other image may give it up."""

    code = "holder-not-shown"
    default_advice = "see what is said about the image that is to have the name; then imagefactory lifecycle apply"


class ManifestNotFound(Refused):
    """There is no manifest for this image in the catalogue."""

    code = "manifest-not-found"
    default_advice = "say where it is: --catalogue PATH or --manifest FILE"


class ImageOfAnotherRelease(Refused):
    """The image says that it belongs to another release than the manifest."""

    code = "image-of-another-release"
    default_advice = "do not boot it; name the release that you expect"


class ImageReplaced(Refused):
    """The data of the image in the cloud is not what was signed."""

    code = "image-replaced"
    default_advice = "do not boot it; delete it and publish the release again"


class ImagePropertyMissing(Refused):
    """A signed property was removed from the image in the cloud."""

    code = "image-property-missing"
    default_advice = "publish the release again; property protections of Glance keep others from this"


class ImagePropertyChanged(Refused):
    """A signed property of the image in the cloud has another value."""

    code = "image-property-changed"
    default_advice = "publish the release again; property protections of Glance keep others from this"


class ImageSignatureMissing(Refused):
    """The cloud could verify signatures, and this image carries none: the cloud will boot it unverified."""

    code = "image-signature-missing"
    default_advice = "do not boot it; delete it and publish the release again"


class ImageSignatureIncomplete(Refused):
    """Some, but not all, of the four signature properties are there: Glance and Nova then verify nothing."""

    code = "image-signature-incomplete"
    default_advice = "do not boot it; delete it and publish the release again"


class ImageSignatureChanged(Refused):
    """The signature properties of the image are not those of the manifest."""

    code = "image-signature-changed"
    default_advice = "do not boot it; delete it and publish the release again"


class CertificateForeign(Refused):
    """The certificate that the cloud would verify with is not the one of the manifest."""

    code = "certificate-foreign"
    default_advice = "do not boot it; delete it and publish the release again"


class CertificateUnreadable(Refused):
    """The certificate in Barbican cannot be read by this account, so nothing can be said about it."""

    code = "certificate-unreadable"
    default_advice = "ask the publisher to add your user id to certificate_readers of this cloud in the recipe"
