"""A team on a host with fake programs."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fakes.host import FakeHost
from tests.servers.postgres_fixtures import Place
from tests.servers.rabbitmq_fixtures import VirtualHost
from tests.servers.team import Team, working

COMMAND = (sys.executable, "-m", "tests.fakes.processes")


@contextmanager
def team(host: FakeHost, place: Place, vhost: VirtualHost, base: Path) -> Iterator[Team]:
    """A team of which nobody has started yet."""
    host.control.chmod(0o777)  # where fakes of all accounts leave words
    (host.control / "visited").touch()  # whoever asks mirrors first must not keep it
    for path in host.control.iterdir():
        path.chmod(0o666)
    with working(Team(host.settings, place, vhost, base, host.environ, host.recipe_file.parent, COMMAND)) as made:
        yield made
