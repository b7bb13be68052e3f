"""A cloud to play with: Keystone, Glance and Barbican on loopback."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.openstack.cloud import down, prepare, status, up
from tests.openstack.clouds import entries
from tests.openstack.errors import CloudError
from tests.openstack.install import ROOT
from tests.openstack.state import State, read_state


def main(argv: Sequence[str]) -> int:
    arguments = parser().parse_args(argv)
    try:
        return int(not run(arguments))
    except CloudError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def run(arguments: argparse.Namespace) -> bool:
    """Whether all is well."""
    if arguments.verb == "prepare":
        prepare(say)
    elif arguments.verb == "up":
        beside = read_state(arguments.beside.absolute()) if arguments.beside else None
        show_use(up(arguments.state.absolute(), say, name=arguments.name, beside=beside)[0])
    elif arguments.verb == "down":
        down(arguments.state.absolute(), say, purge=arguments.purge)
    else:
        return status(arguments.state.absolute(), say)
    return True


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(prog="python -m tests.openstack", description=__doc__)
    verbs = whole.add_subparsers(dest="verb", required=True)
    state = argparse.ArgumentParser(add_help=False)
    state.add_argument("--state", type=Path, default=ROOT / ".cloud", metavar="DIR", help="where it lives")
    verbs.add_parser("prepare", help="install what the servers need; up does that too")
    start = verbs.add_parser("up", parents=[state], help="start what does not run")
    start.add_argument("--name", default="demo", help="what the entries of a new cloud begin with")
    start.add_argument("--beside", type=Path, metavar="DIR", help="a cloud whose entries are in clouds.yaml, too")
    verbs.add_parser("status", parents=[state], help="say what runs")
    stop = verbs.add_parser("down", parents=[state], help="stop it")
    stop.add_argument("--purge", action="store_true", help="and remove its directory, images and secrets included")
    return whole


def show_use(state: State) -> None:
    say("The cloud is up. To use it:")
    say(f"    export OS_CLIENT_CONFIG_FILE={state.clouds_yaml}")
    say(f"and OS_CLOUD, or --os-cloud, one of: {', '.join(entries(state))}")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
