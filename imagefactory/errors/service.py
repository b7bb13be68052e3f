"""The service: its database, its broker, and what becomes of jobs."""

from imagefactory.errors.base import Refused, RemoteError


class DatabaseUnreachable(RemoteError):
    """The database of the service does not answer."""

    code = "database-unreachable"
    default_advice = "see whether PostgreSQL runs, and what IMAGEFACTORY_DATABASE says"


class BrokerUnreachable(RemoteError):
    """The broker of the service does not answer."""

    code = "broker-unreachable"
    default_advice = "see whether RabbitMQ runs, and what IMAGEFACTORY_BROKER says"


class JobUnknown(Refused):
    """There is no such job, or more than one."""

    code = "job-unknown"
    default_advice = "imagefactory builds list"


class TaskLost(RemoteError):
    """A worker did not end a task: it died, or somebody else has the task now."""

    code = "task-lost"
    default_advice = "look at the log of that worker; imagefactory builds retry JOB begins again where it was"
