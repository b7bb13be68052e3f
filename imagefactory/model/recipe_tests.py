"""What an image must prove before it is signed."""

from operator import attrgetter
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from imagefactory.model.quantity import GIB, MIB, TIB, Between, Duration, Size, format_duration, format_size, refusal
from imagefactory.model.recipe_exceptions import each_once, not_blank
from imagefactory.model.recipe_fields import FilePath, Items, Line, Part, Prose, Slug

MOST_CHECKS = 50  # each costs a boot of each firmware its time
CALLED_ONCE = each_once(attrgetter("name"), "checks called")


class BootTest(Part):
    """The image is booted under each firmware, and must come up healthy."""

    memory: Annotated[Size, Between(128 * MIB, TIB, format_size)] = GIB
    """The memory of the machine, 128 MiB to 1 TiB. The image's min_ram is what it booted with."""
    timeout: Annotated[Duration, Between(10, 6 * 3600, format_duration)] = 600
    """How long one boot may take, 10s to 6h."""
    expect: Annotated[Items[Line], Field(max_length=100)] = ()
    """Lines, or parts of lines, that must appear on the serial console."""
    upgrade: bool = False
    """Whether kernel and boot loader are installed anew in the running image, which must then boot again."""


class GuestCheck(Part):
    """A program that is run in the booted image, and must end with status 0."""

    name: Slug
    """What the check is called. Its result is called guest:NAME."""
    run: Annotated[Prose, AfterValidator(not_blank)] | None = None
    """The program, for /bin/sh -e. Either this or `script`."""
    script: FilePath | None = None
    """The program, a file whose first line names its interpreter (#!), absolute or from the folder of this file."""
    sudo: bool = False
    """Whether it is run as root. Default: as the image's default user, who comes by ssh."""
    timeout: Annotated[Duration, Between(1, 3600, format_duration)] = 60
    """How long it may take, 1s to 1h. After that it is ended, and has failed."""

    @model_validator(mode="after")
    def _one_program(self) -> "GuestCheck":
        if (self.run is None) == (self.script is None):
            raise refusal("recipe-invalid", "should have either run or script")
        return self


class Tests(Part):
    """What the image must prove before it is signed."""

    __test__ = False  # no test class of pytest's

    boot: BootTest = BootTest()
    """The boot test."""
    guest: Annotated[
        Items[GuestCheck], Field(max_length=MOST_CHECKS), each_once(attrgetter("name"), "checks called")
    ] = ()
    """Checks of your own, run in this order in the first boot under each firmware."""
