"""What is compared with what."""

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from bench.measure import Candidate, Comparison, command, compare
from bench.memory import peak_of_build
from imagefactory.factory.inputs import gather
from imagefactory.factory.line import Line
from imagefactory.model.build import BuildState
from imagefactory.model.disk import ROOT_LABEL, DiskLayout, identities
from imagefactory.progress import silent
from imagefactory.settings import Settings, read_settings
from imagefactory.steps import convert as convert_step
from imagefactory.steps.disk import assemble
from imagefactory.store.tables import StepResult
from imagefactory.tools import archive, ext4
from imagefactory.tools.apt import Index
from imagefactory.tools.qemu_img import COROUTINES, Qcow2Options
from imagefactory.tools.recipe_file import load_recipe
from imagefactory.wiring import factory
from signing.trust import load_trust

ROOT = Path(__file__).parents[1]
BIN = ROOT / ".venv" / "bin"
RECIPE = ROOT / "recipes" / "soe-debian-12.yaml"
# An overlay over the program's directory, in a namespace that ends with the build, and the program removed from it.
WITHOUT = """
covered=$(dirname "$2")
mkdir -p "$1/upper" "$1/work"
mount -t overlay overlay -o "lowerdir=$covered,upperdir=$1/upper,workdir=$1/work" "$covered"
rm -f "$2"
shift 2
exec "$@"
"""
MIRROR_VARIABLES = {"bookworm": "DIB_DISTRIBUTION_MIRROR", "bookworm-security": "DIB_DEBIAN_SECURITY_MIRROR"}

ROOTFS_PEERS = (
    "with debootstrap: what diskimage-builder documents; mmdebstrap is hidden from it; the goal is about this peer",
    "with mmdebstrap: what diskimage-builder takes where it is installed, as on this host; shown, without a goal",
)


@dataclass(frozen=True)
class Ground:
    """A home in which recipes/soe-debian-12.yaml was built, and room to work. `peaks` are bytes."""

    home: Path
    scratch: Path
    log: Path
    peaks: dict[str, int]

    @property
    def tmpfs(self) -> Path:
        """Where the bench mounted a tmpfs, in a namespace of its own."""
        return self.scratch / "tmpfs"

    @property
    def settings(self) -> Settings:
        return read_settings(
            {"HOME": "/root", "IMAGEFACTORY_HOME": str(self.home), "PATH": f"{BIN}:/usr/sbin:/usr/bin"}
        )

    def artifact(self, step: str, output: str) -> Path:
        """The file that a step of the build made."""
        return self.settings.home / "artifacts" / "sha256" / self.digest(step, output)[:2] / self.digest(step, output)

    def digest(self, step: str, output: str) -> str:
        return str(self.result(step).outputs[output])

    def result(self, step: str) -> StepResult:
        with factory(self.settings) as made:
            return next(result for result in made.records.results() if result.step == step)


def prepare(work: Path) -> Ground:
    """Build once, watching the memory; a second bench in the same work directory builds with --fresh."""
    home, scratch, log = work / "home", work / "scratch", work / "bench.log"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    (scratch / "tmpfs").mkdir()
    command(["mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", scratch / "tmpfs"], log)()
    environment: list[str | Path] = ["env", f"IMAGEFACTORY_HOME={home}"]
    if not (home / "keys").exists():
        command([*environment, BIN / "imagefactory", "keys", "init", "--development"], log)()
    build = [*environment, BIN / "imagefactory", "build", RECIPE, "--fresh"]
    return Ground(home, scratch, log, peak_of_build(build, log))


def unchanged(ground: Ground, runs: int) -> Comparison:
    """A build with nothing to do. The peer only asks the mirrors whether anything is new, as any answer must."""
    env = {"IMAGEFACTORY_HOME": str(ground.home)}
    index = Index(
        ground.home / "apt" / "bench",
        gather(load_recipe(RECIPE), ground.settings).index_sources,
        ground.settings.environment,
    )
    return compare(
        "unchanged rebuild",
        2.0,
        runs,
        {
            "imagefactory build, nothing to do": command([BIN / "imagefactory", "build", RECIPE], ground.log, env),
            "apt-get update, nothing new": lambda: _discard(index.refresh()),
        },
        in_seconds=True,
    )


def _discard(answer: object) -> None:
    del answer


def convert(ground: Ground, runs: int) -> Comparison:
    """raw to qcow2 with both digests, against qemu-img alone and against what diskimage-builder does."""
    source, output = ground.artifact("disk", "disk"), ground.scratch / "out.qcow2"
    options = ["-c", "-m", str(COROUTINES), "-o", "compression_type=zstd,cluster_size=65536"]

    def ours() -> None:
        output.unlink(missing_ok=True)
        convert_step.convert(
            source,
            output,
            "qcow2",
            declared="raw",
            options=Qcow2Options(),
            largest=1 << 40,
            foreign=False,
            environment=ground.settings.environment,
            log=ground.scratch / "convert.log",
            on_bytes=lambda done, total: None,
        )

    alone = command(["qemu-img", "convert", *options, "-f", "raw", "-O", "qcow2", source, output], ground.log)
    dib = f"qemu-img convert -c -f raw -O qcow2 {source} {output} && md5sum {output} && sha256sum {output}"
    return compare(
        "raw to qcow2 with SHA-256 and SHA-512",
        1.25,
        runs,
        {
            "imagefactory's convert step": ours,
            "qemu-img convert, same options, no digest": alone,
            "qemu-img convert -c, md5sum, sha256sum (diskimage-builder)": command(["sh", "-c", dib], ground.log),
        },
    )


def raw_image(ground: Ground) -> Path:
    """The raw disk, 3 GiB, of the release bench-raw, which is built if it is not there."""
    recipe = ground.scratch / "raw.yaml"
    shutil.copy(RECIPE, ground.scratch)
    recipe.write_text(f"name: bench-raw\nextends: {RECIPE.name}\nformats: {{qcow2: null, raw: {{}}}}\n")
    folder = ground.home / "catalogue" / "targets" / "bench-raw"
    env = {"IMAGEFACTORY_HOME": str(ground.home)}
    if not folder.exists():
        command([BIN / "imagefactory", "build", recipe], ground.log, env)()
    return max(folder.glob("*/*.raw"))


def verify(ground: Ground, runs: int) -> Comparison:
    """A signed raw disk of 3 GiB against openssl with the same digest; the start of both processes counts."""
    image, env = raw_image(ground), {"IMAGEFACTORY_HOME": str(ground.home)}
    return compare(
        "verify a raw disk",
        1 / 0.95,
        runs,
        {
            "imagefactory verify FILE": command([BIN / "imagefactory", "verify", image], ground.log, env),
            "openssl dgst -sha256 FILE": command(["openssl", "dgst", "-sha256", image], ground.log),
        },
    )


def verify_alone(ground: Ground, runs: int) -> Comparison:
    """The same with the command of the base install."""
    image, trust = raw_image(ground), ground.home / "trust.json"
    return compare(
        "verify a raw disk, base install",
        1 / 0.95,
        runs,
        {
            "imagefactory-verify FILE": command([BIN / "imagefactory-verify", image, "--trust", trust], ground.log),
            "openssl dgst -sha256 FILE": command(["openssl", "dgst", "-sha256", image], ground.log),
        },
    )


def disk(ground: Ground, runs: int) -> Comparison:
    """The whole disk step, tar to bootable disk, against mke2fs -d alone on the unpacked tree."""
    rootfs = ground.artifact("rootfs", "rootfs")
    epoch = ground.result("rootfs").facts["epoch"]
    layout = DiskLayout(size=load_recipe(RECIPE).recipe.disk.size)
    output, tree = ground.scratch / "disk.raw", ground.tmpfs / "tree"
    environment, log = ground.settings.environment, ground.scratch / "disk.log"
    who = identities("00" * 32)
    archive.extract(rootfs, tree, env=environment, log=log)

    def ours() -> None:
        scratch = ground.tmpfs / "scratch"
        scratch.mkdir()
        assemble(
            rootfs,
            output,
            layout,
            seed="00" * 32,
            epoch=epoch,
            scratch=scratch,
            log=log,
            environment=environment,
            on_advance=lambda text: None,
        )

    def alone() -> None:
        output.unlink(missing_ok=True)
        output.touch()
        os.truncate(output, layout.size)
        ext4.make(
            output,
            layout.root.start,
            layout.root.size,
            tree,
            uuid=who.filesystem(),
            hash_seed=who.hash_seed(),
            label=ROOT_LABEL,
            epoch=epoch,
            scratch=ground.tmpfs,
            log=log,
            env=environment,
        )

    def clean() -> None:
        shutil.rmtree(ground.tmpfs / "scratch", ignore_errors=True)

    peers = {"imagefactory's disk step": ours, "mke2fs -d alone, same options, tree unpacked before": alone}
    return compare("root file system to raw disk", 1.3, runs, peers, clean)


def rootfs(ground: Ground, runs: int) -> Comparison:
    """A cold root file system against disk-image-create with the same packages, element base left out, with and without
    mmdebstrap: docs/explanation/numbers.md says why."""
    settings = ground.settings
    loaded = load_recipe(RECIPE)

    def ours() -> None:
        with factory(settings) as made:
            inputs = gather(loaded, settings)
            trust_file = settings.home / "trust.json"
            build = made.records.reserve("bench-rootfs", RECIPE, loaded.digest, settings.logs)
            made.records.move_build(build, BuildState.RUNNING)
            line = Line(
                inputs,
                build,
                settings,
                made.records,
                made.artifacts,
                load_trust(trust_file),
                trust_file,
                silent,
                made.boot_test,
            )
            line.work.mkdir(parents=True)
            line.rootfs("bench")
            made.records.move_build(build, BuildState.FAILED, ("bench", "only its root file system was wanted"))
            shutil.rmtree(line.work)

    packages = [each["name"] for each in ground.result("rootfs").facts["packages"]]
    peers = {
        "imagefactory's rootfs step": ours,
        "disk-image-create debian-minimal with debootstrap": _plain(ground, packages, hide="/usr/bin/mmdebstrap"),
        "disk-image-create debian-minimal with mmdebstrap": _plain(ground, packages, hide=None),
    }
    comparison = compare("cold root file system", 0.65, runs, peers, lambda: _forget(ground))
    return replace(comparison, notes=ROOTFS_PEERS)


def _plain(ground: Ground, packages: list[str], hide: str | None) -> Candidate:
    """diskimage-builder as its documentation runs it, from the same mirrors, with nothing cached."""
    loaded = load_recipe(RECIPE)
    mirrors = {
        variable: source.uri
        for source in gather(loaded, ground.settings).sources
        if (variable := MIRROR_VARIABLES.get(source.suite))
    }
    stem = ground.scratch / "plain"
    build: list[str | Path] = [
        "disk-image-create",
        "-n",
        "-t",
        "tar",
        "-o",
        stem,
        "-p",
        ",".join(packages),
        "debian-minimal",
    ]
    hidden = ["sh", "-euc", WITHOUT, "sh", str(ground.tmpfs), hide] if hide else []
    env = {
        **mirrors,
        "DIB_RELEASE": "bookworm",
        "DIB_IMAGE_CACHE": str(ground.scratch / "dib-cache"),
        "PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin",
    }
    return command(["unshare", "--mount", *hidden, *build], ground.log, env)


def _forget(ground: Ground) -> None:
    shutil.rmtree(ground.scratch / "dib-cache", ignore_errors=True)
    for made in ground.scratch.glob("plain*"):
        shutil.rmtree(made) if made.is_dir() else made.unlink()
