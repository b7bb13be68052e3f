"""imagefactory turns a recipe into a golden image for OpenStack that can prove where it came from."""

__version__ = "0.1.0"
