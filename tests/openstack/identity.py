"""Users, projects, roles and the catalogue, made through Keystone's interface as an operator would."""

from collections.abc import Iterable
from typing import TypeVar

from openstack.identity.v3._proxy import Proxy
from openstack.identity.v3.project import Project
from openstack.identity.v3.service import Service

from tests.openstack.clouds import connect
from tests.openstack.databases import manage
from tests.openstack.state import SERVICE_USERS, State

Found = TypeVar("Found")

SOE_USERS = {"publisher": ("member", "image_publisher"), "member": ("member",), "reader": ("reader",)}
# Two regions are the same servers, but the second has no key manager.
REGIONS = {"RegionOne": ("image", "key-manager"), "RegionTwo": ("identity", "image")}
SERVICES = {"identity": "keystone", "image": "glance", "key-manager": "barbican"}


def bootstrap(state: State) -> None:
    """The administrator, and the region that Keystone stands in. It does no harm a second time."""
    manage(
        state,
        "keystone-manage",
        "--config-file",
        state.file("etc", "keystone.conf"),
        "bootstrap",
        OS_BOOTSTRAP_USERNAME="admin",
        OS_BOOTSTRAP_PASSWORD=state.passwords["admin"],
        OS_BOOTSTRAP_PROJECT_NAME="admin",
        OS_BOOTSTRAP_ROLE_NAME="admin",
        OS_BOOTSTRAP_SERVICE_NAME="keystone",
        OS_BOOTSTRAP_REGION_ID="RegionOne",
        OS_BOOTSTRAP_PUBLIC_URL=state.auth_url,
    )


def fill(state: State) -> None:
    """Everything else. It does no harm a second time."""
    with connect(state.clouds_yaml, f"{state.name}-admin") as cloud:
        keystone = cloud.identity
        assert isinstance(keystone, Proxy)
        service, soe, tenant = (project(keystone, name) for name in ("service", "soe", "tenant"))
        for name in SERVICE_USERS:
            # Enough to ask whether other users' tokens are good.
            user(keystone, state, name, service, ("service",))
        for name, roles in SOE_USERS.items():
            user(keystone, state, name, soe, roles)
        user(keystone, state, "tenant", tenant, ("member",))
        for region, kinds in REGIONS.items():
            catalogue(keystone, state, region, kinds)


def project(keystone: Proxy, name: str) -> Project:
    return first(keystone.projects(name=name)) or keystone.create_project(name=name, domain_id="default")


def user(keystone: Proxy, state: State, name: str, home: Project, roles: Iterable[str]) -> None:
    found = first(keystone.users(name=name)) or keystone.create_user(
        name=name, password=state.passwords[name], domain_id="default", default_project_id=home.id
    )
    for role in roles:
        known = first(keystone.roles(name=role)) or keystone.create_role(name=role)
        keystone.assign_project_role_to_user(home, found, known)


def catalogue(keystone: Proxy, state: State, region: str, kinds: Iterable[str]) -> None:
    if region not in [known.id for known in keystone.regions()]:
        keystone.create_region(id=region)
    for kind in kinds:
        found = service(keystone, kind)
        if first(keystone.endpoints(service_id=found.id, region_id=region)) is None:
            url = state.auth_url if kind == "identity" else state.url(SERVICES[kind])
            keystone.create_endpoint(service_id=found.id, interface="public", url=url, region_id=region)


def service(keystone: Proxy, kind: str) -> Service:
    return first(keystone.services(type=kind)) or keystone.create_service(name=SERVICES[kind], type=kind)


def first(found: Iterable[Found]) -> Found | None:
    return next(iter(found), None)
