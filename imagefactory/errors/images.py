"""Images and their conversion."""

from imagefactory.errors.base import Refused, UsageError


class ImageRefused(Refused):
    """The bytes of an image are not what they should be."""


class ImageTooLarge(ImageRefused):
    """An image, or the disk it describes, is larger than the limit."""

    code = "image-too-large"
    default_advice = "raise the limit with --max-size if you trust its origin"


class FormatUnknown(ImageRefused):
    """The format of an image cannot be told, or it is several formats at once."""

    code = "format-unknown"
    default_advice = "do not use this file; fetch the image again from its origin"


class FormatMismatch(ImageRefused):
    """An image is not of the declared format."""

    code = "format-mismatch"
    default_advice = "declare the format that it has, if you trust its origin"


class ImageUnsafe(ImageRefused):
    """An image refers to other files, uses unknown features, or is cut short."""

    code = "image-unsafe"
    default_advice = "do not use this file; ask its origin for a self-contained image"


class ImageDamaged(ImageRefused):
    """qemu-img finds the image inconsistent or cut short."""

    code = "image-damaged"
    default_advice = "fetch the image again from its origin"


class ConversionUnsupported(UsageError):
    """There is no conversion between these formats."""

    code = "conversion-unsupported"
    default_advice = "raw and qcow2 convert into each other; an ISO is copied with --as-is"


class OutputExists(UsageError):
    """A file that is to be made exists already."""

    code = "output-exists"
    default_advice = "choose another name, or remove the file"


class FormatUnsupported(UsageError):
    """The recipe wants a format that cannot be built yet."""

    code = "format-unsupported"
    default_advice = "raw and qcow2 can be built"
