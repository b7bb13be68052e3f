"""Clouds, through openstacksdk: the only place that imports it. Loaded only when a cloud is named."""

from imagefactory.errors import ExtraMissing

try:
    import openstack.config  # noqa: F401 - whether it is there
except ModuleNotFoundError as missing:
    raise ExtraMissing(
        f"clouds need openstacksdk: {missing}", advice="pip install 'imagefactory[openstack]'"
    ) from missing
