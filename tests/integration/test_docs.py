"""Every command in the README and in docs/ is run, page by page, in the order of reading.

A page has a bash session, a home directory and something like a clone of its own. The session stops at the first
command that fails. Pages that begin before the first image find the results of finished steps, and nothing else, so
that they make keys, sign, publish and verify for themselves; all others find keys and a published tiny-debian-12.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import pytest

from imagefactory.factory.catalogues import Catalogues
from imagefactory.settings import read_settings
from tests.database import records_at
from tests.doc_pages import ROOT, Command, matches, pages, steps
from tests.homes import DATABASE, copy_records, share
from tests.openstack.cloud import down, prepare
from tests.openstack.install import alone

FROM_NOTHING = {"README.md", "docs/tutorial/first-image.md"}
TIMEOUT = 900.0  # seconds a page
SOAK_TIMEOUT = 5400.0
WHOLE = ("Makefile", "pyproject.toml", "requirements.lock", ".ci", "tests", "deploy", ".venv-openstack")
MARK = "\x1e"  # ASCII record separator: no command prints it
PASSED_ON = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")

SERVICE = ROOT / "docs/tutorial/run-the-service.md"  # a whole build, which test_service.py follows
RUN = [page for page in pages() if page != SERVICE and any(isinstance(step, Command) for step in steps(page))]
SLOW = "imagefactory build"  # whole builds, which soak runs
SOAKED = [page for page in pages() if len(list(steps(page, host=SLOW))) > len(list(steps(page)))]


class Built(Protocol):
    """A home in which recipes/tiny-debian-12.yaml has been built."""

    @property
    def home(self) -> Path: ...

    @property
    def recipe(self) -> Path: ...


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_page(page: Path, built: Built, tmp_path: Path) -> None:
    follow(page, list(steps(page)), built, tmp_path, TIMEOUT)


@pytest.mark.soak
@pytest.mark.parametrize("page", SOAKED, ids=name_of)
def test_page_with_its_builds(page: Path, built: Built, tmp_path: Path) -> None:
    follow(page, list(steps(page, host=SLOW)), built, tmp_path, SOAK_TIMEOUT)


def follow(page: Path, todo: Sequence[Command | tuple[str, str]], built: Built, work: Path, timeout: float) -> None:
    """Do what a page says in a home and a clone of its own."""
    home, clone = work / "home", work / "clone"
    with alone(built.home.parent, 0o700):  # another worker may have come to build there
        settle(built, home / ".local/share/imagefactory", from_nothing=name_of(page) in FROM_NOTHING)
    clouds = any(isinstance(step, Command) and step.text in {"make cloud", "make clouds"} for step in todo)
    if clouds:
        prepare(print)
    make_clone(clone, whole=clouds)
    try:
        converse(page, todo, work, timeout)
    finally:
        for cloud in (".cloud", ".cloud-second"):
            down(clone / cloud, print, purge=True)  # a page that failed has left it running
    for used in (home, clone):  # gigabytes that pytest would keep
        shutil.rmtree(used)


def make_clone(clone: Path, *, whole: bool) -> None:
    """What a reader has before him; with `whole`, what `make` needs, too."""
    shutil.copytree(ROOT / "recipes", clone / "recipes")
    (clone / ".venv").symlink_to(sys.prefix)
    for name in WHOLE if whole else ():
        (clone / name).symlink_to(ROOT / name)


def converse(
    page: Path,
    todo: Sequence[Command | tuple[str, str]],
    work: Path,
    timeout: float,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Do what a page says in `work`/clone, at home in `work`/home, and compare what came out."""
    script, output = work / "page.sh", work / "output"
    script.write_text("".join(map(shell, range(len(todo)), todo)))
    status = bash(script, work / "clone", work / "home", output, timeout, environment)
    said = [part.partition("\n")[2] for part in output.read_text(errors="replace").split(MARK)[1:]]
    for step, text in zip(todo, said, strict=False):
        if isinstance(step, Command) and step.expected and not (status and text is said[-1]):
            wanted = "\n".join(step.expected)
            where = f"{name_of(page)}:{step.number}"
            assert matches(step.expected, text), f"{where}: $ {step.text}\n\nexpected\n{wanted}\n\nprinted\n{text}"
    if status:
        step = todo[max(0, len(said) - 1)]
        where = f"line {step.number}: $ {step.text}" if isinstance(step, Command) else f"file {step[0]}"
        pytest.fail(f"{name_of(page)}, {where}\nstatus {status}\n{said[-1] if said else ''}")


def shell(number: int, step: Command | tuple[str, str]) -> str:
    """A step as shell."""
    if isinstance(step, Command):
        return f"printf '\\036{number}\\n'\n{step.text}\n"
    path, content = step
    return f"printf '\\036{number}\\n'\ncat > \"$CLONE\"/{path} <<'END OF FILE'\n{content}END OF FILE\n"


def bash(script: Path, clone: Path, home: Path, output: Path, timeout: float, more: Mapping[str, str]) -> int:
    """Run a page's session; its end is the end of everything that it started."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(home),
        "CLONE": str(clone),
        "COLUMNS": "240",
        "LC_ALL": "C.UTF-8",
        **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
        **more,
    }
    with output.open("wb") as stream:
        session = subprocess.Popen(
            ["bash", "-eu", "-o", "pipefail", str(script)],
            cwd=clone,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return session.wait(timeout)
        except subprocess.TimeoutExpired:
            stream.write(f"\nno end after {timeout:.0f} s\n".encode())
            return -1
        finally:
            if session.poll() is None:
                os.killpg(session.pid, signal.SIGKILL)
                session.wait()


def settle(built: Built, home: Path, *, from_nothing: bool) -> None:
    """Make a home from the built one. Files that are never written in place are shared."""
    home.mkdir(parents=True)
    share(built.home / "artifacts", home / "artifacts")
    copy_records(built.home, home)
    with records_at(home / DATABASE) as new:
        if from_nothing:
            for table in ("publications", "approvals", "moves", "releases", "builds"):
                new.execute(f"DELETE FROM {table}")  # noqa: S608 - one of these
        new.execute("UPDATE publications SET target = replace(target, ?, ?)", (str(built.home), str(home)))
    if from_nothing:
        return
    shutil.copytree(built.home / "keys", home / "keys")
    shutil.copytree(built.home / "signed", home / "signed")
    for name in ("trust.json", "policy.json", "audit.log"):
        shutil.copy2(built.home / name, home / name)
    share(built.home / "catalogue", home / "catalogue")
    # In another place it is another catalogue, which the signer has not heard of yet.
    shutil.rmtree(home / "signed/.catalogues")
    settings = read_settings({"HOME": str(home), "IMAGEFACTORY_HOME": str(home), "PATH": os.environ["PATH"]})
    root = (settings.catalogue / "metadata/1.root.json").read_bytes()
    Catalogues(settings, home / "trust.json").publish_root(settings.catalogue, root)
