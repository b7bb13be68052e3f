"""The documentation agrees with the code and with itself. Its commands are run by tests/integration/test_docs.py."""

import ast
import re
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from docs import make_reference
from imagefactory.cli.app import VERBS, module_of
from imagefactory.cli.lazy import load
from imagefactory.errors import catalogue
from imagefactory.model.recipe import Recipe
from tests.doc_pages import ROOT, anchors, blocks, commands, links, matches, pages, steps

# Commands that no test runs. Each stands in a page with its reason.
NOT_RUN = {
    "sudo apt-get install make git",
    "python3 -m venv verifier/venv && verifier/venv/bin/pip install .",
    "make image",
    "make install",
    "make test",
    "make check",
    "make soak",
    "make bench",
    "imagefactory boot catalogue:$HOME/.local/share/imagefactory/catalogue/tiny-debian-12",
    "imagefactory build recipes/company-debian-12.yaml",
    "imagefactory build recipes/hardened-debian-12.yaml",
    "imagefactory build recipes/motd-debian-12.yaml",
    "imagefactory build recipes/checked-debian-12.yaml",
    "openstack image set --activate --unhidden --protected IMAGE",
    "mkdir -m 700 secrets",
    "(umask 077; openssl rand -hex 32 > secrets/postgres-password)",
    "docker compose run --rm provision",
    "docker compose up --detach",
    "docker compose run --rm operator schedule add /etc/imagefactory/recipes/soe-debian-12.yaml",
    "docker compose run --rm operator builds list",
    "docker compose ps",
    "docker compose logs --follow worker-build",
    "sudo python3 -m venv /opt/imagefactory",
    "sudo /opt/imagefactory/bin/pip install --require-hashes --no-deps --requirement requirements.lock",
    "sudo /opt/imagefactory/bin/pip install --no-build-isolation --no-deps .",
    "sudo install -m 0644 -D deploy/systemd/sysusers.conf /usr/lib/sysusers.d/imagefactory.conf",
    "sudo install -m 0644 -D deploy/systemd/tmpfiles.conf /usr/lib/tmpfiles.d/imagefactory.conf",
    "sudo cp -r deploy/systemd/imagefactory* /etc/systemd/system/",
    "sudo systemd-sysusers imagefactory.conf",
    "sudo systemd-tmpfiles --create imagefactory.conf",
    "sudo systemctl daemon-reload",
    "sudo systemctl enable --now imagefactory.target imagefactory-beat.service",
    "sudo systemctl enable --now imagefactory-worker@build imagefactory-worker@test imagefactory-worker@sign",
    "sudo systemctl enable --now imagefactory-worker@publish imagefactory-worker@lifecycle",
    "journalctl --follow --unit 'imagefactory-*'",
    "sudo install -m 0600 -o 64104 ~/.config/openstack/clouds.yaml secrets/clouds.yaml",
    "docker compose build",
    'export PATH="/opt/imagefactory/bin:$PATH"',
    "imagefactory service init --secrets /etc/imagefactory",
    "imagefactory keys provision sign /var/lib/imagefactory/sign --owner imagefactory-sign",
    "systemd-tmpfiles --create imagefactory.conf",
    "export PGHOST=localhost PGUSER=postgres PGDATABASE=imagefactory",
    "pg_dumpall --roles-only --file=accounts.sql",
    "pg_dump --format=custom --file=imagefactory.dump",
    "psql --quiet --file=accounts.sql postgres",
    "createdb --template=template0",
    "pg_restore --exit-on-error --dbname=imagefactory imagefactory.dump",
    "ca=/etc/ssl/certs/service-ca.pem",
    'export IMAGEFACTORY_DATABASE="postgresql://admin@db.example.org/imagefactory?sslmode=verify-full&sslrootcert=$ca"',
    "export IMAGEFACTORY_BROKER=amqps://admin@mq.example.org/imagefactory",
    "imagefactory service init --secrets /etc/imagefactory --no-rabbitmq",
    "sudo install -d -m 3775 -o root -g 64100 /srv/imagefactory-store",
    "sudo systemctl stop imagefactory-beat.service",
    "sudo systemctl stop imagefactory.target",
    "imagefactory service init --secrets /etc/imagefactory --dry-run",
    "sudo systemctl start imagefactory.target imagefactory-beat.service",
    "imagefactory builds list",
}

every_page = pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))


@pytest.mark.parametrize("name", make_reference.PAGES)
def test_made_pages_are_fresh(name: str) -> None:
    """Mend with: python -m docs.make_reference."""
    assert (make_reference.REFERENCE / name).read_text() == make_reference.render(name)


def test_pages_do_not_depend_on_the_verbs_that_somebody_loaded() -> None:
    for name in ("verify", "boot"):
        load(module_of(name), name)
    assert list(dict.fromkeys(name.split()[0] for name in make_reference.commands())) == list(VERBS)
    assert (make_reference.REFERENCE / "cli.md").read_text() == make_reference.render("cli.md")


def test_check_notices_a_stale_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_reference, "REFERENCE", tmp_path)
    assert make_reference.main(["--check"]) == 1
    assert list(tmp_path.iterdir()) == []
    assert make_reference.main([]) == 0
    assert make_reference.main(["--check"]) == 0
    (tmp_path / "errors.md").write_text("old\n")
    assert make_reference.main(["--check"]) == 1


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        name, _, fragment = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.relative_to(ROOT)} links to {link}"
        assert not fragment or fragment in anchors(target), f"{page.relative_to(ROOT)} links to {link}"


@every_page
def test_rows_of_tables_are_whole(page: Path) -> None:
    """A row ends in its line, whatever a docstring looks like."""
    for number, line in enumerate(page.read_text().splitlines(), 1):
        assert not line.startswith("|") or line.endswith("|"), f"{page.relative_to(ROOT)}:{number}"


def test_every_page_is_reachable() -> None:
    """From the README, by links."""
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        waiting += [(page.parent / link.partition("#")[0]).resolve() for link in links(page) if link[0] != "#"]
    assert set(pages()) <= seen


def test_every_error_is_listed() -> None:
    text = (make_reference.REFERENCE / "errors.md").read_text()
    codes = [kind.code for kind in catalogue()] + [kind.code for kind in make_reference.signing_errors()]
    for code in codes:
        assert text.count(f"`{code}` |") == 1, code


def _events() -> set[str]:
    """What the code writes into the audit log: AuditLog.append(EVENT, KEY=TEXT, ...), and the log's own entries."""
    found: set[str] = set()
    for path in (ROOT / "imagefactory").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            appended = isinstance(node.func, ast.Attribute) and node.func.attr == "append" and node.keywords
            written = isinstance(node.func, ast.Name) and node.func.id == "_write" and path.name == "audit_log.py"
            if appended or written:
                found |= {str(each.value) for each in node.args if isinstance(each, ast.Constant)}
    return found


def test_every_event_of_the_audit_log_is_described() -> None:
    text = (make_reference.REFERENCE / "files.md").read_text()
    (table,) = re.findall(r"^\| event \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    described = {event for line in table.splitlines() for event in re.findall(r"`([a-z-]+)`", line.split("|")[1])}
    assert {"signed", "key-made", "torn-entry-removed"} <= _events()
    assert described == _events()


def test_error_codes_in_pages_exist() -> None:
    """A code in brackets in expected output is one of ours."""
    known = {kind.code for kind in catalogue()} | {kind.code for kind in make_reference.signing_errors()}
    shown = {
        match[1]
        for page in pages()
        for block in blocks(page)
        if block.language == "console"
        for line in block.lines
        if (match := re.search(r"^error: .*\[([a-z-]+)\]$", line))
    }
    assert shown
    assert shown <= known


def test_every_verb_is_documented() -> None:
    text = (make_reference.REFERENCE / "cli.md").read_text()
    for name, command in make_reference.commands().items():
        assert f"\n## {name}\n" in text
        assert f"`imagefactory {name}" in (command.epilog or "").replace("Example: ", "`"), f"{name} has no example"
        assert command.help, f"{name} has no help"


@pytest.mark.parametrize(
    "name", ["CHANGELOG.md", "SECURITY.md", "docs/index.md", "docs/adr/0015-the-catalogue-is-a-tuf-repository.md"]
)
def test_every_verb_of_a_catalogue_is_named(name: str) -> None:
    known = {verb for verb in make_reference.commands() if verb.startswith("catalogue ")}
    assert {*known, "fetch"} - _named(ROOT / name) == set()


@every_page
def test_verbs_that_are_named_exist(page: Path) -> None:
    known = make_reference.commands().keys()
    groups = {verb.split()[0] for verb in known if " " in verb}
    assert {verb for verb in _named(page) if " " in verb and verb.split()[0] in groups} - known == set()


def _named(page: Path) -> set[str]:
    """The verbs that a page names outside of its blocks: `GROUP ONE | OTHER` and `VERB ARGUMENT`."""
    outside = " ".join(re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL).split())
    found: set[str] = set()
    for text in re.findall(r"`([a-z]+(?: [a-z-]+(?: \| [a-z-]+)*)?)(?: [A-Z][^`]*)?`", outside):
        group, _, verbs = text.partition(" ")
        found |= {f"{group} {verb}".strip() for verb in verbs.split(" | ")}
    return found


@every_page
def test_commands_are_run_or_have_a_reason(page: Path) -> None:
    for block in blocks(page):
        if block.language == "console-host":
            assert block.has_reason, f"{page}:{block.number}: why is this not run?"
            assert {command.text for command in commands(block)} <= NOT_RUN
            assert not any(command.expected for command in commands(block)), "nobody checks this output"
        elif block.language != "console":
            assert not any(line.startswith("$ ") for line in block.lines), f"{page}:{block.number}: not run"
    outside = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert not re.search(r"^\s*\$ ", outside, re.MULTILINE), "a command outside of a block"


def test_the_list_of_commands_that_are_not_run_is_short_and_used() -> None:
    used = {
        command.text
        for page in pages()
        for block in blocks(page)
        if block.language == "console-host"
        for command in commands(block)
    }
    assert used == NOT_RUN


@pytest.mark.parametrize(
    ("expected", "output", "good"),
    [
        (["a", "b"], "a\nb\n", True),
        (["a", "b"], "a\nb\nc\n", False),
        (["a", "..."], "a\nb\nc\n", True),
        (["...", "c"], "c\n", True),
        (["a ... c"], "a    b\t c\n", True),
        (["a...c"], "a\nc\n", False),
        (["a", "", "b"], "\n  a\n\nb", True),
        (["[a]"], "a\n", False),
        ([], "a\n", False),
    ],
)
def test_expected_output(expected: list[str], output: str, good: bool) -> None:
    assert matches(expected, output) is good


def test_a_page_is_read_in_order(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n\n```console\n$ one \\\n  more\nout\n$ two\n```\n\n<!-- file: a/b -->\n```yaml\nx: 1\n```\n\n"
        "<!-- not run here: it is three -->\n```console-host\n$ three\n```\n"
    )
    first, second, file = steps(page)
    assert (first.text, first.expected, first.number) == ("one \\\n  more", ("out",), 4)  # type: ignore[union-attr]
    assert (second.text, second.expected, second.number) == ("two", (), 7)  # type: ignore[union-attr]
    assert file == ("a/b", "x: 1\n")
    assert len(list(steps(page, host="three"))) == 4


@pytest.mark.parametrize("name", ["soe-ubuntu-2404", "soe-rocky-9"])
def test_examples_that_are_not_built_here_lack_nothing_but_their_system(name: str) -> None:
    page = ROOT / "docs/reference/distributions.md"
    (example,) = [block for block in blocks(page) if block.file == f"recipes/{name}.yaml"]
    recipe = yaml.safe_load("\n".join(example.lines))
    with pytest.raises(ValidationError) as refused:
        Recipe.model_validate(recipe)
    assert {error["loc"][0] for error in refused.value.errors()} == {"os"}
    assert Recipe.model_validate({**recipe, "os": {"distro": "debian", "version": "12"}}).name == name
    assert not (ROOT / f"recipes/{name}.yaml").exists()


def test_the_transcript_is_one_of_a_whole_run() -> None:
    readme = (ROOT / "README.md").read_text()
    transcript = readme.partition("<!-- transcript:begin -->")[2].partition("<!-- transcript:end -->")[0]
    lines = transcript.strip().strip("`").strip().splitlines()
    assert lines[-1].startswith("VERIFIED soe-debian-12@")
    for step in ("rootfs", "sbom", "compliance", "disk", "convert qcow2", "boot-test", "sign", "publish"):
        assert any(line.startswith(f"+ {step}") for line in lines), step
    assert any(line.strip().startswith("evidence compliance: pass") for line in lines)
    for name in (
        "SHA256SUMS",
        "SHA256SUMS.sig",
        "provenance.sigstore.json",
        "release.sigstore.json",
        ".cdx.json",
        ".qcow2",
    ):
        assert any(line.endswith(name) for line in lines), name


def test_each_promise_names_tests_that_exist() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    promises = text.partition("## What is promised")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in promises.splitlines() if line.startswith("| ")]
    assert len(rows) > 10
    for promise, tests in rows[1:]:
        named = re.findall(r"`(tests/[^`]+)`", tests)
        assert named, promise
        assert [name for name in named if not (ROOT / name).is_file()] == [], promise
    table = promises.strip().rpartition("| ")[0]
    assert "\n\n|" not in table.partition("|---")[2], "a table ends at an empty line"
