"""The servers' configuration files."""

from tests.openstack.install import VENV
from tests.openstack.state import State, write

PASTE = VENV / "etc"


def write_configuration(state: State) -> None:
    write(state.file("etc", "keystone.conf"), keystone(state))
    write(state.file("etc", "glance-api.conf"), glance(state))
    write(state.file("etc", "glance-policy.yaml"), GLANCE_POLICY)
    # Barbican looks for it below HOME.
    write(state.file("home", ".barbican", "barbican.conf"), barbican(state))


def environment(state: State) -> dict[str, str]:
    """For every program of the cloud. Nothing of the caller's: no proxy, no cloud that OS_* might name."""
    return {
        "PATH": f"{VENV / 'bin'}:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(state.file("home")),
        "OS_KEYSTONE_CONFIG_DIR": str(state.file("etc")),
        "OS_GLANCE_CONFIG_DIR": str(state.file("etc")),
        "BARBICAN_PASTE": str(PASTE / "barbican" / "barbican-api-paste.ini"),
    }


# Clouds let an account that publishes images make them public in this way, without making it an administrator.
GLANCE_POLICY = """\
"publicize_image": "role:admin or role:image_publisher"
"""


def keystone(state: State) -> str:
    # Rounds: passwords here are random, and every token request would pay. Cache: a token is checked in 0.03 s
    # instead of 0.2 s.
    return f"""\
[DEFAULT]
use_stderr = true
[token]
provider = fernet
expiration = 14400
[fernet_tokens]
key_repository = {state.file("keys", "fernet")}
[fernet_receipts]
key_repository = {state.file("keys", "fernet")}
[credential]
key_repository = {state.file("keys", "credential")}
[identity]
password_hash_rounds = 4
max_password_length = 54
[cache]
enabled = true
backend = dogpile.cache.memory
{database(state, "keystone")}"""


def barbican(state: State) -> str:
    return f"""\
[DEFAULT]
use_stderr = true
host_href = {state.url("barbican")}
db_auto_create = false
[queue]
enable = false
[secretstore]
enabled_secretstore_plugins = store_crypto
[crypto]
enabled_crypto_plugins = simple_crypto
[simple_crypto_plugin]
kek = {state.key_encryption_key}
{database(state, "barbican")}{authtoken(state, "barbican")}"""


def glance(state: State) -> str:
    # Glance asks Barbican with the token of whoever uploads.
    return f"""\
[DEFAULT]
use_stderr = true
enabled_backends = files:file
enabled_import_methods = [glance-direct,web-download,copy-image]
worker_self_reference_url = {state.url("glance")}
[glance_store]
default_backend = files
[files]
filesystem_store_datadir = {state.file("glance", "images")}
[os_glance_staging_store]
filesystem_store_datadir = {state.file("glance", "staging")}
[os_glance_tasks_store]
filesystem_store_datadir = {state.file("glance", "tasks")}
[paste_deploy]
flavor = keystone
config_file = {PASTE / "glance" / "glance-api-paste.ini"}
[key_manager]
backend = barbican
[barbican]
auth_endpoint = {state.auth_url}
barbican_endpoint = {state.url("barbican")}
barbican_api_version = v1
[import_filtering_opts]
allowed_schemes = [http]
allowed_hosts = [127.0.0.1]
allowed_ports = []
[oslo_policy]
policy_file = {state.file("etc", "glance-policy.yaml")}
[oslo_messaging_notifications]
driver = noop
{database(state, "glance")}{authtoken(state, "glance")}"""


def database(state: State, server: str) -> str:
    return f"""\
[database]
connection = sqlite:///{state.file("db", f"{server}.db")}
sqlite_synchronous = false
[oslo_concurrency]
lock_path = {state.file("lock")}
"""


def authtoken(state: State, user: str) -> str:
    return f"""\
[keystone_authtoken]
www_authenticate_uri = {state.auth_url}
auth_url = {state.auth_url}
auth_type = password
username = {user}
password = {state.passwords[user]}
user_domain_name = Default
project_name = service
project_domain_name = Default
region_name = RegionOne
interface = public
service_token_roles = service
service_token_roles_required = true
"""
