"""clouds.yaml files for a cloud's users."""

from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from openstack.config import OpenStackConfig
from openstack.connection import Connection
from ruamel.yaml import YAML

from tests.openstack.state import State, write

Entry = dict[str, Any]


def entries(state: State) -> dict[str, Entry]:
    """One for each kind of user of a cloud that is called `demo`, and `demo-plain`: `demo` in a region without a key
    manager."""
    return {
        f"{state.name}-admin": entry(state, "admin", "admin"),
        state.name: entry(state, "publisher", "soe"),
        f"{state.name}-plain": entry(state, "publisher", "soe", "RegionTwo"),
        f"{state.name}-member": entry(state, "member", "soe"),
        f"{state.name}-reader": entry(state, "reader", "soe"),
        f"{state.name}-tenant": entry(state, "tenant", "tenant"),
    }


def entry(state: State, user: str, project: str, region: str = "RegionOne") -> Entry:
    return {
        "auth": {
            "auth_url": state.auth_url,
            "username": user,
            "password": state.passwords[user],
            "project_name": project,
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        },
        "region_name": region,
    }


def write_clouds(path: Path, clouds: Mapping[str, Entry]) -> None:
    yaml, text = YAML(typ="safe", pure=True), StringIO()
    yaml.default_flow_style = False
    yaml.dump({"clouds": dict(clouds)}, text)
    write(path, text.getvalue())


def connect(clouds_yaml: Path, name: str) -> Connection:
    """As one of the entries, whatever OS_* is set to."""
    # An empty list of the other files: clouds-public.yaml and secure.yaml of this user are nobody's business here.
    config = OpenStackConfig(config_files=[str(clouds_yaml)], vendor_files=[], secure_files=[], load_envvars=False)
    return Connection(config=config.get_one(cloud=name))
