"""CycloneDX, by its own library: bills of materials are written by its model and judged by its strict schema.

Version 1.6 (ECMA-424): nothing of ours needs a later one, and every scanner that reads CycloneDX reads it.
"""

import sys
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.contact import OrganizationalEntity
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion

from imagefactory.errors import SbomInvalid
from imagefactory.model.packages import Installed
from imagefactory.model.recipe import OperatingSystem
from imagefactory.model.sbom import MAX_SBOM
from imagefactory.tools.spdx import spdx
from signing.errors import DocumentInvalid
from signing.strict_json import decode

if TYPE_CHECKING:
    from cyclonedx.validation.json import JsonStrictValidator

VERSION = SchemaVersion.V1_6
SOURCE = "imagefactory:deb:source"  # the property that has the package URL of the source package


def write(
    name: str, os: OperatingSystem, packages: Iterable[Installed], serial: UUID, time: datetime
) -> dict[str, Any]:
    """The bill of materials of the image `name`, as plain values: a component for the operating system, and one for
    each package. Equal arguments give equal values. Raises SbomInvalid."""
    image = Component(name=name, type=ComponentType.CONTAINER, bom_ref="image", description="virtual machine image")
    system = Component(name=os.distro, version=os.version, type=ComponentType.OPERATING_SYSTEM, bom_ref="os")
    components = [system, *(_component(each, os) for each in packages)]
    bom = Bom(
        components=components, serial_number=serial, metadata=BomMetaData(component=image, timestamp=time, tools=())
    )
    bom.register_dependency(image, components)
    return validate(JsonV1Dot6(bom).output_as_string().encode())


def validate(raw: bytes) -> dict[str, Any]:
    """What the bytes of a bill of materials say, if they are strictly valid CycloneDX 1.6. Raises SbomInvalid."""
    try:
        document = decode(raw, "the bill of materials", most=MAX_SBOM)
    except DocumentInvalid as error:
        raise SbomInvalid(error.message) from error
    # The schema of a version does not ask for the number of that version.
    if document.get("specVersion") != VERSION.to_version():
        raise SbomInvalid(f"the bill of materials is not CycloneDX {VERSION.to_version()}")
    wrong = _validator().validate_str(raw.decode())
    if wrong is not None:
        raise SbomInvalid(f"the bill of materials is not valid CycloneDX: {str(wrong.data.message)[:200]}")
    return document


def _validator() -> "JsonStrictValidator":
    # jsonschema would judge IRIs by a general parser, whose grammar takes a second to prepare, whether there are any or
    # not, and which takes far longer for a long one. What is imported here has a check of its own.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    from imagefactory.tools.cyclonedx_schema import validator  # noqa: PLC0415

    return validator(VERSION)


def _component(package: Installed, os: OperatingSystem) -> Component:
    purl = package.package.purl(os.distro, os.codename)
    return Component(
        name=package.package.name,
        version=package.package.version,
        # What a package is, nobody says; the specification wants "library" then.
        type=ComponentType.LIBRARY,
        bom_ref=purl.to_string(),
        purl=purl,
        supplier=OrganizationalEntity(name=package.maintainer) if package.maintainer else None,
        licenses=_licences(package.licences),
        properties=[Property(name=SOURCE, value=package.source.purl(os.distro, os.codename).to_string())],
    )


def _licences(names: tuple[str, ...]) -> list[License]:
    """One SPDX id or expression where all is known to SPDX; else each licence by its id or its name."""
    factory = LicenseFactory()
    expressions = [spdx(name) for name in names]
    known = sorted({each for each in expressions if each is not None})
    if known and None not in expressions:
        parts = known if len(known) == 1 else [f"({each})" if " " in each else each for each in known]
        text = " AND ".join(parts)
        return [factory.make_with_expression(text) if " " in text else factory.make_with_id(text)]
    return [
        factory.make_with_id(expression) if expression and " " not in expression else factory.make_with_name(name)
        for name, expression in zip(names, expressions, strict=True)
    ]
