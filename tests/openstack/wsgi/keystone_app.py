"""Keystone for gunicorn. Keystone parses sys.argv when it is imported, and gunicorn's options are not its own."""

import sys

sys.argv = ["keystone"]

from keystone.wsgi.api import application  # noqa: E402

__all__ = ["application"]
