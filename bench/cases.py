"""What is compared with what."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Candidate, Comparison, command, compare
from bench.memory import peak_of_build
from imagefactory.factory.inputs import gather
from imagefactory.factory.line import Line
from imagefactory.model.build import BuildState
from imagefactory.model.disk import DiskLayout
from imagefactory.progress import silent
from imagefactory.settings import Settings, read_settings
from imagefactory.steps import convert as convert_step
from imagefactory.steps.disk import assemble
from imagefactory.store.tables import StepResult
from imagefactory.tools.ext4 import mke2fs_argv, mke2fs_environment
from imagefactory.tools.qemu_img import COROUTINES, Qcow2Options
from imagefactory.tools.recipe_file import load_recipe
from imagefactory.wiring import factory
from signing.trust import load_trust

ROOT = Path(__file__).parents[1]
BIN = ROOT / ".venv" / "bin"
RECIPE = ROOT / "recipes" / "soe-debian-12.yaml"
MEMORY_GOAL = 150 << 20  # bytes
MIRROR_VARIABLES = {"bookworm": "DIB_DISTRIBUTION_MIRROR", "bookworm-security": "DIB_DEBIAN_SECURITY_MIRROR"}


@dataclass(frozen=True)
class Ground:
    """A home in which recipes/soe-debian-12.yaml was built, and room to work. `peaks` are bytes."""

    home: Path
    scratch: Path
    log: Path
    peaks: dict[str, int]

    @property
    def settings(self) -> Settings:
        return read_settings({"HOME": "/root", "IMAGEFACTORY_HOME": str(self.home), "PATH": f"{BIN}:/usr/sbin:/usr/bin"})

    @property
    def too_much_memory(self) -> bool:
        return any(peak >= MEMORY_GOAL for peak in self.peaks.values())

    def memory_lines(self) -> list[str]:
        shown = [f"  {name:40} {peak / (1 << 20):6.1f} MiB" for name, peak in sorted(self.peaks.items())]
        verdict = "MISSED" if self.too_much_memory else "met"
        return ["peak memory of our processes in a whole build", *shown, f"  goal: below 150 MiB: {verdict}"]

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
    environment = ["env", f"IMAGEFACTORY_HOME={home}"]
    if not (home / "keys").exists():
        command([*environment, BIN / "imagefactory", "keys", "init", "--development"], log)()
    build = [*environment, BIN / "imagefactory", "build", RECIPE, "--fresh"]
    return Ground(home, scratch, log, peak_of_build(build, log))


def unchanged(ground: Ground, runs: int) -> Comparison:
    """A build with nothing to do, against the start of the same Python with the same imports."""
    env = {"IMAGEFACTORY_HOME": str(ground.home)}
    return compare(
        "unchanged rebuild (goal: 2 s; the peer is imagefactory --version)",
        4.0,
        runs,
        {
            "imagefactory build, nothing to do": command([BIN / "imagefactory", "build", RECIPE], ground.log, env),
            "imagefactory --version": command([BIN / "imagefactory", "--version"], ground.log, env),
        },
    )


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


def verify(ground: Ground, runs: int) -> Comparison:
    """Verification of the raw disk's bytes, against openssl with the same digest."""
    folder = next((ground.home / "catalogue" / "targets" / "soe-debian-12").glob("2*"))
    image = next(folder.glob("*.qcow2"))
    big = ground.scratch / "big"
    big.mkdir(exist_ok=True)
    env = {"IMAGEFACTORY_HOME": str(ground.home)}
    del big
    return compare(
        "verify a qcow2 (process start included on both sides)",
        1 / 0.9,
        runs,
        {
            "imagefactory verify FILE": command([BIN / "imagefactory", "verify", image], ground.log, env),
            "openssl dgst -sha256 FILE": command(["openssl", "dgst", "-sha256", image], ground.log),
        },
    )
