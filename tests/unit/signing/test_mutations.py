"""Any single mutation of any signed file is refused, by an error of ours; many more of them in the soak test.

A trust file is not signed: a mutation of it is refused, or means the very same.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import assume, given, seed, settings
from hypothesis import strategies as st

from signing.errors import SigningError, TrustInvalid
from signing.trust import Trust, decode_trust
from signing.verify import verify_folder
from tests.conformance.attacks.corpus import write_folder
from tests.conformance.attacks.workshop import Workshop
from tests.unit.signing.builders import NAME, NOW

KINDS = ("flip", "insert", "delete", "duplicate", "truncate")


@dataclass(frozen=True)
class Mutation:
    """One change of some bytes. `place` and `length` are fractions of what there is, so that they fit every file."""

    kind: str
    place: float
    length: float
    byte: int

    def of(self, raw: bytes) -> bytes:
        at = int(self.place * len(raw))
        some = 1 + int(self.length * min(40, len(raw)))
        if self.kind == "flip":
            return raw[:at] + bytes((raw[at] ^ 1 << self.byte % 8,)) + raw[at + 1 :] if raw else b"\0"
        if self.kind == "insert":
            return raw[:at] + bytes((self.byte,)) + raw[at:]
        if self.kind == "delete":
            return raw[:at] + raw[at + some :]
        if self.kind == "duplicate":
            return raw[: at + some] + raw[at:]
        return raw[:at]


fractions = st.floats(0, 1, exclude_max=True, allow_nan=False)
mutations = st.builds(Mutation, st.sampled_from(KINDS), fractions, fractions, st.integers(0, 255))


@dataclass(frozen=True)
class Published:
    """A release folder that is good as it stands, and the trust with which it is."""

    folder: Path
    trust: Trust
    trust_file: bytes
    files: dict[str, bytes]

    def verify(self) -> None:
        verify_folder(self.folder, self.trust, now=NOW, name=NAME)

    def refused_with(self, **contents: bytes) -> bool:
        """Whether the folder is refused when these files hold something else; it is as before afterwards."""
        for name, content in contents.items():
            (self.folder / name).write_bytes(content)
        try:
            self.verify()
        except SigningError:
            return True
        finally:
            for name in contents:
                (self.folder / name).write_bytes(self.files[name])
        return False


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    shop, folder = Workshop(), tmp_path_factory.mktemp("published") / "release"
    write_folder(shop, folder, shop.release_files())
    files = {each.name: each.read_bytes() for each in folder.iterdir()}
    made = Published(folder, shop.trust, shop.trust.encode(), files)
    made.verify()
    yield made
    made.verify()


def check_file(published: Published, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(published.files)))
    mutated = data.draw(mutations).of(published.files[name])
    assume(mutated != published.files[name])
    assert published.refused_with(**{name: mutated}), f"{name} was accepted"


def check_exchange(published: Published, data: st.DataObject) -> None:
    one, other = data.draw(st.permutations(sorted(published.files)))[:2]
    assert published.refused_with(**{one: published.files[other], other: published.files[one]}), f"{one} for {other}"


def check_copy(published: Published, data: st.DataObject) -> None:
    one, other = data.draw(st.permutations(sorted(published.files)))[:2]
    assert published.refused_with(**{one: published.files[other]}), f"{other} in the place of {one}"


def meaning(trust: Trust) -> object:
    """What a trust file says. Of a CA that is what it signed: its signature says nothing, and has several spellings.
    Image names are not here: nothing protects the letters of a name in a file that nobody signs."""
    return (
        trust.development,
        set(trust.release),
        set(trust.provenance),
        {ca.tbs_certificate_bytes for ca in trust.glance_ca},
    )


def check_trust(published: Published, data: st.DataObject) -> None:
    mutated = data.draw(mutations).of(published.trust_file)
    try:
        trust = decode_trust(mutated)
    except TrustInvalid:
        return
    assert meaning(trust) == meaning(published.trust), "a mutation that means something else"


CHECKS: dict[str, tuple[Callable[[Published, st.DataObject], None], int]] = {
    "file": (check_file, 250),
    "exchange": (check_exchange, 30),
    "copy": (check_copy, 30),
    "trust": (check_trust, 250),
}


@pytest.mark.parametrize(("check", "examples"), CHECKS.values(), ids=CHECKS)
def test_any_mutation_is_refused(
    published: Published, check: Callable[[Published, st.DataObject], None], examples: int
) -> None:
    settings(max_examples=examples, deadline=None)(given(st.data())(lambda data: check(published, data)))()


@pytest.mark.soak
@pytest.mark.parametrize(("check", "examples"), CHECKS.values(), ids=CHECKS)
def test_very_many_mutations_are_refused(
    published: Published,
    check: Callable[[Published, st.DataObject], None],
    examples: int,
    dice: random.Random,
) -> None:
    """With the dice of --seed, which the header shows."""
    run = given(st.data())(lambda data: check(published, data))
    settings(max_examples=40 * examples, deadline=None, database=None)(seed(dice.getrandbits(64))(run))()


def test_every_single_bit_of_the_trust_file(published: Published) -> None:
    """Not drawn: each of them."""
    raw = published.trust_file
    for at in range(len(raw)):
        for bit in range(8):
            trust = _decoded(raw[:at] + bytes((raw[at] ^ 1 << bit,)) + raw[at + 1 :])
            assert trust is None or meaning(trust) == meaning(published.trust), f"bit {bit} of byte {at}"


def _decoded(raw: bytes) -> Trust | None:
    try:
        return decode_trust(raw)
    except TrustInvalid:
        return None
