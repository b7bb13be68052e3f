"""A team on a host with fake programs."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from tests.fakes.host import FakeHost
from tests.servers.clocks import Clock
from tests.servers.postgres_fixtures import Place
from tests.servers.rabbitmq_fixtures import VirtualHost
from tests.servers.team import Team, working

COMMAND = (sys.executable, "-m", "tests.fakes.processes")


@contextmanager
def team(
    host: FakeHost,
    place: Place,
    vhost: VirtualHost,
    base: Path,
    clocks: Mapping[str, Clock] = MappingProxyType({}),
) -> Iterator[Team]:
    """A team of which nobody has started yet. Whoever is in `clocks` has a clock that can be set."""
    host.control.chmod(0o777)  # where fakes of all accounts leave words
    (host.control / "visited").touch()  # whoever asks mirrors first must not keep it
    for path in host.control.iterdir():
        path.chmod(0o666)
    more = {who: each.environ for who, each in clocks.items()}
    recipes = host.recipe_file.parent
    with working(Team(host.settings, place, vhost, base, host.environ, recipes, COMMAND, more)) as made:
        yield made
