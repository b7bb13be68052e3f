"""What starts the service, as containers and as units of systemd, agrees with the code and with each other."""

import configparser
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs import make_reference
from imagefactory.model.broker import account_name, parse_broker
from imagefactory.model.database_url import parse_database_url
from imagefactory.model.job import KEYS, Role
from imagefactory.settings import read_settings
from imagefactory.store.grants import OPERATOR
from imagefactory.worker.run import STOP_MARGIN
from tests.doc_pages import ROOT
from tests.servers.team import ACCOUNTS, BEAT, GROUP, WORKERS

COMPOSE: Mapping[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: Mapping[str, Mapping[str, Any]] = COMPOSE["services"]
SYSTEMD = ROOT / "deploy/systemd"
WHO = WORKERS
BASE, SECRETS = "/var/lib/imagefactory", "/etc/imagefactory"
OUTSIDE = {Role.BUILD: {"mirrors"}, Role.PUBLISH: {"clouds"}, BEAT: {"notices"}}
ours = pytest.mark.parametrize("who", WHO)


def service(who: str) -> Mapping[str, Any]:
    return SERVICES[who if who in {BEAT, OPERATOR} else f"worker-{who}"]


def mounts(each: Mapping[str, Any]) -> dict[str, tuple[str, bool]]:
    """What is mounted where, and whether it is read only."""
    found = {}
    for text in each.get("volumes", ()):
        words = re.sub(r"\$\{[^}]*:-([^}]*)\}", r"\1", text).split(":")
        found[words[1]] = (words[0], words[2:] == ["ro"])
    return found


def command(argv: list[str]) -> tuple[str, dict[str, Any]]:
    """The verb of a command line of ours, and its parameters as typer reads them."""
    verb, *rest = argv
    return verb, make_reference.commands()[verb].make_context(verb, rest).params


# -- containers --------------------------------------------------------------------------------------------------------


def test_there_is_a_service_for_each_role_and_no_other() -> None:
    assert {name for name in SERVICES if name.startswith("worker-")} == {f"worker-{role}" for role in Role}
    assert set(SERVICES) == {f"worker-{role}" for role in Role} | {
        BEAT,
        OPERATOR,
        "init",
        "provision",
        "postgres",
        "rabbitmq",
    }


@ours
def test_a_process_is_started_as_typer_reads_it_and_asked_where_it_listens(who: str) -> None:
    each = service(who)
    verb, options = command(each["command"])
    assert verb == ("beat" if who == BEAT else "worker")
    port = options["listen"].rpartition(":")[2]
    assert f'"127.0.0.1", {port}' in each["healthcheck"]["test"][-1]
    if who != BEAT:
        assert options["role"] == who
        assert seconds(each["stop_grace_period"]) >= options["grace"] + STOP_MARGIN


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


@ours
def test_the_environment_is_one_that_settings_read(who: str) -> None:
    environment = service(who)["environment"]
    known = set(re.findall(r'"(IMAGEFACTORY_[A-Z_]+)"', (ROOT / "imagefactory/settings.py").read_text()))
    assert {name for name in environment if name.startswith("IMAGEFACTORY_")} <= known
    settings = read_settings(environment)
    account = account_name(who)
    assert settings.broker is not None
    assert (settings.broker.user, settings.broker.host) == (account, "rabbitmq")
    assert settings.broker == parse_broker(f"amqp://{account}@rabbitmq/imagefactory")
    assert settings.database_url == parse_database_url(f"postgresql://{account}@postgres/imagefactory")
    assert str(settings.home) == environment["HOME"] == f"{BASE}/{who}"
    assert settings.broker_password_file == Path(f"{SECRETS}/{who}/broker-password")
    assert environment["PGPASSFILE"] == f"{SECRETS}/{who}/pgpass"
    assert bool(settings.recipes) == (who in {Role.BUILD, Role.TEST})
    assert (settings.storage is None) == (who == BEAT)


@pytest.mark.parametrize("who", [*WHO, OPERATOR])
def test_what_the_environment_names_is_mounted(who: str) -> None:
    each = service(who)
    there = [*mounts(each), *(f"/run/secrets/{name}" for name in each.get("secrets", ()))]
    for name, value in each["environment"].items():
        if value.startswith("/"):
            assert any(Path(value).is_relative_to(place) for place in there), name


@pytest.mark.parametrize("who", [*WHO, OPERATOR])
def test_nobody_has_what_is_for_others(who: str) -> None:
    found = mounts(service(who))
    volumes = {volume for volume, _ in found.values()}
    assert {each for each in volumes if each.startswith(("home-", "secrets-"))} == {f"home-{who}", f"secrets-{who}"}
    assert found[f"{SECRETS}/{who}"] == (f"secrets-{who}", True)
    keys = {place: what for place, what in found.items() if "keys" in what[0]}
    has_keys = who in {*Role} and bool(KEYS[Role(who)])
    assert keys == ({f"{BASE}/{who}/keys": (f"./secrets/keys/{who}", True)} if has_keys else {})
    assert set(service(who).get("secrets", ())) == (
        {"clouds.yaml"} if who == Role.PUBLISH else {f"{who}-passphrase"} if has_keys else set()
    )
    writes = {place for place, (_, read_only) in found.items() if not read_only}
    catalogue = {f"{BASE}/catalogue"} if who in {Role.SIGN, Role.PUBLISH} else set()
    assert writes == {f"{BASE}/{who}"} | catalogue | ({f"{BASE}/store"} if who != BEAT else set())


@pytest.mark.parametrize("who", [*WHO, OPERATOR])
def test_each_meets_the_database_and_the_broker_in_a_network_of_its_own(who: str) -> None:
    networks = COMPOSE["networks"]
    own = set(service(who)["networks"])
    assert own == {who} | OUTSIDE.get(who, set())
    assert networks[who] == {"internal": True}
    others = {name for name, each in SERVICES.items() if own & set(each.get("networks", ()))}
    servers = {"postgres"} if who == OPERATOR else {"postgres", "rabbitmq"}
    assert {name for name in others if SERVICES[name] is not service(who)} == servers


def test_servers_are_reached_from_nowhere_else() -> None:
    assert not any("ports" in each or "network_mode" in each for name, each in SERVICES.items() if name != "provision")
    for name in ("postgres", "rabbitmq", "init"):
        assert all(COMPOSE["networks"][each] == {"internal": True} for each in SERVICES[name]["networks"])
    assert SERVICES["provision"]["network_mode"] == "none"


@pytest.mark.parametrize("name", SERVICES)
def test_only_who_builds_is_privileged(name: str) -> None:
    each = SERVICES[name]
    if name == f"worker-{Role.BUILD}":
        assert each["privileged"] is True
        return
    assert "privileged" not in each
    assert each["cap_drop"] == ["ALL"]
    assert each["security_opt"] == ["no-new-privileges:true"]
    if each["image"].startswith("imagefactory-"):
        assert each["read_only"] is True
        assert [text.partition(":")[0] for text in each["tmpfs"]] == ["/tmp"]  # noqa: S108 - in a container
    if name in {"init", "provision"}:
        assert set(each["cap_add"]) == {"CHOWN", "DAC_OVERRIDE", "FOWNER"}
        assert each["restart"] == "no"
    elif name not in {"postgres", "rabbitmq"}:
        assert "cap_add" not in each


@ours
def test_accounts_have_the_numbers_that_a_team_has(who: str) -> None:
    assert service(who)["user"] == f"{ACCOUNTS[who]}:{GROUP}"


def test_who_boots_images_has_the_programs_for_it() -> None:
    large = {name for name, each in SERVICES.items() if each["image"].startswith("imagefactory-large:")}
    assert large == {f"worker-{Role.BUILD}", f"worker-{Role.TEST}"}
    for each in SERVICES.values():
        if each["image"].startswith("imagefactory-"):
            assert each["image"].startswith(f"imagefactory-{each['build']['target']}:")
            assert each["pull_policy"] == "never"
        else:
            assert re.fullmatch(r"[a-z]+:\d+(\.\d+)+(-[a-z]+)?", each["image"])


def test_nothing_starts_before_what_it_needs() -> None:
    for who in WHO:
        needed = {name: each["condition"] for name, each in service(who)["depends_on"].items()}
        assert needed == {
            "init": "service_completed_successfully",
            "postgres": "service_healthy",
            "rabbitmq": "service_healthy",
        }
    assert list(SERVICES["init"]["depends_on"]) == ["postgres"]
    assert list(SERVICES["rabbitmq"]["depends_on"]) == ["init"]
    for name, each in SERVICES.items():
        assert each["healthcheck"] if each["restart"] != "no" else each["healthcheck"] == {"disable": True}, name


def test_secrets_are_made_where_they_are_read() -> None:
    found = mounts(SERVICES["init"])
    assert found[SECRETS] == ("definitions", False)
    assert mounts(SERVICES["rabbitmq"])[SECRETS] == ("definitions", True)
    for who in (*WHO, OPERATOR):
        assert found[f"{SECRETS}/{who}"] == (f"secrets-{who}", False)
    (script,) = SERVICES["init"]["command"]
    assert f"imagefactory service init --secrets {SECRETS}\n" in script
    configuration = (ROOT / "deploy/compose/rabbitmq.conf").read_text()
    assert f"load_definitions = {SECRETS}/rabbitmq.json\n" in configuration
    homes = {place for place in mounts(SERVICES["provision"]) if place.startswith(BASE)}
    assert homes == {f"{BASE}/catalogue", *(f"{BASE}/{role}" for role in Role)}
    assert f"for role in {' '.join(Role)}; do\n" in (ROOT / "deploy/compose/provision").read_text()


def test_volumes_are_those_that_are_mounted() -> None:
    mounted = {what for each in SERVICES.values() for what, _ in mounts(each).values() if what[0] not in "./~"}
    assert set(COMPOSE["volumes"]) == mounted
    networks = {name for each in SERVICES.values() for name in each.get("networks", ())}
    assert set(COMPOSE["networks"]) == networks
    assert set(COMPOSE["secrets"]) == {name for each in SERVICES.values() for name in each.get("secrets", ())}


def test_no_password_is_in_a_file_of_the_repository() -> None:
    assert all(set(each) == {"file"} for each in COMPOSE["secrets"].values())
    named = [
        (name, value)
        for each in SERVICES.values()
        for name, value in each.get("environment", {}).items()
        if re.search("PASS|SECRET|TOKEN|COOKIE", name)
    ]
    assert named
    assert all(str(value).startswith(("/run/secrets/", f"{SECRETS}/", "/tmp/")) for _, value in named)  # noqa: S108
    assert "/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


# -- the image ---------------------------------------------------------------------------------------------------------


def test_the_image_is_made_of_what_the_repository_has() -> None:
    text = (ROOT / "Dockerfile").read_text()
    targets = re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE)
    assert {each["build"]["target"] for each in SERVICES.values() if "build" in each} <= set(targets)
    copied = [word for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE) for word in line.split()[:-1]]
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for path in (each for each in copied if not each.startswith("--")):
        assert (ROOT / path).exists(), path
        assert any(Path(path).is_relative_to(each) for each in allowed), path
    assert all((ROOT / each).exists() for each in allowed)
    extras = re.search(r"\.whl\)\[([a-z0-9,]+)\]", text)
    assert extras is not None
    project = (ROOT / "pyproject.toml").read_text()
    assert {"build", "openstack", "service"} <= set(extras[1].split(","))
    assert all(f"\n{extra} = [\n" in project for extra in extras[1].split(","))
    assert "--require-hashes" in text
    assert "http" not in text


# -- systemd -----------------------------------------------------------------------------------------------------------


def unit(*paths: Path) -> dict[str, list[str]]:
    """The settings of [Service], in order; an empty one takes back those before it."""
    found: dict[str, list[str]] = {}
    for path in paths:
        parser = configparser.RawConfigParser(strict=False, dict_type=_Many, delimiters=("=",))
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(path.read_text())
        for name, value in parser.items("Service"):
            for each in value.split("\n"):
                found[name] = [*found.get(name, []), each] if each else []
    return found


class _Many(dict[str, Any]):
    """Keeps all values of a setting that is there several times."""

    def __setitem__(self, name: str, value: Any) -> None:  # noqa: ANN401 - as the base has it
        if isinstance(value, list) and name in self:
            self[name].extend(value)
        else:
            super().__setitem__(name, value)


def of(who: str) -> dict[str, list[str]]:
    if who == BEAT:
        return unit(SYSTEMD / "imagefactory-beat.service")
    more = SYSTEMD / f"imagefactory-worker@{who}.service.d/{who}.conf"
    return unit(SYSTEMD / "imagefactory-worker@.service", *([more] if more.exists() else []))


@ours
def test_units_start_what_typer_reads(who: str) -> None:
    settings = of(who)
    (start,) = settings["ExecStart"]
    program, *argv = start.replace("%i", who).split()
    assert program == "/opt/imagefactory/bin/imagefactory"
    verb, options = command(argv)
    assert verb == ("beat" if who == BEAT else "worker")
    assert options.get("role", BEAT) == who
    assert int(settings["TimeoutStopSec"][0]) >= options.get("grace", 0) + STOP_MARGIN
    assert settings["Restart"] == ["on-failure"]


@ours
def test_units_and_containers_have_the_same_places(who: str) -> None:
    settings = of(who)
    environment = dict(each.replace("%i", who).split("=", 1) for each in settings["Environment"])
    assert settings["EnvironmentFile"][0].replace("%i", who) == f"{SECRETS}/{who}/env"
    assert read_settings(environment).home == Path(f"{BASE}/{who}")
    same = {"HOME", "IMAGEFACTORY_HOME", "IMAGEFACTORY_STORE", "IMAGEFACTORY_CATALOGUE"}
    container = service(who)["environment"]
    assert {name: environment.get(name) for name in same} == {name: container.get(name) for name in same}


@ours
def test_units_run_as_nobody_else(who: str) -> None:
    settings = of(who)
    users = [each.replace("%i", who) for each in settings["User"]]
    assert settings["Group"] == ["imagefactory"]
    if who == Role.BUILD:
        assert users[-1] == "root"
        return
    assert users == [account_name(who)]
    assert settings["NoNewPrivileges"] == ["yes"]
    assert settings["CapabilityBoundingSet"] == []
    assert settings["ProtectSystem"] == ["strict"]
    assert (settings.get("IPAddressDeny") == ["any"]) == (who in {Role.SIGN, Role.TEST})


def test_folders_of_units_are_those_of_roles() -> None:
    folders = {path.name for path in SYSTEMD.iterdir() if path.is_dir()}
    assert folders <= {f"imagefactory-worker@{role}.service.d" for role in Role}
    assert all([f"{folder.split('@')[1].split('.')[0]}.conf"] == names for folder, names in _inside(folders))


def _inside(folders: set[str]) -> Iterator[tuple[str, list[str]]]:
    for folder in folders:
        yield folder, [path.name for path in (SYSTEMD / folder).iterdir()]


def lines(name: str) -> list[list[str]]:
    return [line.split() for line in (SYSTEMD / name).read_text().splitlines() if line and line[0] != "#"]


def test_accounts_are_those_of_the_roles() -> None:
    assert lines("sysusers.conf")[0] == ["g", "imagefactory", str(GROUP)]
    users = {line[1]: (line[2], line[-1]) for line in lines("sysusers.conf")[1:]}
    expected = {account_name(who): (f"{account}:{GROUP}", f"{BASE}/{who}") for who, account in ACCOUNTS.items()}
    del expected[account_name(Role.BUILD)]
    assert service(OPERATOR)["user"] == users[account_name(OPERATOR)][0]
    assert users == expected


def test_directories_belong_to_those_whose_they_are() -> None:
    found = {line[1]: (line[0], *line[2:]) for line in lines("tmpfiles.conf")}
    for who in (*WHO, OPERATOR):
        account = "root" if who == Role.BUILD else account_name(who)
        assert found[f"{BASE}/{who}"] == ("d", "0700", account, "imagefactory")
        assert found[f"{SECRETS}/{who}"] == ("d", "0755", "root", "root")
        for name in ("pgpass", "env", *(["broker-password"] if who != OPERATOR else [])):
            assert found[f"{SECRETS}/{who}/{name}"] == ("z", "0600", account, "imagefactory")
    assert found[f"{BASE}/store"] == ("d", "3775", "root", "imagefactory")
    assert found[f"{BASE}/catalogue/metadata"][-2] == account_name(Role.SIGN)
    assert found[f"{BASE}/catalogue/targets"] == ("d", "2775", "imagefactory-publish", "imagefactory")
