"""Each recipe that ships is built by a test: two for all of them, the others, which take longer, in soak."""

from pathlib import Path

import pytest

from tests.integration.homes import BUILD_TIMEOUT, HARDENED, RECIPE, ROOT, imagefactory

OTHERS = sorted(path for path in (ROOT / "recipes").glob("*.yaml") if path not in {RECIPE, HARDENED})


@pytest.mark.soak
@pytest.mark.parametrize("recipe", OTHERS, ids=lambda path: path.stem)
def test_a_recipe_that_ships(recipe: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert imagefactory(home, "keys", "init", "--development").status == 0
    built = imagefactory(home, "build", recipe, "--json", timeout=BUILD_TIMEOUT)
    assert built.status == 0, built.stderr
    again = imagefactory(home, "build", recipe, "--json")
    assert (again.status, again.document["unchanged"]) == (0, True), again.stderr
    verified = imagefactory(home, "verify", f"catalogue:{home}/catalogue/{recipe.stem}", "--json")
    assert verified.document["verified"]["name"] == recipe.stem
