"""YAML text to a tree of values that know where they are written.

YAML 1.2's core types and no more: `no` and 12:30 are text, tags are refused, a key is a text and stands once. The tree
is built from the parser's events with a stack, so that nesting and aliases are counted before they cost anything.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
)
from ruamel.yaml.events import CollectionEndEvent as EndEvent

from imagefactory.errors import Place, RecipeInvalid, RecipeNotYaml, RecipeTooLarge
from imagefactory.model.quantity import shown

MAX_NODES: Final = 10_000  # with every alias written out
MAX_DEPTH: Final = 32  # levels of mappings and lists

_UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_CONTROL: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_INT: Final = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")

Scalar = None | bool | int | float | str


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it is written, `key` being where its key is.

    `total` counts nodes and `height` levels, aliases written out. `written` is the text before it was made a path.
    """

    value: "Scalar | tuple[Node, ...] | Mapping[str, Node]"
    at: Place
    key: Place | None = None
    total: int = 1
    height: int = 0
    written: str | None = None

    def child(self, part: str | int) -> "Node | None":
        """The value at a key or an index, None where there is none."""
        if isinstance(self.value, Mapping):
            return self.value.get(part) if isinstance(part, str) else None
        if isinstance(self.value, tuple) and isinstance(part, int) and 0 <= part < len(self.value):
            return self.value[part]
        return None

    def plain(self) -> Any:  # noqa: ANN401 - whatever the file holds
        """The value alone: None, bool, int, float, str, list, dict."""
        if isinstance(self.value, Mapping):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, tuple):
            return [child.plain() for child in self.value]
        return self.value

    def places(self, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Place]]:
        """The path and the place of this node and of every node in it."""
        yield path, self.at
        if isinstance(self.value, Mapping):
            for key, child in self.value.items():
                yield from child.places((*path, key))
        elif isinstance(self.value, tuple):
            for index, child in enumerate(self.value):
                yield from child.places((*path, index))


def read_tree(text: str, file: Path) -> Node:
    """The one document in `text`; `file` is named in errors (RecipeNotYaml, RecipeTooLarge, RecipeInvalid)."""
    if bad := _UNPRINTABLE.search(text):
        before = text[: bad.start()]
        place = Place(file, before.count("\n") + 1, bad.start() - before.rfind("\n"))
        raise RecipeNotYaml(f"the character U+{ord(bad[0]):04X} may not stand in YAML", at=place)
    builder = _Builder(file)
    for event in _events(text, file):
        builder.take(event)
    if builder.root is None:
        raise RecipeInvalid("the file is empty: a recipe is a mapping", at=Place(file, 1, 1))
    return builder.root


def _events(text: str, file: Path) -> Iterator[Event]:
    try:
        yield from YAML(typ="safe", pure=True).parse(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file, 1, 1)
        problem = " ".join(part for part in (error.context, error.problem) if isinstance(part, str))
        raise RecipeNotYaml(f"not YAML: {' '.join(problem[:200].split())}", at=place) from None
    except (YAMLError, ValueError, LookupError, AttributeError, AssertionError, NotImplementedError) as error:
        # The parser's own slips over hostile text.
        raise RecipeNotYaml(f"not YAML ({type(error).__name__})", at=Place(file, 1, 1)) from None


@dataclass
class _Open:
    """A mapping or list whose end has not come yet; `key` waits for its value."""

    at: Place
    anchor: str | None
    entries: dict[str, Node] | None
    items: list[Node] = field(default_factory=list)
    key: Node | None = None

    def closed(self) -> Node:
        """The node that it has become."""
        children = self.items if self.entries is None else list(self.entries.values())
        return Node(
            tuple(self.items) if self.entries is None else self.entries,
            self.at,
            total=1 + sum(child.total for child in children),
            height=1 + max((child.height for child in children), default=0),
        )


class _Builder:
    """Events in, a tree out."""

    def __init__(self, file: Path) -> None:
        self.root: Node | None = None
        self._file = file
        self._documents = 0
        self._stack: list[_Open] = []
        self._anchors: dict[str, Node] = {}
        self._total = 0

    def take(self, event: Event) -> None:
        """The next event."""
        at = Place(self._file, event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise RecipeInvalid("a second document begins here: a file holds one image", at=at)
        elif isinstance(event, AliasEvent):
            self._add(self._alias(event.anchor, at))
        elif isinstance(event, ScalarEvent):
            self._no_tag(event, at)
            self._count(1, at)
            node = Node(_scalar(event, at), at)
            self._remember(event.anchor, node)
            self._add(node)
        elif isinstance(event, MappingStartEvent | SequenceStartEvent):
            self._no_tag(event, at)
            self._count(1, at)
            self._depth(1, at)
            entries: dict[str, Node] | None = {} if isinstance(event, MappingStartEvent) else None
            self._stack.append(_Open(at, event.anchor, entries))
        elif isinstance(event, EndEvent):
            done = self._stack.pop()
            node = done.closed()
            self._remember(done.anchor, node)
            self._add(node)

    def _alias(self, anchor: str, at: Place) -> Node:
        if any(outer.anchor == anchor for outer in self._stack):
            raise RecipeInvalid(f"the alias {shown(anchor)} stands inside of what it means", at=at)
        node = self._anchors.get(anchor)
        if node is None:
            raise RecipeNotYaml(f"the alias {shown(anchor)} has no anchor before it", at=at)
        self._count(node.total, at)
        self._depth(node.height, at)
        return node

    def _remember(self, anchor: str | None, node: Node) -> None:
        if anchor is not None:
            self._anchors[anchor] = node

    def _count(self, nodes: int, at: Place) -> None:
        self._total += nodes
        if self._total > MAX_NODES:
            raise RecipeTooLarge(f"more than {MAX_NODES:,} values, aliases written out", at=at)

    def _depth(self, levels: int, at: Place) -> None:
        if len(self._stack) + levels > MAX_DEPTH:
            raise RecipeTooLarge(f"more than {MAX_DEPTH} levels of mappings and lists", at=at)

    def _no_tag(self, event: ScalarEvent | MappingStartEvent | SequenceStartEvent, at: Place) -> None:
        if event.tag is not None:
            raise RecipeNotYaml(f"the tag {shown(str(event.tag))} is not read: a recipe is plain data", at=at)

    def _add(self, node: Node) -> None:
        if not self._stack:
            self.root = node
            return
        outer = self._stack[-1]
        if outer.entries is None:
            outer.items.append(node)
        elif outer.key is None:
            outer.key = _checked_key(node, outer.entries)
        else:
            # The parser places a value that isn't there at whatever comes next.
            at = outer.key.at if node.value is None else node.at
            outer.entries[str(outer.key.value)] = replace(node, key=outer.key.at, at=at)
            outer.key = None


def _checked_key(node: Node, entries: Mapping[str, Node]) -> Node:
    if not isinstance(node.value, str):
        raise RecipeInvalid("a key should be text: put it in quotes", at=node.at)
    if node.value == "<<":
        raise RecipeInvalid("merge keys are not read: use extends, or write it out", at=node.at)
    if node.value in entries:
        first = entries[node.value].key or node.at
        raise RecipeInvalid(f"the key {shown(node.value)} is here twice: first in line {first.line}", at=node.at)
    return node


def _scalar(event: ScalarEvent, at: Place) -> Scalar:
    text = str(event.value)
    if _CONTROL.search(text):
        raise RecipeInvalid("a text should not hold control characters", at=at)
    if event.style:  # in quotes or a block
        return text
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        if len(text) > 18:
            raise RecipeInvalid(f"{shown(text)} is too large for a number: put it in quotes if it is text", at=at)
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _FLOAT.fullmatch(text):
        return float(text)
    return float(text.replace(".", "")) if _INFINITE.fullmatch(text) else text
