"""What goes wrong with the servers of tests."""

from tests.openstack.errors import tail

__all__ = ("ServerError", "tail")


class ServerError(Exception):
    """A server could not be started, installed or asked; the message says what and shows the end of its log."""
