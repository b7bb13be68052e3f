"""The service: its database, its broker, its store, and what its workers may not do."""

from imagefactory.errors.base import RemoteError


class DatabaseUnreachable(RemoteError):
    """The database of the service does not answer."""

    code = "database-unreachable"
    default_advice = "see whether PostgreSQL runs, and what IMAGEFACTORY_DATABASE says"


class BrokerUnreachable(RemoteError):
    """The broker of the service does not answer."""

    code = "broker-unreachable"
    default_advice = "see whether RabbitMQ runs, and what IMAGEFACTORY_BROKER says"
