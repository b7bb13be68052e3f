"""Boot tests."""

from imagefactory.errors.base import HostError, StepFailed


class FirmwareMissing(HostError):
    """The firmware that a virtual machine needs is not installed."""

    code = "firmware-missing"
    default_advice = "apt install ovmf qemu-system-x86 seabios"


class AcceleratorBroken(HostError):
    """What runs a virtual machine's processor failed in the middle of a boot."""

    code = "accelerator-broken"
    default_advice = "the last lines are QEMU's own; a user who may not open /dev/kvm gets software emulation instead"


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
