"""What an image claims about itself elsewhere, and who may see it."""

from pathlib import Path

from imagefactory.errors.base import Refused
from imagefactory.errors.recipes import Place, RecipeError


class _Written(Refused):
    """Something in a valid recipe is refused. The message begins with file:line:column where there is a place."""

    def __init__(
        self,
        message: str,
        *,
        at: Place | None = None,
        advice: str | None = None,
        log: Path | None = None,
        lines: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message if at is None else f"{at}: {message}", advice=advice, log=log, lines=lines)


class PropertyInvalid(RecipeError):
    """The value of a property has a form that nobody understands."""

    code = "property-invalid"
    default_advice = "docs/reference/properties.md says which values each property may have"


class PropertyContradicted(_Written):
    """A property claims something else than what was proved, or than what the rest of the recipe says."""

    code = "property-contradicted"
    default_advice = "leave the property out: it is written from what was proved"


class PropertiesIncomplete(Refused):
    """Properties that SCS-0102 makes mandatory are missing, or have values that it does not allow."""

    code = "properties-incomplete"
    default_advice = "write them below properties: in the recipe; docs/reference/properties.md describes each"


class VisibilityRefused(_Written):
    """An image of this kind may not be shown to everybody."""

    code = "visibility-refused"
    default_advice = "publish it with visibility private or shared"
