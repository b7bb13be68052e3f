"""Prove that an image boots: start it under each firmware, look at it from outside and inside, turn it off, again.

A login prompt alone is no proof (a system whose root stays read-only has one), so every boot answers a list of checks:
boot_checks says which, boot_rounds does them.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from threading import Event
from typing import TypeVar

from imagefactory.errors import Interrupted
from imagefactory.model.disk import Firmware
from imagefactory.model.evidence import JSON, Evidence
from imagefactory.steps.boot_rounds import CPUS, Bench, Report, boots, first_boot
from imagefactory.tools.firmware import Accelerator
from imagefactory.tools.guest_checks import GuestCheck
from imagefactory.tools.guest_scan import GuestScan
from imagefactory.tools.guest_upgrade import GuestUpgrade
from imagefactory.tools.machine import DEVICES
from imagefactory.tools.seed import Source
from imagefactory.tools.vm import POLL

T = TypeVar("T")

# Where an image gets its key and its name from: one source under the first firmware, the other under the second, or, if
# there is none, in a round of its own.
SOURCES: Sequence[Source] = ("nocloud", "config-drive")

# Counts in the digest of the inputs: raise it when a change here alters what comes out.
REVISION = 5


def boot_test(
    image: Path,
    image_format: str,
    *,
    about: str,
    firmware: Sequence[Firmware],
    memory: int,
    timeout: float,
    expect: Sequence[str],
    work: Path,
    logs: Path,
    accelerator: Accelerator,
    environment: Mapping[str, str],
    on_advance: Callable[[str], None],
    user: str = "debian",
    own: Sequence[GuestCheck] = (),
    upgrade: GuestUpgrade | None = None,
    scan: GuestScan | None = None,
) -> Evidence:
    """Boot `image` ("raw" or "qcow2") under each firmware and return what that proved about `about` ("sha256:HEX").

    `memory` is in MiB, `timeout` in seconds for each single boot, `expect` are strings that the console must show.
    Throwaway files go to a directory of their own under `work`, console logs and pictures to `logs`; the image is only
    read. `user` is tried when cloud-init does not name the default user. UEFI means Secure Boot, enforced, with one
    more boot whose boot loader was altered. Name and key come from NoCloud and from a config drive, in turn. Where
    there are processors enough, the rounds take place side by side, each with as much memory; `on_advance` is called in
    the thread of the caller.
    `own` are checks that run in the first boot of every round, after all others; the boot's checks have them as
    guest:NAME. `upgrade` is what the guest installs in the first boot under each firmware, so that the second starts
    from it; the boot's fact `upgrade` says what that changed.
    `scan` is what the guest measures of itself, once, when it has booted again; the boot's fact `measured` has the
    outcomes.

    Raises a BootFailed (its class says what), FirmwareMissing, AcceleratorBroken, or what programs raise.
    """
    kinds = tuple(dict.fromkeys(firmware))
    if not kinds:
        raise ValueError("a boot test needs a firmware to boot with")
    logs.mkdir(parents=True, exist_ok=True)
    said: SimpleQueue[str] = SimpleQueue()

    bench = Bench(
        image=image,
        image_format=image_format,
        firmware=kinds[0],
        source=SOURCES[0],
        memory=memory,
        timeout=timeout,
        expect=expect,
        user=user,
        work=work,
        logs=logs,
        accelerator=accelerator,
        environment=environment,
        on_advance=said.put,
        stop=Event(),
        own=own,
    )
    results = _side_by_side(_rounds(bench, kinds, scan, upgrade), said, on_advance, bench.stop)
    return Evidence("boot", about, "pass", _facts(bench, kinds, results))


def _rounds(
    bench: Bench, kinds: Sequence[Firmware], scan: GuestScan | None, upgrade: GuestUpgrade | None
) -> Sequence[Callable[[], list[JSON]]]:
    """The rounds of boots: one for each firmware, and one more for each source of metadata that these leave over."""
    whole = replace(bench, upgrade=upgrade)
    rounds = [
        partial(_under, replace(whole, firmware=kind, source=source, scan=scan if kind == kinds[0] else None), boots)
        for kind, source in zip(kinds, SOURCES, strict=False)
    ]
    rounds += [partial(_under, replace(bench, source=source), first_boot) for source in SOURCES[len(kinds) :]]
    return rounds


def _under(bench: Bench, round_: Callable[[Bench], list[Report]]) -> list[JSON]:
    """The reports of a round of boots, done in a directory of their own."""
    with TemporaryDirectory(prefix=f"boot-{bench.firmware}-", dir=bench.work) as directory:
        return [report.to_json() for report in round_(replace(bench, work=Path(directory)))]


def _facts(bench: Bench, kinds: Sequence[Firmware], results: Sequence[Sequence[JSON]]) -> dict[str, JSON]:
    return {
        "accelerator": {"kind": bench.accelerator.kind, "reason": bench.accelerator.reason},
        "machine": asdict(DEVICES),
        "memory_mib": bench.memory,
        "cpus": CPUS,
        "firmware": list(kinds),
        "secure_boot": "uefi" in kinds,
        "boots": [boot for result in results for boot in result],
    }


def _side_by_side(
    work: Sequence[Callable[[], T]], said: SimpleQueue[str], on_advance: Callable[[str], None], stop: Event
) -> list[T]:
    """Do all the work, as much of it at a time as there are processors, and pass on what is said meanwhile.

    When one fails, or we are interrupted, `stop` tells the others, and the first failure is raised.
    """
    with ThreadPoolExecutor(min(len(work), len(os.sched_getaffinity(0)))) as pool:
        futures = [pool.submit(job) for job in work]
        try:
            while True:
                done, running = wait(futures, timeout=POLL, return_when=FIRST_EXCEPTION)
                while not said.empty():
                    on_advance(said.get())
                if not running or any(future.exception() for future in done):
                    break
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
    failures = [future.exception() for future in futures if not future.cancelled()]
    first = next((error for error in failures if error and not isinstance(error, Interrupted)), None)
    if first is not None:
        raise first
    return [future.result() for future in futures]
