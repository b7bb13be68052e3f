"""House rules that import-linter has no words for."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import signing

TOP = Path(__file__).parents[2]
SOURCES = sorted(path for room in ("imagefactory", "signing") for path in (TOP / room).rglob("*.py"))
LONGEST_MODULE = 400  # lines
LONGEST_FUNCTION = 60
LARGEST_CORE = 2000  # lines of code in signing/
NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}
# Lists, not code: there is no second thing hiding in them.
LISTS = ("imagefactory/store/migrations/",)

# Where a name may be used. Everybody else gets what it stands for as an argument.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "os.environ": ("imagefactory/settings.py", "signing/command.py"),
    "os.getenv": (),
    "os.putenv": (),
    "sys.exit": ("imagefactory/cli/", "imagefactory/hands/", "imagefactory/service/step.py", "signing/command.py"),
    "os._exit": ("imagefactory/cli/worker.py", "imagefactory/hands/", "imagefactory/store/leases.py"),
    "os.abort": (),
    "sys.argv": ("imagefactory/cli/", "signing/command.py"),
    "sys.stdin": ("imagefactory/hands/", "imagefactory/cli/session.py"),  # requests; is somebody at a terminal
    "sys.stdout": ("imagefactory/cli/", "imagefactory/hands/", "signing/command.py"),
    "sys.stderr": ("imagefactory/cli/", "signing/command.py"),
    "os.system": (),
    "os.popen": (),
    "os.fork": (),
    "os.execv": (),
    "os.execve": (),
    "os.execvp": (),
    "os.chdir": (),
    "os.umask": (),
}
NAMES_ONLY_IN: dict[str, tuple[str, ...]] = {
    "print": (),
    "input": (),
    "breakpoint": (),
    "exit": (),
    "quit": (),
    "eval": (),
    "exec": (),
    "SystemExit": ("imagefactory/cli/",),
}


@dataclass(frozen=True)
class Module:
    """One source file, parsed."""

    name: str
    tree: ast.Module
    lines: int


def modules() -> Iterator[Module]:
    for path in SOURCES:
        text = path.read_text()
        yield Module(path.relative_to(TOP).as_posix(), ast.parse(text), len(text.splitlines()))


MODULES = list(modules())


def used(module: Module) -> Iterator[tuple[str, int]]:
    """The names that a module uses, `os.environ` and `print` alike, with their lines."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}", node.lineno
        elif isinstance(node, ast.Name):
            yield node.id, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module in {"os", "sys"}:
            yield from ((f"{node.module}.{each.name}", node.lineno) for each in node.names)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_names_stay_in_their_rooms(module: Module) -> None:
    allowed = {**ONLY_IN, **NAMES_ONLY_IN}
    wrong = [
        f"{name} in line {line}" for name, line in used(module) if not module.name.startswith(allowed.get(name, ""))
    ]
    assert wrong == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_modules_and_functions_are_short(module: Module) -> None:
    if module.name.startswith(LISTS):
        return
    assert module.lines <= LONGEST_MODULE
    functions = [node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_modules_and_public_things_say_what_they_are(module: Module) -> None:
    assert not module.tree.body or ast.get_docstring(module.tree), "a module begins by saying what it is"
    public = [
        node
        for node in module.tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")
    ]
    silent = [node.name for node in public if not ast.get_docstring(node) and node.name not in OBVIOUS]
    assert silent == []


def test_signing_can_be_read_in_an_hour() -> None:
    """Lines of code, without comments and docstrings."""
    assert sum(code_lines(path) for path in SOURCES if path.is_relative_to(TOP / "signing")) < LARGEST_CORE


def code_lines(path: Path) -> int:
    source = path.read_text()
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            code.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            code.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(code)


# What the name and the signature say already: handlers of a hand, migrations, registration of verbs.
OBVIOUS = {
    "build_rootfs",
    "build_disk",
    "build_version",
    "check_order",
    "downgrade",
    "list_packages",
    "register",
    "release_version",
    "sign_release",
    "upgrade",
}


def test_no_program_sees_a_shell() -> None:
    found = [
        f"{module.name}:{node.value.lineno}"
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.keyword) and node.arg == "shell"
    ]
    assert found == []


def test_the_rules_are_not_about_nothing() -> None:
    assert len(MODULES) > 80
    assert any("os.environ" in dict(used(module)) for module in MODULES)


def test_the_room_signing_lists_its_modules() -> None:
    listed = re.findall(r"`(\w+)`", "\n".join(re.findall(r"^`.*?  ", signing.__doc__ or "", re.MULTILINE)))
    modules = [path.stem for path in Path(signing.__file__).parent.glob("*.py") if path.stem != "__init__"]
    assert sorted(listed) == sorted(modules)
