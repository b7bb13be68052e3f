"""The builder's hand: root, in namespaces of its own, with no key in its environment or reach.

Started by tools/hand.py as the first process of a new PID namespace, so that its death is the death of everything it
started.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from imagefactory.hands.protocol import Document, serve
from imagefactory.model.disk import DiskLayout
from imagefactory.model.packages import Source
from imagefactory.progress import Advance
from imagefactory.steps import compliance, disk, rootfs
from imagefactory.tools.process import run
from imagefactory.tools.scap import Kit


def build_rootfs(request: Document, advance: Advance) -> Document:
    scratch = _prepare(request)
    recipe = request["rootfs"]
    made = rootfs.build(
        rootfs.RootfsRequest(
            codename=recipe["codename"],
            arch=recipe["arch"],
            elements=tuple(recipe["elements"]),
            elements_path=tuple(map(Path, recipe["elements_path"])),
            packages=tuple(recipe["packages"]),
            environment=recipe["environment"],
            sources=_sources(recipe["sources"]),
            image_sources=_sources(recipe["image_sources"]),
            keyrings={name: Path(path) for name, path in recipe["keyrings"].items()},
            ca_certificates=tuple(map(Path, recipe["ca_certificates"])),
            proxy=recipe["proxy"],
            standard=(Path(recipe["standard"][0]), recipe["standard"][1]) if recipe["standard"] else None,
            base=Path(recipe["base"]) if recipe["base"] else None,
        ),
        Path(request["output"]),
        scratch=scratch,
        log=Path(request["log"]),
        environment=request["environment"],
        on_advance=advance,
    )
    _give_back(request, made.tar, made.dpkg_status, made.lists, *made.lists.iterdir())
    return {
        "tar": str(made.tar),
        "dpkg_status": str(made.dpkg_status),
        "lists": str(made.lists),
        "epoch": made.epoch,
    }


def build_disk(request: Document, advance: Advance) -> Document:
    scratch = _prepare(request)
    layout = request["layout"]
    output = Path(request["output"])
    disk.assemble(
        Path(request["rootfs"]),
        output,
        DiskLayout(size=layout["size"], firmware=tuple(layout["firmware"]), filesystem=layout["filesystem"]),
        sizes=layout["sizes"],
        seed=request["seed"],
        epoch=request["epoch"],
        scratch=scratch,
        log=Path(request["log"]),
        environment=request["environment"],
        on_advance=advance,
    )
    _give_back(request, output)
    return {"disk": str(output)}


def measure(request: Document, advance: Advance) -> Document:
    """Measure a root file system by a published standard."""
    scratch = _prepare(request)
    made = compliance.scan(
        Path(request["rootfs"]),
        Kit.from_json(request["kit"]),
        request["profile"],
        Path(request["tailoring"]) if request["tailoring"] else None,
        Path(request["output"]),
        scratch=scratch,
        log=Path(request["log"]),
        environment=request["environment"],
        on_advance=advance,
    )
    _give_back(request, made.report, made.results)
    return {"scan": made.scan.to_json(), "report": str(made.report), "results": str(made.results)}


def _prepare(request: Document) -> Path:
    """A private tmpfs to work in, and nothing where the keys were. Both are seen in this namespace only."""
    environment: Mapping[str, str] = request["environment"]
    scratch = Path(request["scratch"])
    run(
        ["mount", "-t", "tmpfs", "-o", f"size={int(request['scratch_size'])},mode=0755", "tmpfs", scratch],
        env=environment,
        timeout=10.0,
    )
    for hidden in filter(os.path.isdir, request["hide"]):
        run(["mount", "-t", "tmpfs", "-o", "ro,size=4k,mode=0000", "tmpfs", hidden], env=environment, timeout=10.0)
    return scratch


def _give_back(request: Document, *paths: Path) -> None:
    """What root made belongs to who asked for it; so does the log."""
    for path in (*paths, Path(request["log"])):
        os.chown(path, request["uid"], request["gid"], follow_symlinks=False)


def _sources(documents: list[Document]) -> tuple[Source, ...]:
    return tuple(Source(d["uri"], d["suite"], tuple(d["components"]), d["signed_by"]) for d in documents)


if __name__ == "__main__":
    sys.exit(serve({"rootfs": build_rootfs, "disk": build_disk, "compliance": measure}))
