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

from imagefactory.errors.base import (
    FactoryError,
    HostError,
    Interrupted,
    Refused,
    RemoteError,
    StepFailed,
    UsageError,
    catalogue,
)
from imagefactory.errors.boots import (
    AcceleratorBroken,
    BootCheckFailed,
    BootEmergency,
    BootFailed,
    BootNoConsole,
    BootNoLoader,
    BootPanic,
    BootRefused,
    BootReset,
    BootTimeout,
    FirmwareMissing,
)
from imagefactory.errors.disks import (
    BootloaderMissing,
    DiskTooSmall,
)
from imagefactory.errors.host import (
    Busy,
    DiskFull,
    ExtraMissing,
    HomeUnusable,
    NoRights,
    OutputUnusable,
    SystemFailure,
)
from imagefactory.errors.images import (
    ConversionUnsupported,
    FormatMismatch,
    FormatUnknown,
    FormatUnsupported,
    ImageDamaged,
    ImageRefused,
    ImageTooLarge,
    ImageUnsafe,
    OutputExists,
)
from imagefactory.errors.packages import (
    ElementsConflict,
    ElementsUnsafe,
    InputsChanged,
    MirrorUnreachable,
    NoMirror,
    PackageMissing,
    RootfsFailed,
)
from imagefactory.errors.programs import (
    HandDied,
    ProgramFailed,
    ProgramMissing,
    ProgramTimeout,
    SignerRefused,
)
from imagefactory.errors.properties import (
    PropertiesIncomplete,
    PropertyContradicted,
    PropertyInvalid,
    VisibilityRefused,
)
from imagefactory.errors.recipes import (
    ArchUnsupported,
    ElementUnknown,
    Place,
    RecipeError,
    RecipeExtendsLoop,
    RecipeInvalid,
    RecipeNotFound,
    RecipeNotYaml,
    RecipeReference,
    RecipeTooLarge,
    RecipeUnit,
    RecipeUnknownKey,
    RecipeUnreadable,
    SecretInRecipe,
)
from imagefactory.errors.releases import (
    ArtifactMissing,
    CatalogueConflict,
    CatalogueUnusable,
    EvidenceMissing,
    ReleaseNameInvalid,
    ReleaseUnknown,
    StateConflict,
    TargetUnsupported,
    VersionMismatch,
)

__all__ = [
    "FactoryError",
    "catalogue",
    "Refused",
    "StepFailed",
    "UsageError",
    "HostError",
    "RemoteError",
    "Interrupted",
    "ExtraMissing",
    "DiskFull",
    "NoRights",
    "HomeUnusable",
    "Busy",
    "OutputUnusable",
    "SystemFailure",
    "ProgramMissing",
    "ProgramFailed",
    "ProgramTimeout",
    "HandDied",
    "SignerRefused",
    "NoMirror",
    "MirrorUnreachable",
    "PackageMissing",
    "RootfsFailed",
    "ElementsConflict",
    "ElementsUnsafe",
    "InputsChanged",
    "DiskTooSmall",
    "BootloaderMissing",
    "FirmwareMissing",
    "AcceleratorBroken",
    "BootFailed",
    "BootNoConsole",
    "BootTimeout",
    "BootPanic",
    "BootEmergency",
    "BootNoLoader",
    "BootRefused",
    "BootReset",
    "BootCheckFailed",
    "ImageRefused",
    "ImageTooLarge",
    "FormatUnknown",
    "FormatMismatch",
    "ImageUnsafe",
    "ImageDamaged",
    "ConversionUnsupported",
    "OutputExists",
    "FormatUnsupported",
    "Place",
    "RecipeError",
    "RecipeNotFound",
    "RecipeUnreadable",
    "RecipeTooLarge",
    "RecipeNotYaml",
    "RecipeInvalid",
    "RecipeUnknownKey",
    "RecipeUnit",
    "RecipeExtendsLoop",
    "RecipeReference",
    "ArchUnsupported",
    "ElementUnknown",
    "SecretInRecipe",
    "PropertyInvalid",
    "PropertyContradicted",
    "PropertiesIncomplete",
    "VisibilityRefused",
    "ReleaseNameInvalid",
    "ReleaseUnknown",
    "ArtifactMissing",
    "StateConflict",
    "EvidenceMissing",
    "VersionMismatch",
    "TargetUnsupported",
    "CatalogueConflict",
    "CatalogueUnusable",
]
