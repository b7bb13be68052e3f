"""Assembling a disk."""

from imagefactory.errors.base import Refused


class DiskTooSmall(Refused):
    """The root file system does not fit on a disk of the size that the recipe asks for."""

    code = "disk-too-small"
    default_advice = "raise the disk size in the recipe, or leave packages out"


class BootloaderMissing(Refused):
    """The root file system lacks a part of the boot loader that the recipe's firmware needs."""

    code = "bootloader-missing"
    default_advice = "add the element that installs it (soe-debian does), or leave that firmware out of the recipe"


class RootfsUnfit(Refused):
    """The root file system has something else where the disk's layout wants a directory or a file of its own."""

    code = "rootfs-unfit"
    default_advice = "have the elements leave a plain directory there: a symbolic link cannot be a mount point"
