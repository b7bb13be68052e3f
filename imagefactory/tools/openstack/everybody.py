"""Proof that a credential sees what all projects have. A list that was cut down to one project looks like a whole one.

What is asked of Keystone: whether the token has role admin, or is for the system. What is asked of the services: calls
that each of them allows to its administrators only. And what their lists show has to fit: who sees servers of others
with volumes attached, and no volume of others, does not see all volumes, whatever Keystone and Cinder say.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from imagefactory.errors import CloudCannotSeeAll, CloudForbidden, CloudIncomplete
from imagefactory.tools.openstack.cinder import Cinder
from imagefactory.tools.openstack.nova import Nova
from imagefactory.tools.openstack.paging import Record
from imagefactory.tools.openstack.session import Cloud

ADMIN: Final = "admin"
ALL_SERVERS: Final = "GET /servers/detail?all_tenants=true"
ALL_VOLUMES: Final = "GET /volumes/detail?all_tenants=true"
SERVERS_RULE: Final = "os_compute_api:servers:detail:get_all_tenants"
MOST_HOSTS: Final = 5  # named in a message


@dataclass
class Witness:
    """What was seen in the lists of one region. `project` is ours ("": the token is for none)."""

    project: str
    servers_of_others: bool = False
    attached: bool = False  # a server has a volume
    attached_to_others: bool = False
    volumes_of_others: bool = False

    def saw_server(self, server: Record) -> None:
        """Take note of a server."""
        other = _is_others(server.get("tenant_id"), self.project)
        attached = bool(server.get("os-extended-volumes:volumes_attached"))
        self.servers_of_others |= other
        self.attached |= attached
        self.attached_to_others |= attached and other

    def saw_volume(self, volume: Record) -> None:
        """Take note of a volume."""
        self.volumes_of_others |= _is_others(volume.get("os-vol-tenant-attr:tenant_id"), self.project)


@contextmanager
def takes(call: str, rule: str) -> Iterator[None]:
    """Say of a refusal which role is missing for which call. Raises CloudCannotSeeAll."""
    try:
        yield
    except CloudForbidden as error:
        raise CloudCannotSeeAll(
            f"{error.message}: {call} was refused",
            advice=f"{call} takes role {ADMIN}, or what this cloud's policy has for {rule}",
        ) from error


def require_all_servers(nova: Nova) -> None:
    """See that Nova shows us the servers of all projects, deleted ones too, and that no part of it is down.

    Raises CloudCannotSeeAll, CloudIncomplete.
    """
    with takes("GET /servers?all_tenants=true", "os_compute_api:servers:index:get_all_tenants"):
        unknown = nova.unknown_servers()
    with takes("GET /servers?all_tenants=true&status=DELETED", "os_compute_api:servers:allow_all_filters"):
        nova.may_ask_for_deleted()
    if unknown:
        raise CloudIncomplete(f"{nova.cloud.name}: servers in a part of Nova that does not answer: {len(unknown)}")
    require_all_cells(nova)


def require_all_cells(nova: Nova) -> None:
    """See that no part of Nova is down. Raises CloudCannotSeeAll, CloudIncomplete."""
    with takes("GET /os-services (compute)", "os_compute_api:os-services:list"):
        down = nova.down_hosts()
    if down:
        named = ", ".join(down[:MOST_HOSTS])
        raise CloudIncomplete(f"{nova.cloud.name}: the cell of {len(down)} hosts does not answer ({named})")


def require_all_volumes(cinder: Cinder) -> None:
    """See that we are an administrator to Cinder. Raises CloudCannotSeeAll."""
    with takes("GET /os-services (block-storage)", "volume_extension:services:index"):
        cinder.may_list_services()


def judge_servers(cloud: Cloud, witness: Witness) -> None:
    """Whether a list of servers is everybody's. Raises CloudCannotSeeAll."""
    if not _administrator(cloud) and not witness.servers_of_others:
        raise CloudCannotSeeAll(
            f"{cloud.name}: {ALL_SERVERS} shows servers of our own project only, and our token has "
            f"{_roles(cloud)}: nothing proves that these are all",
            advice=f"{ALL_SERVERS} takes role {ADMIN}, or what this cloud's policy has for {SERVERS_RULE}",
        )


def judge_volumes(cloud: Cloud, witness: Witness) -> None:
    """Whether a list of volumes is everybody's. Raises CloudCannotSeeAll."""
    if witness.volumes_of_others or (_administrator(cloud) and not witness.attached_to_others):
        return
    why = "though servers of others have volumes" if witness.attached_to_others else f"and we have {_roles(cloud)}"
    raise CloudCannotSeeAll(
        f"{cloud.name}: {ALL_VOLUMES} shows volumes of our own project only, {why}",
        advice=f"{ALL_VOLUMES} takes role {ADMIN}, or what this cloud's policy has for context_is_admin of Cinder",
    )


def judge_no_volumes(cloud: Cloud, witness: Witness) -> None:
    """Whether there can be no volumes where the catalogue has no service for them. Raises CloudCannotSeeAll."""
    if witness.attached:
        raise CloudCannotSeeAll(
            f"{cloud.name}: servers have volumes, and Keystone's catalogue shows us no service of type block-storage",
            advice="have the endpoint of Cinder added to the catalogue that this credential gets",
        )


def witness_of(cloud: Cloud) -> Witness:
    """Nothing seen yet."""
    return Witness("" if cloud.whole_system else cloud.project)


def _administrator(cloud: Cloud) -> bool:
    return ADMIN in cloud.roles or cloud.whole_system


def _roles(cloud: Cloud) -> str:
    return f"the roles {', '.join(cloud.roles)}" if cloud.roles else "no role"


def _is_others(project: object, ours: str) -> bool:
    """Ids of projects are written without hyphens, or as somebody's directory has them."""
    return isinstance(project, str) and project not in {"", ours}
