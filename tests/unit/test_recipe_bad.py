"""Texts that are no recipe: each is refused with a code, the place, and a message that helps."""

from pathlib import Path

import pytest

from tests.unit.test_recipe_file import MINIMAL, refused, write

# name -> the text, the code, line:column (its beginning), the message (its beginning)
BAD: dict[str, tuple[str | bytes, str, str, str]] = {
    "empty": ("", "recipe-invalid", "1:1", "the file is empty: a recipe is a mapping"),
    "only a comment": ("# nothing\n", "recipe-invalid", "1:1", "the file is empty: a recipe is a mapping"),
    "a list": ("- a\n", "recipe-invalid", "1:1", "a recipe is a mapping, such as name: my-image"),
    "a text": ("hello", "recipe-invalid", "1:1", "a recipe is a mapping, such as name: my-image"),
    "null": ("null", "recipe-invalid", "1:1", "a recipe is a mapping, such as name: my-image"),
    "two documents": (MINIMAL + "---\nname: b\n", "recipe-invalid", "6:1", "a second document begins here"),
    "a tab": (
        MINIMAL + "tests:\n\tboot: {}\n",
        "recipe-not-yaml",
        "7:1",
        "not YAML: while scanning for the next token",
    ),
    "an open bracket": (
        MINIMAL + "packages: [a\n",
        "recipe-not-yaml",
        "7:1",
        "not YAML: while parsing a flow sequence",
    ),
    "a python tag": (
        MINIMAL + "x: !!python/object/apply:os.system [reboot]\n",
        "recipe-not-yaml",
        "6:4",
        "the tag 'tag:yaml.org,2002:python/object/apply:… is not read",
    ),
    "a tag of its own": (MINIMAL + "description: !x a\n", "recipe-not-yaml", "6:14", "the tag '!x' is not read"),
    "a plain tag": (MINIMAL + "description: !!str 1\n", "recipe-not-yaml", "6:14", "the tag 'tag:yaml.org,2002:str'"),
    "NUL": (MINIMAL + "x: a\0b\n", "recipe-not-yaml", "6:5", "the character U+0000 may not stand in YAML"),
    "NUL in an escape": (
        MINIMAL + 'description: "a\\0b"\n',
        "recipe-invalid",
        "6:14",
        "a text should not hold control",
    ),
    "half a character": (
        MINIMAL + 'description: "\\ud800"\n',
        "recipe-invalid",
        "6:14",
        "a text should not hold control characters",
    ),
    "Latin-1": (MINIMAL.encode() + b"description: caf\xe9\n", "recipe-not-yaml", "6:17", "byte 0xe9 is not UTF-8"),
    "UTF-16": (MINIMAL.encode("utf-16"), "recipe-not-yaml", "1:1", "byte 0xff is not UTF-8"),
    "a key twice": (MINIMAL + "name: b\n", "recipe-invalid", "6:1", "the key 'name' is here twice: first in line 1"),
    "a number as key": (MINIMAL + "12: b\n", "recipe-invalid", "6:1", "a key should be text: put it in quotes"),
    "a list as key": (MINIMAL + "? [a]\n: b\n", "recipe-invalid", "6:3", "a key should be text: put it in quotes"),
    "a merge key": (MINIMAL + "<<: {a: b}\n", "recipe-invalid", "6:1", "merge keys are not read: use extends"),
    "a long number": (MINIMAL + f"x: {'9' * 5000}\n", "recipe-invalid", "6:4", "'9999999999"),
    "no such anchor": (MINIMAL + "x: *a\n", "recipe-not-yaml", "6:4", "the alias 'a' has no anchor before it"),
    "an alias in itself": (
        MINIMAL + "x: &a [*a]\n",
        "recipe-invalid",
        "6:8",
        "the alias 'a' stands inside of what it means",
    ),
    "deep": (MINIMAL + "x: " + "[" * 40 + "]" * 40, "recipe-too-large", "6:35", "more than 32 levels"),
    "very deep": (MINIMAL + "x: " + "[" * 100_000, "recipe-too-large", "6:35", "more than 32 levels"),
    "deep by aliases": (
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 40)),
        "recipe-too-large",
        "32:12",
        "more than 32 levels",
    ),
    "a billion laughs": (
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)),
        "recipe-too-large",
        "5:35",
        "more than 10,000 values, aliases written out",
    ),
    "many values": (MINIMAL + "x: [" + "a," * 12_000 + "]", "recipe-too-large", "6:", "more than 10,000 values"),
    "an unknown key": (
        MINIMAL + "packges: []\n",
        "recipe-unknown-key",
        "6:1",
        "packges: unknown key; did you mean pack",
    ),
    "an unknown key inside": (
        MINIMAL + "tests:\n  boot:\n    memry: 1 GiB\n",
        "recipe-unknown-key",
        "8:5",
        "tests.boot.memry: unknown key; did you mean memory?",
    ),
    "an unknown key like no other": (
        MINIMAL + "tests:\n  boot:\n    zzz: 1 GiB\n",
        "recipe-unknown-key",
        "8:5",
        "tests.boot.zzz: unknown key; known are expect, memory, timeout, upgrade",
    ),
    "an unknown key of a target": (
        MINIMAL + "publish:\n  - cloud: a\n    visibilty: public\n",
        "recipe-unknown-key",
        "8:5",
        "publish[0].visibilty: unknown key; did you mean visibility?",
    ),
    "an unknown key that is strange": (
        MINIMAL + f'tests: {{"a\\n{"b" * 1000}": 1}}\n',
        "recipe-unknown-key",
        "6:9",
        "tests.'a\\nbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb…: unknown key; known are boot, guest",
    ),
    "a very long text": (
        MINIMAL + f"description: {'a' * 100_000}\n",
        "recipe-invalid",
        "6:14",
        "description: should have at most 4096 characters",
    ),
    "lifecycle": (
        MINIMAL + "lifecycle: {keep: 3}\n",
        "recipe-unknown-key",
        "6:13",
        "lifecycle.keep: unknown key: nothing may stand here yet",
    ),
    "schedule": (
        MINIMAL + "schedule: daily\n",
        "recipe-unknown-key",
        "6:11",
        "schedule: means nothing in this version: leave it out",
    ),
    "no name": (MINIMAL.replace("name: tiny\n", ""), "recipe-invalid", "1:1", "name: is missing"),
    "no disk size": (MINIMAL.replace("size: 2 GiB", ""), "recipe-invalid", "4:1", "disk.size: is missing"),
    "a number as version": (
        MINIMAL.replace('"12"', "12"),
        "recipe-invalid",
        "2:31",
        "os.version: should be '12' or '13', in quotes",
    ),
    "a number as text": (MINIMAL + "display_name: 12\n", "recipe-invalid", "6:15", "display_name: should be text: put"),
    "another version": (
        MINIMAL.replace('"12"', '"11"'),
        "recipe-invalid",
        "2:31",
        "os.version: should be '12' or '13'",
    ),
    "the codename of another version": (
        MINIMAL.replace('"12"', '"13", codename: bookworm'),
        "recipe-invalid",
        "2:47",
        "os.codename: should be trixie, which is Debian 13",
    ),
    "another distro": (MINIMAL.replace("debian", "ubuntu"), "recipe-invalid", "2:14", "os.distro: should be 'debian'"),
    "another architecture": (
        MINIMAL.replace('"12"', '"12", arch: arm64'),
        "arch-unsupported",
        "2:43",
        "os.arch: 'arm64': images are made for amd64 only",
    ),
    "no unit": (MINIMAL.replace("2 GiB", "2048"), "recipe-unit", "4:14", "disk.size: 2048 has no unit: write a size"),
    "a wrong unit": (MINIMAL.replace("2 GiB", "2 GB"), "recipe-unit", "4:14", "disk.size: '2 GB': the units of a size"),
    "no unit of time": (
        MINIMAL + "tests:\n  boot:\n    timeout: 600\n",
        "recipe-unit",
        "8:14",
        "tests.boot.timeout: 600 has no unit: write a duration",
    ),
    "a small disk": (
        MINIMAL.replace("2 GiB", "511 MiB"),
        "recipe-invalid",
        "4:14",
        "disk.size: should be from 512 MiB",
    ),
    "a large disk": (
        MINIMAL.replace("2 GiB", "3 TiB"),
        "recipe-invalid",
        "4:14",
        "disk.size: should be from 512 MiB to",
    ),
    "half a MiB": (
        MINIMAL.replace("2 GiB", "1048577 KiB"),
        "recipe-invalid",
        "4:14",
        "disk.size: should be a multiple of 1 MiB, not 1048577 KiB",
    ),
    "an odd cluster size": (
        MINIMAL.replace("qcow2: {}", "qcow2: {cluster_size: 96 KiB}"),
        "recipe-invalid",
        "5:33",
        "formats.qcow2.cluster_size: should be a power of two, not 96 KiB",
    ),
    "firmware twice": (
        MINIMAL.replace("2 GiB", "2 GiB, firmware: [bios, bios]"),
        "recipe-invalid",
        "4:31",
        "disk.firmware: has 'bios' twice",
    ),
    "no firmware": (
        MINIMAL.replace("2 GiB", "2 GiB, firmware: []"),
        "recipe-invalid",
        "4:31",
        "disk.firmware: should have at least 1 item",
    ),
    "another layout": (
        MINIMAL.replace("2 GiB", "2 GiB, layout: lvm"),
        "recipe-invalid",
        "4:29",
        "disk.layout: should be 'single' or 'separate'",
    ),
    "sizes without file systems": (
        MINIMAL.replace("2 GiB", "8 GiB, sizes: {/var: 2 GiB}"),
        "recipe-invalid",
        "4:7",
        "disk: has sizes, which only the layout separate has a use for",
    ),
    "more than the disk": (
        MINIMAL.replace("2 GiB", "8 GiB, layout: separate, sizes: {/var: 5 GiB, /usr: 3 GiB}"),
        "recipe-invalid",
        "4:7",
        "disk: sizes are 8 GiB in all, on a disk of 8 GiB",
    ),
    "no such file system": (
        MINIMAL.replace("2 GiB", "8 GiB, layout: separate, sizes: {/vra: 5 GiB}"),
        "recipe-invalid",
        "4:46",
        "disk.sizes: '/vra' has no file system of its own; did you mean /var?",
    ),
    "a size of root": (
        MINIMAL.replace("2 GiB", "8 GiB, layout: separate, sizes: {/: 5 GiB}"),
        "recipe-invalid",
        "4:46",
        "disk.sizes: / takes what the others leave, and has no size of its own",
    ),
    "a file system too small to be one": (
        MINIMAL.replace("2 GiB", "8 GiB, layout: separate, sizes: {/srv: 8 MiB}"),
        "recipe-invalid",
        "4:53",
        "disk.sizes.'/srv': should be from 16 MiB to 2 TiB, not 8 MiB",
    ),
    "a file system without a unit": (
        MINIMAL.replace("2 GiB", "8 GiB, layout: separate, sizes: {/srv: 800}"),
        "recipe-unit",
        "4:53",
        "disk.sizes.'/srv': 800 has no unit",
    ),
    "no format": (
        MINIMAL.replace("qcow2: {}", ""),
        "recipe-invalid",
        "5:10",
        "formats: should have at least one of raw",
    ),
    "formats as a list": (
        MINIMAL.replace("{qcow2: {}}", "[qcow2]"),
        "recipe-invalid",
        "5:10",
        "formats: should be a mapping",
    ),
    "elements as text": (
        MINIMAL.replace("[soe-base]", "soe-base"),
        "recipe-invalid",
        "3:11",
        "elements: should be a list",
    ),
    "a bad package": (
        MINIMAL + "packages:\n  - curl\n  - Less\n",
        "recipe-invalid",
        "8:5",
        "packages[1]: should be the name of a Debian package",
    ),
    "a bad component": (
        MINIMAL + "repositories:\n  - uri: http://h/\n    suite: s\n    components: [main, a b]\n",
        "recipe-invalid",
        "9:24",
        "repositories[0].components[1]: should be a component",
    ),
    "a secret variable": (
        MINIMAL + "environment:\n  DB_PASSWORD: hunter2\n",
        "secret-in-recipe",
        "7:3",
        "environment.DB_PASSWORD: 'DB_PASSWORD' looks like the name of a secret",
    ),
    "a secret in a value": (
        MINIMAL + "environment:\n  SOURCE: https://joe:hunter2@h/\n",
        "secret-in-recipe",
        "7:11",
        "environment.SOURCE: has a URL with a user name or password in it",
    ),
    "a proxy with a password": (
        MINIMAL + "proxy: http://joe:hunter2@proxy:3128\n",
        "secret-in-recipe",
        "6:8",
        "proxy: has a URL with a user name or password in it",
    ),
    "both targets": (
        MINIMAL + "publish:\n  - {cloud: a, catalogue: b}\n",
        "recipe-invalid",
        "7:5",
        "publish[0]: should have either catalogue: PATH or cloud: NAME",
    ),
    "a reserved property": (
        MINIMAL + "properties: {os_glance_x: 1}\n",
        "recipe-invalid",
        "6:14",
        "properties.os_glance_x: 'os_glance_x' is reserved",
    ),
    "a property of a wrong form": (
        MINIMAL + "properties:\n  hw_video_model: qxl\n  provided_until: soon\n",
        "property-invalid",
        "8:19",
        "properties.provided_until: should be none, YYYY-MM-DD, notice, not 'soon'",
    ),
    "a cloud twice": (
        MINIMAL + "publish:\n  - cloud: a\n  - catalogue: b\n  - cloud: a\n",
        "recipe-invalid",
        "9:12",
        "publish[2].cloud: a is a target already",
    ),
    "a format that is not made": (
        MINIMAL + "publish:\n  - {cloud: a, format: raw}\n",
        "recipe-invalid",
        "7:24",
        "publish[0].format: should be one of the formats that are made: qcow2",
    ),
    "members of nothing": (
        MINIMAL + f"publish:\n  - {{cloud: a, members: [{'ab' * 16}]}}\n",
        "recipe-invalid",
        "7:",
        "publish[0]: members mean nothing where visibility is private, not shared",
    ),
    "no such key file": (
        MINIMAL + "repositories:\n  - {uri: 'http://h/', suite: s, components: [main], signed_by: no.asc}\n",
        "recipe-reference",
        "7:65",
        "there is no file ",
    ),
    "extends nothing": (MINIMAL + "extends:\n", "recipe-invalid", "6:1", "extends: should be a path from the folder"),
    "extends from the root": (
        MINIMAL + "extends: /a.yaml\n",
        "recipe-invalid",
        "6:10",
        "extends: should be a path from",
    ),
    "extends a list": (
        MINIMAL + "extends: [a]\n",
        "recipe-invalid",
        "6:10",
        "extends: should be a path from the folder",
    ),
    "extends what is not there": (MINIMAL + "extends: no.yaml\n", "recipe-not-found", "6:10", "there is no file "),
    "extends a folder": (MINIMAL + "extends: .\n", "recipe-unreadable", "6:10", ""),
    "extends itself": (MINIMAL + "extends: r.yaml\n", "recipe-extends-loop", "6:10", ""),
}


@pytest.mark.parametrize(("text", "code", "place", "message"), BAD.values(), ids=BAD)
def test_bad(tmp_path: Path, text: str | bytes, code: str, place: str, message: str) -> None:
    path = write(tmp_path, text)
    error = refused(path)
    assert (error.code, error.message[: len(f"{path}:{place}")]) == (code, f"{path}:{place}"), error.message
    assert error.message.removeprefix(f"{error.file}:{error.line}:{error.column}: ").startswith(message)
    assert "hunter2" not in error.message
