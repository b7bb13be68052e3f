"""Recipes from files: bad files, extending, paths, digests, elements, and that any text loads or is refused."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagefactory.errors import ElementUnknown, FactoryError, InputsChanged, RecipeError
from imagefactory.model.recipe import Recipe, effective
from imagefactory.tools.recipe_file import MAX_BYTES, check_elements, copy_reference, load_recipe

MINIMAL = """\
name: tiny
os: {distro: debian, version: "12"}
elements: [soe-base]
disk: {size: 2 GiB}
formats: {qcow2: {}}
"""
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def write(folder: Path, text: str | bytes, name: str = "r.yaml") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refused(path: Path) -> RecipeError:
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    assert error.value.exit_code == 2
    assert error.value.advice
    return error.value


def test_all_errors_are_listed_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL.replace("tiny", "Tiny").replace("2 GiB", "2") + "packges: []\npackages: [curl, A]\n")
    error = refused(path)
    assert error.code == "recipe-invalid"
    assert error.message.startswith(f"{path}:1:7: name: should be 1 to 63")
    assert [line[len(str(path)) :].split(": ")[:2] for line in error.lines] == [
        [":4:14", "disk.size"],
        [":6:1", "packges"],
        [":7:18", "packages[1]"],
    ]


def test_a_codename_is_not_missed_where_the_version_is_wrong(tmp_path: Path) -> None:
    assert refused(write(tmp_path, MINIMAL.replace('"12"', '"11"'))).lines == ()


def test_very_many_errors_are_cut_short(tmp_path: Path) -> None:
    error = refused(write(tmp_path, MINIMAL + f"packages: [{', '.join(['A'] * 500)}]\n"))
    assert len(error.lines) == 21
    assert error.lines[-1] == "and 479 more"


def test_yaml_1_2_and_no_surprises(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + 'environment: {A: no, B: 12:30, C: 2026-01-02, D: "1"}\n')
    assert dict(load_recipe(path).recipe.environment) == {"A": "no", "B": "12:30", "C": "2026-01-02", "D": "1"}


def test_anchors_within_reason_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = "\ufeff" + MINIMAL + "packages: &p [curl]\ntests: {boot: {expect: *p}}\n"
    recipe = load_recipe(write(tmp_path, text)).recipe
    assert recipe.packages == recipe.tests.boot.expect == ("curl",)


# -- bad files --------------------------------------------------------------------------------------------------------


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    write(tmp_path, b"#" * (MAX_BYTES + 1), "large")
    found = {
        name: refused(tmp_path / name).code for name in ("fifo", "loop", "large", ".", "none", "large/x", "x" * 300)
    }
    assert found == {
        "fifo": "recipe-unreadable",
        "loop": "recipe-unreadable",
        "large": "recipe-too-large",
        ".": "recipe-unreadable",
        "none": "recipe-not-found",
        "large/x": "recipe-not-found",
        "x" * 300: "recipe-not-found",
    }
    assert refused(Path("a\0b")).code == refused(Path("\ud800")).code == "recipe-not-found"
    assert refused(Path("/dev/zero")).code == "recipe-unreadable"


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    path.chmod(0)
    user = os.geteuid()
    os.seteuid(user or 65534)  # root may read everything
    try:
        error = refused(path)
    finally:
        os.seteuid(user)
    assert (error.code, error.message) == ("recipe-unreadable", f"{path} cannot be read: Permission denied")


# -- extending --------------------------------------------------------------------------------------------------------


def test_mappings_merge_lists_are_replaced_and_null_removes(tmp_path: Path) -> None:
    base = write(tmp_path, MINIMAL + "packages: [curl]\nproxy: http://p:1\nenvironment: {A: a, B: b}\n", "base.yaml")
    path = write(
        tmp_path,
        "extends: base.yaml\nname: child\npackages: [less]\nproxy:\n"
        "environment: {B: c, A: }\nformats: {qcow2: {compression: zlib}, raw: {}}\n",
    )
    loaded = load_recipe(path)
    recipe = loaded.recipe
    assert (recipe.name, recipe.packages, recipe.proxy) == ("child", ("less",), None)
    assert dict(recipe.environment) == {"B": "c"}
    assert recipe.formats.names == ("raw", "qcow2")
    assert recipe.formats.qcow2 is not None
    assert recipe.formats.qcow2.compression == "zlib"
    assert loaded.files == (path, base)
    assert loaded.where("disk", "size") == (base, 4, 14)
    assert loaded.where("name") == (path, 2, 7)


def test_a_null_with_nothing_to_remove(tmp_path: Path) -> None:
    write(tmp_path, MINIMAL, "base.yaml")
    path = write(tmp_path, "extends: base.yaml\nformats:\n  raw:\n")
    message = f"{path}:3:3: formats.raw: nothing to remove here; for its defaults write {{}}, or leave it out"
    assert refused(path).message == message


def test_errors_name_the_file_that_holds_the_line(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    base = write(tmp_path / "sub", MINIMAL + "packages:\n  - A\n", "base.yaml")
    path = write(tmp_path, "extends: sub/base.yaml\nname: B\n")
    error = refused(path)
    assert error.message.startswith(f"{path}:2:7: name: ")
    assert len(error.lines) == 1
    assert error.lines[0].startswith(f"{base}:7:5: packages[0]: ")


def test_circles_and_long_chains(tmp_path: Path) -> None:
    for number in range(12):
        write(tmp_path, f"extends: {number + 1}.yaml\n", f"{number}.yaml")
    write(tmp_path, MINIMAL, "12.yaml")
    assert load_recipe(tmp_path / "4.yaml").recipe.name == "tiny"
    error = refused(tmp_path / "3.yaml")
    assert (error.code, error.file) == ("recipe-extends-loop", tmp_path / "11.yaml")
    write(tmp_path, "extends: 10.yaml\n", "12.yaml")
    error = refused(tmp_path / "10.yaml")
    assert error.message == f"{tmp_path}/12.yaml:1:10: {tmp_path}/10.yaml is extended by itself"


# -- paths and the digest ---------------------------------------------------------------------------------------------

REFERRING = """\
repositories:
  - {uri: 'http://h/', suite: s, components: [main], signed_by: keys/a.asc}
ca_certificates: [ca.pem]
publish: [{catalogue: ../images}]
"""


def referring(folder: Path) -> Path:
    (folder / "shared" / "keys").mkdir(parents=True)
    write(folder / "shared", REFERRING, "base.yaml")
    write(folder / "shared", CERTIFICATE, "ca.pem")
    write(folder / "shared" / "keys", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n", "a.asc")
    return write(folder, "extends: shared/base.yaml\n" + MINIMAL)


def test_paths_count_from_the_file_that_writes_them(tmp_path: Path) -> None:
    path = referring(tmp_path)
    loaded = load_recipe(path)
    shared = tmp_path / "shared"
    assert loaded.recipe.repositories[0].signed_by == str(shared / "keys/a.asc")
    assert loaded.recipe.ca_certificates == (str(shared / "ca.pem"),)
    assert effective(loaded.recipe)["publish"] == [{"catalogue": str(shared / "../images")}]
    assert loaded.files == (path, shared / "base.yaml", shared / "ca.pem", shared / "keys/a.asc")
    assert loaded.digests[shared / "ca.pem"] == hashlib.sha256(CERTIFICATE.encode()).hexdigest()


def test_the_document_behind_the_digest_names_no_place_on_this_machine(tmp_path: Path) -> None:
    loaded = load_recipe(referring(tmp_path))
    canonical = json.dumps(loaded.document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(canonical.encode()).hexdigest() == loaded.digest
    assert str(tmp_path) not in canonical
    certificate = {"name": "ca.pem", "sha256": hashlib.sha256(CERTIFICATE.encode()).hexdigest()}
    assert loaded.document["ca_certificates"] == [certificate]


def test_only_the_bytes_that_were_digested_are_copied(tmp_path: Path) -> None:
    loaded = load_recipe(referring(tmp_path))
    certificate = tmp_path / "shared/ca.pem"
    copy_reference(loaded, certificate, tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == CERTIFICATE
    certificate.write_text(CERTIFICATE + "\n")
    with pytest.raises(InputsChanged, match="changed after the recipe was read"):
        copy_reference(loaded, certificate, tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == CERTIFICATE


def test_the_digest_depends_on_what_is_said_not_on_where_it_lies(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        referring(tmp_path / name)
    one, two = tmp_path / "a/r.yaml", tmp_path / "b/r.yaml"
    digest = load_recipe(one).digest
    assert len(digest) == 64
    assert load_recipe(two).digest == digest
    two.write_text("# a comment\n" + two.read_text() + "tests: {boot: {timeout: 600s}}\n")  # the default
    assert load_recipe(two).digest == digest
    write(tmp_path / "b/shared", CERTIFICATE + "\n", "ca.pem")
    assert load_recipe(two).digest != digest
    one.write_text(one.read_text().replace("tiny", "tinier"))
    assert load_recipe(one).digest != digest


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        ("-----BEGIN PRIVATE KEY-----\n", "secret-in-recipe", "holds a private key"),
        ("hello\n", "recipe-reference", "has no PEM certificate in it"),
        (None, "recipe-reference", "cannot be read: a folder"),
    ],
)
def test_certificates_that_are_none(tmp_path: Path, content: str | None, code: str, message: str) -> None:
    if content is None:
        (tmp_path / "ca.pem").mkdir()
    else:
        write(tmp_path, content, "ca.pem")
    error = refused(write(tmp_path, MINIMAL + "ca_certificates: [ca.pem]\n"))
    assert (error.code, error.line, error.column) == (code, 6, 19)
    assert error.message.endswith(message)


def test_two_certificates_of_one_file_name(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write(tmp_path, CERTIFICATE, "ca.pem")
    write(tmp_path / "a", CERTIFICATE, "ca.pem")
    error = refused(write(tmp_path, MINIMAL + "ca_certificates:\n  - ca.pem\n  - a/ca.pem\n"))
    assert error.message.endswith("r.yaml:8:5: a file called ca.pem is already in line 7")


# -- elements ---------------------------------------------------------------------------------------------------------


def test_elements(tmp_path: Path) -> None:
    (tmp_path / "elements/soe-base").mkdir(parents=True)
    write(tmp_path / "elements", "", "a-file")
    search = [tmp_path / "none", tmp_path / "elements"]
    path = write(tmp_path, MINIMAL)
    check_elements(load_recipe(path), search)
    path.write_text(MINIMAL.replace("[soe-base]", "[soe-bsae, a-file]"))
    with pytest.raises(ElementUnknown) as error:
        check_elements(load_recipe(path), search)
    assert error.value.message == f"{path}:3:12: no element is called soe-bsae; did you mean soe-base?"
    assert error.value.lines == (f"{path}:3:22: no element is called a-file",)
    with pytest.raises(ElementUnknown, match="no element is called soe-bsae; did you mean soe-base"):
        check_elements(load_recipe(path).recipe, search)


# -- any text at all --------------------------------------------------------------------------------------------------


def loads_or_refuses(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        loaded = load_recipe(path)
    except FactoryError as error:
        refusal = error
    else:
        assert Recipe.model_validate(effective(loaded.recipe)) == loaded.recipe
        return
    assert isinstance(refusal, RecipeError)
    assert refusal.code
    assert refusal.message.startswith(f"{path}:")


QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PIECES = [
    *"[]{},:-?&*!|>'\"%@`#~<= \n\t\r\x85\u2028",
    *("\n  ", ": ", "- ", "? ", "&a ", "*a", "!!", "<<", "---", "...", "|+2\n", "%YAML 1.1\n", "%TAG ! x\n", "\ufeff"),
    *("name", "os", "disk", "2 GiB", "0x", "1e9", ".inf", "\\x", "é"),
]
YAMLISH = st.lists(st.sampled_from(PIECES), max_size=60).map("".join)
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["2 GiB", "10m", "debian", "12"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.text() | YAMLISH)
@QUIET
def test_any_text_loads_or_is_refused(tmp_path: Path, text: str) -> None:
    loads_or_refuses(tmp_path / "r.yaml", text.encode("utf-8", "surrogatepass"))


@given(st.binary(max_size=60))
@QUIET
def test_any_bytes_load_or_are_refused(tmp_path: Path, content: bytes) -> None:
    loads_or_refuses(tmp_path / "r.yaml", content)


@given(YAMLISH, st.integers(0, len(MINIMAL)), st.integers(0, 10))
@QUIET
def test_a_damaged_recipe_loads_or_is_refused(tmp_path: Path, text: str, at: int, cut: int) -> None:
    loads_or_refuses(tmp_path / "r.yaml", (MINIMAL[:at] + text + MINIMAL[at + cut :]).encode())


@given(st.sampled_from(sorted(set(Recipe.model_fields))), DATA)
@QUIET
def test_any_value_of_a_field_loads_or_is_refused(tmp_path: Path, field: str, value: object) -> None:
    rest = "\n".join(line for line in MINIMAL.splitlines() if not line.startswith(f"{field}:"))
    loads_or_refuses(tmp_path / "r.yaml", f"{rest}\n{field}: {json.dumps(value)}\n".encode())


def test_a_day_in_properties_is_text(tmp_path: Path) -> None:
    loaded = load_recipe(write(tmp_path, MINIMAL + "properties: {provided_until: 2027-06-30, min_ram: 1024}\n"))
    assert dict(loaded.recipe.properties) == {"provided_until": "2027-06-30", "min_ram": 1024}
