"""The command line of a virtual machine under test: its hardware, and the walls around it."""

from dataclasses import dataclass
from pathlib import Path

from imagefactory.model.disk import Firmware
from imagefactory.model.evidence import Devices
from imagefactory.tools.firmware import QEMU, Accelerator, escaped, firmware_argv
from imagefactory.tools.overlay import Overlay
from imagefactory.tools.process import Limits

# What argv() builds. An image that boots here may claim that it runs with these.
DEVICES = Devices(
    hypervisor="qemu", architecture="x86_64", machine="q35", disk_bus="virtio", vif_model="virtio", rng_model="virtio"
)
OVERHEAD = 4 << 30  # bytes of address space of QEMU beside the guest's memory
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


@dataclass(frozen=True)
class Wires:
    """What connects one run to us: file descriptors of connected sockets for the `monitor` and the guest `agent`, a
    local TCP `port` for ssh, files for the serial `console` and for what the `firmware` says on its debug port."""

    monitor: int
    agent: int
    port: int
    console: Path
    firmware: Path


@dataclass(frozen=True)
class Machine:
    """A machine to start: `memory` in MiB, `disk` the throwaway overlay it runs on, `seed` and `extra` read-only raw
    disks."""

    firmware: Firmware
    accelerator: Accelerator
    memory: int
    cpus: int
    disk: Overlay
    seed: Path | None = None
    extra: Path | None = None

    def limits(self) -> Limits:
        """What QEMU may take: address space, and the size of any file it writes."""
        return Limits(memory=(self.memory << 20) + OVERHEAD, file_size=self.disk.size + (1 << 30))

    def argv(self, name: str, wires: Wires, work: Path) -> list[str]:
        """QEMU's command line. Writes fresh UEFI variables into `work`. Raises FirmwareMissing."""
        argv = [QEMU, "-name", name, "-no-user-config", "-nodefaults", "-display", "none", "-sandbox", SANDBOX]
        argv += [*firmware_argv(self.firmware, work), *self.accelerator.argv()]
        argv += ["-m", str(self.memory), "-smp", str(self.cpus), "-boot", "strict=on,menu=off", "-device", "VGA"]
        # A guest that resets or powers off stays, stopped, until we have seen why.
        argv += ["-no-reboot", "-no-shutdown"]
        argv += ["-chardev", f"socket,id=monitor,fd={wires.monitor}", "-mon", "chardev=monitor,mode=control"]
        argv += ["-chardev", f"file,id=console,path={escaped(wires.console)}", "-serial", "chardev:console"]
        argv += ["-chardev", f"file,id=debug,path={escaped(wires.firmware)}"]
        argv += ["-device", "isa-debugcon,iobase=0x402,chardev=debug"]
        argv += ["-blockdev", self.disk.blockdev("disk"), "-device", "virtio-blk-pci,drive=disk,bootindex=0"]
        argv += _read_only_disk("seed", self.seed)
        argv += ["-object", "rng-random,id=random,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=random"]
        argv += ["-device", "virtio-serial-pci", "-chardev", f"socket,id=agent,fd={wires.agent}"]
        argv += ["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]
        argv += ["-netdev", f"user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{wires.port}-:22"]
        argv += ["-device", "virtio-net-pci,netdev=net,romfile="]
        # The last device: each one before the network card would give the card another name than in the boot before.
        return [*argv, *_read_only_disk("extra", self.extra)]


def _read_only_disk(name: str, path: Path | None) -> list[str]:
    if path is None:
        return []
    drive = f"if=none,id={name},format=raw,readonly=on,file={escaped(path)}"
    return ["-drive", drive, "-device", f"virtio-blk-pci,drive={name}"]
