"""Install what the servers of tests need: python -m tests.servers prepare."""

import sys
from collections.abc import Sequence

from tests.openstack.errors import CloudError
from tests.servers import containers, debian, postgres, rabbitmq, swift
from tests.servers.errors import ServerError


def main(argv: Sequence[str]) -> int:
    if list(argv) != ["prepare"]:
        sys.stderr.write("Usage: python -m tests.servers prepare\n")
        return 2
    try:
        packages = (*postgres.PACKAGES, *rabbitmq.PACKAGES, *containers.PACKAGES)
        debian.install(packages, lambda line: print(line, flush=True))  # noqa: T201
        swift.prepare(lambda line: print(line, flush=True))  # noqa: T201
    except (CloudError, ServerError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
