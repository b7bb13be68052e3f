"""The servers of tests: PostgreSQL, RabbitMQ and Swift are installed, and the service on them is there to play with."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.openstack.errors import CloudError
from tests.openstack.install import ROOT
from tests.servers import clocks, containers, debian, playground, postgres, rabbitmq, swift
from tests.servers.errors import ServerError
from tests.servers.team import SYSUSERS


def main(argv: Sequence[str]) -> int:
    arguments = parser().parse_args(argv)
    try:
        run(arguments)
    except (CloudError, ServerError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def run(arguments: argparse.Namespace) -> None:
    """Raises CloudError, ServerError."""
    if arguments.verb == "prepare":
        debian.install((*postgres.PACKAGES, *rabbitmq.PACKAGES, *containers.PACKAGES, *clocks.PACKAGES), say)
        debian.make_accounts(SYSUSERS, say)
        swift.prepare(say)
    elif arguments.verb == "up":
        playground.up(arguments.state.absolute(), say)
    elif arguments.verb == "keep":
        playground.keep(arguments.state.absolute())
    else:
        playground.down(arguments.state.absolute(), say, purge=arguments.purge)


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    verbs = whole.add_subparsers(dest="verb", required=True)
    state = argparse.ArgumentParser(add_help=False)
    state.add_argument("--state", type=Path, default=ROOT / ".service", metavar="DIR", help="where it lives")
    verbs.add_parser("prepare", help="install what the servers of tests need")
    verbs.add_parser("up", parents=[state], help="start the service unless it runs")
    verbs.add_parser("keep", parents=[state], help="what `up` leaves running")
    stop = verbs.add_parser("down", parents=[state], help="stop it")
    stop.add_argument("--purge", action="store_true", help="and remove its directory, images and keys included")
    return whole


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
