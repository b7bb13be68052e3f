"""Write the reference pages that are made from the code: recipe, command line, errors, properties, verification,
metrics, notifications.

`python -m docs.make_reference` writes them; with `--check` it changes nothing and exits with 1 when one is stale.
"""

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperOption

from docs import reference_text
from imagefactory import errors
from imagefactory.cli.app import VERBS, module_of
from imagefactory.cli.lazy import load
from imagefactory.errors import FactoryError
from imagefactory.model.notify import MailChannel, Notify, WebhookChannel
from imagefactory.model.properties import RULES
from imagefactory.model.property_forms import FORMS
from imagefactory.model.recipe import recipe_schema
from imagefactory.model.scs import MANDATORY, RECOMMENDED
from imagefactory.service import metrics
from imagefactory.steps import glance_verify, listed
from signing import certificates, checksums, envelope, glance, manifest, provenance, strict_json, trust, verify
from signing.errors import SigningError

REFERENCE = Path(__file__).parent / "reference"
MADE = "<!-- Made by python -m docs.make_reference. Edit the code, not this page. -->\n"
Schema = Mapping[str, Any]


def paragraph(text: str | None) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join(inspect.cleandoc(text or "").partition("\n\n")[0].split())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(row)} |" for row in (head, *(tuple(cell.replace("|", "\\|") for cell in r) for r in rows))]
    return [lines[0], "|" + "---|" * len(head), *lines[1:]]


# -- errors -----------------------------------------------------------------------------------------------------------


def signing_errors(root: type[SigningError] = SigningError) -> Iterator[type[SigningError]]:
    yield root
    for child in root.__subclasses__():
        yield from signing_errors(child)


def errors_page() -> Iterator[str]:
    yield from (MADE, reference_text.ERRORS)
    factory: list[tuple[str, int, str, str]] = [_error_row(kind) for kind in errors.catalogue(FactoryError)]
    signing = [(k.code, k.exit_code, paragraph(k.__doc__), k.advice) for k in signing_errors()]
    for title, rows in (("Of the factory", factory), ("Of signing and verification", signing)):
        shown = [(f'<a id="{code}"></a>`{code}`', str(status), what, do) for code, status, what, do in sorted(rows)]
        yield from (f"## {title}\n", *table(("code", "exit", "meaning", "what to do"), shown), "")


def _error_row(kind: type[FactoryError]) -> tuple[str, int, str, str]:
    return kind.code, kind.exit_code, paragraph(kind.__doc__), kind.default_advice or "see the message"


# -- the command line -------------------------------------------------------------------------------------------------


def commands() -> dict[str, TyperCommand]:
    """Every verb by its full name, such as "releases list", in the order of --help."""
    found: dict[str, TyperCommand] = {}
    for name in VERBS:
        command = load(module_of(name), name)
        inner = getattr(command, "commands", None)
        found |= {f"{name} {verb}": each for verb, each in inner.items()} if inner else {name: command}
    return found


def cli_page() -> Iterator[str]:
    yield from (MADE, reference_text.CLI)
    for name, command in commands().items():
        arguments = [each for each in command.params if isinstance(each, TyperArgument)]
        options = [each for each in command.params if isinstance(each, TyperOption)]
        words = [_placeholder(each) if each.required else f"[{_placeholder(each)}]" for each in arguments]
        words += [f"{each.opts[0]} {_placeholder(each)}" for each in options if each.required]
        yield from (f"## {name}\n", f"    imagefactory {' '.join([name, *words, '[OPTIONS]'])}\n")
        yield inspect.cleandoc(command.help or "") + "\n"
        rows = [(f"`{_placeholder(each)}`", each.help or "", "") for each in arguments]
        rows += [(f"`{_spelling(each)}`", each.help or "", _default(each)) for each in options]
        yield from (*table(("parameter", "", "default"), rows), "")
        yield f"{(command.epilog or '').replace('Example: ', 'Example: `')}`\n"


def _placeholder(parameter: TyperArgument | TyperOption) -> str:
    return str(parameter.metavar or (parameter.name or "").strip("_").upper())


def _spelling(option: TyperOption) -> str:
    return ", ".join(option.opts) if option.is_flag else f"{', '.join(option.opts)} {_placeholder(option)}"


def _default(option: TyperOption) -> str:
    if option.required:
        return "required"
    return "" if option.is_flag or option.default is None else f"`{option.default}`"


# -- the recipe -------------------------------------------------------------------------------------------------------


def recipe_page() -> Iterator[str]:
    yield from (MADE, reference_text.RECIPE)
    schema = recipe_schema()
    fields = {"extends": schema["properties"].pop("extends"), **schema["properties"]}
    required = schema["anyOf"][1]["required"]
    yield from ("## Fields\n", *_fields(fields, required), "")
    for name, part in schema["$defs"].items():
        if part["properties"]:
            yield from (f"## {name}\n", part["description"] + "\n")
            yield from (*_fields(part["properties"], part.get("required", ())), "")


def _fields(properties: Schema, required: Sequence[str]) -> list[str]:
    rows = [
        (f"`{key}`", _kind(field), "required" if key in required else _shown(field), paragraph(field["description"]))
        for key, field in properties.items()
    ]
    return table(("key", "holds", "default", "description"), rows)


_QUANTITIES = {"s?)$": "duration", "/s$": "rate", "$": "size"}


def _kind(field: Schema) -> str:
    kind = str(field.get("type"))
    if "$ref" in field:
        name = str(field["$ref"]).rpartition("/")[2]
        found = f"[{name}](#{name.lower()})" if recipe_schema()["$defs"][name]["properties"] else "nothing"
    elif alternatives := field.get("anyOf") or field.get("oneOf"):
        found = " or ".join(dict.fromkeys(_kind(each) for each in alternatives if each.get("type") != "null"))
    elif "enum" in field or "const" in field:
        found = ", ".join(f"`{each}`" for each in field.get("enum", [field.get("const")]))
    elif kind == "array":
        found = f"list of {_kind(field['items'])}"
    elif "examples" in field:
        found = next(name for end, name in _QUANTITIES.items() if str(field["pattern"]).endswith(end))
    else:
        found = {"string": "text", "integer": "whole number", "object": "mapping", "boolean": "true or false"}[kind]
    return found


def _shown(field: Schema) -> str:
    default = field.get("default")
    if isinstance(default, list) and default:
        return f"`[{', '.join(map(str, default))}]`"
    shown = isinstance(default, str | int) and not isinstance(default, bool)
    return f"`{default}`" if shown else ""


# -- properties -------------------------------------------------------------------------------------------------------


def properties_page() -> Iterator[str]:
    yield from (MADE, reference_text.PROPERTIES)
    head = ("property", "value", "from", "a recipe may write instead", "SCS-0102")
    proved = [
        (f"`{rule.key}`", rule.what, rule.source, rule.instead or "nothing else", _wanted(rule.key)) for rule in RULES
    ]
    yield from ("## What a build proves\n", *table(head, proved), "")
    yield reference_text.PROPERTIES_TYPED
    typed = [
        (f"`{key}`", form.what, reference_text.PROPERTY_DEFAULTS.get(key, ""), _wanted(key))
        for key, form in FORMS.items()
        if key not in {rule.key for rule in RULES}
    ]
    typed.append(("`image_description`", "text", reference_text.PROPERTY_DEFAULTS["image_description"], "mandatory"))
    yield from table(("property", "holds", "default", "SCS-0102"), sorted(typed))


def _wanted(key: str) -> str:
    return "mandatory" if key in MANDATORY else "recommended" if key in RECOMMENDED else ""


# -- verification -----------------------------------------------------------------------------------------------------

VERIFICATION = {"File, folder": verify, "Catalogue": listed, "Cloud": glance_verify}
DOCUMENTS = (trust, envelope, strict_json, manifest, checksums, glance, certificates, provenance)


def verification_page() -> Iterator[str]:
    yield from (MADE, reference_text.VERIFICATION)
    for title, module in VERIFICATION.items():
        yield from (f"### {title}\n", prose(module).partition("\n\n")[2])
    yield reference_text.VERIFICATION_DOCUMENTS
    for module in DOCUMENTS:
        yield from (f"### {module.__name__}\n", prose(module))


def prose(module: ModuleType) -> str:
    """A docstring as Markdown: where a literal block follows, one colon does."""
    lines = [line.replace(" ::", ":") for line in inspect.cleandoc(module.__doc__ or "").splitlines() if line != "::"]
    return "\n".join(lines) + "\n"


# -- watching ---------------------------------------------------------------------------------------------------------


def metrics_page() -> Iterator[str]:
    yield from (MADE, reference_text.METRICS)
    rows = [
        (f"`{each.name}`", each.kind, ", ".join(f"`{label}`" for label in each.labels), each.help)
        for each in metrics.ALL
    ]
    yield from (*table(("metric", "type", "labels", "says"), rows), "")
    asked = [(f"`{each.example.replace('X', each.name)}`", each.help) for each in metrics.ALL if each.example]
    yield from ("## What to ask\n", *table(("expression", "of"), asked))


def notifications_page() -> Iterator[str]:
    yield from (MADE, reference_text.NOTIFICATIONS)
    for title, part in (("The file", Notify), ("A webhook", WebhookChannel), ("Mail", MailChannel)):
        rows = [
            (f"`{key}`", "required" if field.is_required() else _fallback(field.default), field.description or "")
            for key, field in part.model_fields.items()
        ]
        yield from (f"## {title}\n", *table(("key", "default", "holds"), rows), "")


def _fallback(value: object) -> str:
    return f"`{value}`" if isinstance(value, str) else ""


PAGES = {
    "recipe.md": recipe_page,
    "cli.md": cli_page,
    "errors.md": errors_page,
    "properties.md": properties_page,
    "verification.md": verification_page,
    "metrics.md": metrics_page,
    "notifications.md": notifications_page,
}


def render(name: str) -> str:
    """The text of one page."""
    return "\n".join(PAGES[name]()).rstrip("\n") + "\n"


def main(arguments: Sequence[str]) -> int:
    stale = [name for name in PAGES if not _is_fresh(name)]
    if "--check" in arguments:
        for name in stale:
            sys.stderr.write(f"docs/reference/{name} is stale: run python -m docs.make_reference\n")
        return 1 if stale else 0
    REFERENCE.mkdir(exist_ok=True)
    for name in stale:
        (REFERENCE / name).write_text(render(name))
        sys.stdout.write(f"wrote docs/reference/{name}\n")
    return 0


def _is_fresh(name: str) -> bool:
    page = REFERENCE / name
    return page.is_file() and page.read_text() == render(name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
