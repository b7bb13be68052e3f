"""One family of errors. Each class is one meaning, with a stable code that programs may rely on.

    FactoryError
    ├── Refused (exit 1)          what was asked for is not done, because something is wrong with it
    │   ├── ImageRefused              the bytes of an image are not what they should be
    │   └── StepFailed                a step ran and failed
    ├── UsageError (exit 2)       the request or the recipe is wrong
    │   └── RecipeError               with file, line and column
    ├── HostError (exit 3)        this machine lacks something
    ├── RemoteError (exit 4)      a service elsewhere failed
    └── Interrupted (exit 130)    somebody asked us to stop

The room `signing` has a family of its own of the same shape, because it imports nothing of ours.
docs/reference/errors.md is made from both.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple


class FactoryError(Exception):
    """Something went wrong in a way that has a name.

    `message` says what happened and where, `advice` what to do next, `lines` are the lines of a log that matter, `log`
    is the whole of it.
    """

    code: ClassVar[str] = ""
    exit_code: ClassVar[int] = 1
    default_advice: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        advice: str | None = None,
        log: Path | None = None,
        lines: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.advice = self.default_advice if advice is None else advice
        self.log = log
        self.lines = lines

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


def catalogue(root: type[FactoryError] = FactoryError) -> Iterator[type[FactoryError]]:
    """Every error class that has a code, in the order of definition."""
    for child in root.__subclasses__():
        if child.code:
            yield child
        yield from catalogue(child)


class Refused(FactoryError):
    """What was asked for is not done, because something is wrong with it."""


class UsageError(FactoryError):
    """The request is wrong."""

    code = "usage"
    exit_code = 2
    default_advice = "see imagefactory VERB --help"


class HostError(FactoryError):
    """This machine lacks something."""

    exit_code = 3


class RemoteError(FactoryError):
    """A service elsewhere failed."""

    exit_code = 4


class Interrupted(FactoryError):
    """Somebody asked us to stop (SIGINT or SIGTERM)."""

    code = "interrupted"
    exit_code = 130
    default_advice = "run the same command again: finished steps are kept"


# -- the host ---------------------------------------------------------------------------------------------------------


class ProgramMissing(HostError):
    """A program that is needed is not installed."""

    code = "program-missing"
    default_advice = "imagefactory doctor names the package"


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
    """Another process works on the same image name."""

    code = "busy"
    default_advice = "wait for it to end; nothing is left behind when it dies"


# -- programs ---------------------------------------------------------------------------------------------------------


class StepFailed(Refused):
    """A step ran and failed."""


class ProgramFailed(StepFailed):
    """A program ended with an error."""

    code = "program-failed"
    default_advice = "the log has the whole story"


class ProgramTimeout(StepFailed):
    """A program did not end before its deadline and was ended with all its children."""

    code = "program-timeout"
    default_advice = "the log has the whole story; a slower machine may want a longer timeout"


class HandDied(StepFailed):
    """The builder's or the signer's process ended without an answer."""

    code = "hand-died"
    default_advice = "its last words are in the log; run the same command again"


class SignerRefused(Refused):
    """The signer's process refused, with a code of the room `signing`."""

    def __init__(
        self, message: str, *, code: str, advice: str, log: Path | None = None, lines: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message, advice=advice, log=log, lines=lines)
        self.code = code  # type: ignore[misc]  # the one class whose code is not its own


# -- packages and the root file system --------------------------------------------------------------------------------


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


# -- disks ------------------------------------------------------------------------------------------------------------


class DiskTooSmall(Refused):
    """The root file system does not fit on a disk of the size that the recipe asks for."""

    code = "disk-too-small"
    default_advice = "raise the disk size in the recipe, or leave packages out"


class BootloaderMissing(Refused):
    """The root file system lacks a part of the boot loader that the recipe's firmware needs."""

    code = "bootloader-missing"
    default_advice = "add the element that installs it (soe-debian does), or leave that firmware out of the recipe"


# -- boot tests -------------------------------------------------------------------------------------------------------


class FirmwareMissing(HostError):
    """The firmware that a virtual machine needs is not installed."""

    code = "firmware-missing"
    default_advice = "apt install ovmf qemu-system-x86 seabios"


class AcceleratorBroken(HostError):
    """Hardware virtualisation is there and failed in the middle of a boot."""

    code = "accelerator-broken"
    default_advice = "run the same command again with software emulation (tcg)"


class BootFailed(StepFailed):
    """An image did not boot as it should. The console log and a picture of the screen lie beside each other."""


class BootNoConsole(BootFailed):
    """An image wrote nothing to its serial console until the deadline."""

    code = "boot-no-console"
    default_advice = "the kernel command line wants console=ttyS0,115200 as the last console="


class BootTimeout(BootFailed):
    """An image did not get as far as it should before the deadline."""

    code = "boot-timeout"
    default_advice = "the console log shows where it stands; without KVM a slow machine may want a longer timeout"


class BootPanic(BootFailed):
    """The kernel of an image gave up."""

    code = "boot-panic"
    default_advice = "the first of the lines usually names the cause: a missing driver, root device or init"


class BootEmergency(BootFailed):
    """An image ended in the shell of its initramfs or in systemd's emergency mode."""

    code = "boot-emergency"
    default_advice = "compare root= on the kernel command line and /etc/fstab with the labels of the disk"


class BootNoLoader(BootFailed):
    """The firmware found nothing to boot, or the boot loader not its configuration."""

    code = "boot-no-loader"
    default_advice = "look at the partition table, the EFI system partition and the place of grub.cfg"


class BootRefused(BootFailed):
    """Secure Boot refused what the image wanted to run."""

    code = "boot-refused"
    default_advice = "shim, grub and kernel must be the signed ones of one distribution, unchanged"


class BootReset(BootFailed):
    """An image reset or powered off its machine when it should have been running."""

    code = "boot-reset"
    default_advice = "the last lines before the reset usually name the cause"


class BootCheckFailed(BootFailed):
    """An image booted, and what was looked at in it is not as it should be."""

    code = "boot-check-failed"
    default_advice = "each line names a check and what was found instead"


# -- images -----------------------------------------------------------------------------------------------------------


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
    """The output of a conversion exists already."""

    code = "output-exists"
    default_advice = "choose another name, or remove the file"


# -- releases and what is remembered ----------------------------------------------------------------------------------


class ReleaseNameInvalid(UsageError):
    """A release is written NAME or NAME@VERSION."""

    code = "release-name-invalid"
    default_advice = "NAME is a-z, 0-9 and '-', VERSION is YYYYMMDD.N"


class ReleaseUnknown(Refused):
    """There is no such release here."""

    code = "release-unknown"
    default_advice = "imagefactory releases list shows what there is"


class ArtifactMissing(Refused):
    """A file that the records name is not in the artifact store any more."""

    code = "artifact-missing"
    default_advice = "build again; unchanged inputs give the same bytes"


class StateConflict(Refused):
    """The records are in another state than this change expects."""

    code = "state-conflict"
    default_advice = "look at imagefactory releases list, then run the command again"


# -- the recipe -------------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where something is written: `line` and `column` count from 1."""

    file: Path
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class RecipeError(UsageError):
    """A recipe is wrong. The message begins with file:line:column; `lines` has whatever else is wrong with it."""

    code = ""
    default_advice = "docs/reference/recipe.md describes every field"

    def __init__(
        self, message: str, *, at: Place | None = None, advice: str | None = None, lines: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message if at is None else f"{at}: {message}", advice=advice, lines=lines)
        self.file = None if at is None else at.file
        self.line = None if at is None else at.line
        self.column = None if at is None else at.column


class RecipeNotFound(RecipeError):
    """There is no such file."""

    code = "recipe-not-found"
    default_advice = "give the path of a recipe, such as recipes/soe-debian-12.yaml"


class RecipeUnreadable(RecipeError):
    """What should be a recipe is no regular file, or may not be read."""

    code = "recipe-unreadable"
    default_advice = "a recipe is a regular file that this user may read"


class RecipeTooLarge(RecipeError):
    """A recipe has too many bytes, nodes or levels."""

    code = "recipe-too-large"
    default_advice = "a recipe holds one image; what many share belongs in an element or in a recipe to extend"


class RecipeNotYaml(RecipeError):
    """A recipe cannot be read as YAML 1.2."""

    code = "recipe-not-yaml"
    default_advice = "indent with spaces, and put text with special characters in quotes"


class RecipeInvalid(RecipeError):
    """A field of a recipe is missing or has a wrong value."""

    code = "recipe-invalid"


class RecipeUnknownKey(RecipeError):
    """A recipe has a key that means nothing."""

    code = "recipe-unknown-key"


class RecipeUnit(RecipeError):
    """A size or a duration has no unit, or one that is not known."""

    code = "recipe-unit"
    default_advice = 'write sizes like "512 MiB" or "4 GiB", durations like "90s", "20m" or "2h"'


class RecipeExtendsLoop(RecipeError):
    """Recipes extend each other in a circle, or too many times over."""

    code = "recipe-extends-loop"
    default_advice = "a recipe extends at most eight others, one after the other"


class RecipeReference(RecipeError):
    """A key or certificate that the recipe names cannot be used."""

    code = "recipe-reference"
    default_advice = "paths count from the folder of the file that writes them"


class ArchUnsupported(RecipeError):
    """Images of this architecture are not made."""

    code = "arch-unsupported"
    default_advice = "write arch: amd64"


class ElementUnknown(RecipeError):
    """No folder of elements has one of this name."""

    code = "element-unknown"
    default_advice = "an element is a folder of that name in one of the folders of elements"


class SecretInRecipe(RecipeError):
    """A recipe holds something that looks like a secret. The message does not repeat it."""

    code = "secret-in-recipe"
    default_advice = "a recipe is published with its image: give secrets to the instance, not to the image"


class OutputUnusable(HostError):
    """The output of a command cannot be written where it should be."""

    code = "output-unusable"
    default_advice = "name a file in a directory that exists and that you may write to"


class EvidenceMissing(Refused):
    """A release needs evidence about its images that is not there, or that speaks of other bytes."""

    code = "evidence-missing"
    default_advice = "build with --fresh, so that every image is tested again"


class VersionMismatch(Refused):
    """The provenance speaks of another image name or version than the one to be signed."""

    code = "version-mismatch"
    default_advice = "do not sign this; build again"


class TargetUnsupported(UsageError):
    """A publication or verification target cannot be understood."""

    code = "target-unsupported"
    default_advice = "a target is a file, or catalogue:PATH/NAME[@VERSION]"


class CatalogueConflict(Refused):
    """The catalogue holds something else under this name and version."""

    code = "catalogue-conflict"
    default_advice = "never replace a published version; look who else publishes there"


class CatalogueUnusable(HostError):
    """The catalogue directory cannot be read or written."""

    code = "catalogue-unusable"


class FormatUnsupported(UsageError):
    """The recipe wants a format that cannot be built yet."""

    code = "format-unsupported"
    default_advice = "raw and qcow2 can be built"


class ElementsConflict(UsageError):
    """The elements of a recipe do not go together."""

    code = "elements-conflict"
    default_advice = "look at element-deps and element-provides of the elements it names"
