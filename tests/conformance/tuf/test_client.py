"""The executable that the public suite is given, and its list of expected failures."""

import subprocess
from pathlib import Path

from tests.conformance.tuf.world import TOP, World

CLIENT = Path(__file__).with_name("client")
PATH, CONTENT = "folder/target", b"content"


def called(*arguments: str) -> tuple[int, str]:
    done = subprocess.run([CLIENT, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_the_executable(world: World) -> None:
    """What it does in a process of its own, from the first to the last command."""
    world.put("targets", PATH, CONTENT)
    world.repository.publish("targets")
    assert called(*world.init_arguments()) == (0, "")
    assert called(*world.arguments("refresh")) == (0, "")
    assert world.trusted() == {"root": 1, "timestamp": 2, "snapshot": 2, "targets": 2}
    assert called(*world.arguments("download", PATH)) == (0, "")
    assert world.fetched() == {CONTENT}
    world.repository.put_timestamp(-1)
    assert called(*world.arguments("refresh")) == (
        1,
        "catalogue-frozen: http://127.0.0.1:"
        f"{world.site.port}/catalogue/metadata/timestamp.json: timestamp.json is expired\n",
    )
    assert world.trusted().keys() == set(TOP)


def test_the_list_of_expected_failures() -> None:
    """A line that the public suite would not know, or a reason that is missing, would excuse nothing."""
    lines = CLIENT.with_name("client.xfails").read_text().splitlines()
    names = [line for line in lines if line and not line.startswith("#")]
    assert names == ["test_artifact_cache"]
    for name in names:
        assert lines[lines.index(name) - 1].startswith("# ")
