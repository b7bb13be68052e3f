"""The service: its database, its broker, and what becomes of jobs."""

from imagefactory.errors.base import HostError, Refused, RemoteError, UsageError


class DatabaseUnreachable(RemoteError):
    """The database of the service does not answer, or cannot do anything now."""

    code = "database-unreachable"
    default_advice = "see whether PostgreSQL runs, and what IMAGEFACTORY_DATABASE says"


class DatabaseRefused(RemoteError):
    """The database of the service does not let us in, or not do what we have to."""

    code = "database-refused"
    default_advice = "see the user and the database in IMAGEFACTORY_DATABASE, its password, and what it was granted"


class SchemaOlder(RemoteError):
    """The tables in the database of the service are of an earlier version, or not there yet."""

    code = "schema-older"
    default_advice = "run imagefactory service init, which brings them up to date"


class SchemaNewer(RemoteError):
    """The tables in the database of the service are of a later version."""

    code = "schema-newer"
    default_advice = "update imagefactory on this host"


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


class BrokerRefused(RemoteError):
    """The broker of the service lets us in not at all, or not do what we have to."""

    code = "broker-refused"
    default_advice = (
        "see what IMAGEFACTORY_BROKER and the file in IMAGEFACTORY_BROKER_PASSWORD_FILE say, and what the user may do"
    )


class StoreUnusable(RemoteError):
    """The artifact store that workers share cannot be reached, read or written."""

    code = "store-unusable"
    default_advice = "see what IMAGEFACTORY_STORE says, who may write there, and whether it is full"


class StoreDamaged(Refused):
    """What the shared artifact store has under a digest are other bytes."""

    code = "store-damaged"
    default_advice = "remove it from the store; what is built again with --fresh, or uploaded again, replaces it"


class LeaseLost(RemoteError):
    """What only one may do was stopped: its lease in the database could not be renewed, and others may have it now."""

    code = "lease-lost"
    default_advice = "see whether the database could be reached; what was finished is kept, so do it again"


class RoleSilent(RemoteError):
    """No worker of another role began with what it was asked for."""

    code = "role-silent"
    default_advice = "start a worker of that role, or look at its log; imagefactory builds retry JOB goes on afterwards"


class Overprivileged(HostError):
    """A worker is to start with more than its role needs: keys, credentials of clouds, or root."""

    code = "overprivileged"
    default_advice = "give each role an account and a home of its own: imagefactory keys provision ROLE HOME"


class HostClockOff(RemoteError):
    """The clock of this host is too far from that of the service's database: what it signs would have a wrong time."""

    code = "host-clock-off"
    default_advice = (
        "synchronise the clocks of this host and of the database's, with chrony for instance: timedatectl says whether "
        "that is done"
    )


class NotifyInvalid(UsageError):
    """What says who is told of events cannot be used: the file itself, or a file with a secret that it names."""

    code = "notify-invalid"
    default_advice = "docs/reference/notifications.md describes every key"


class NotifyUnreachable(RemoteError):
    """Somebody who is to be told of an event does not answer, or cannot take it now."""

    code = "notify-unreachable"
    default_advice = "it is sent again; see whether the receiver runs, and what IMAGEFACTORY_NOTIFY says"


class NotifyRefused(RemoteError):
    """Somebody who is to be told of an event does not take it, and will not later."""

    code = "notify-refused"
    default_advice = "see the address, the certificate, the secret or password of that receiver"


class WatchUnusable(HostError):
    """The address at which a process is to answer for its health cannot be listened at."""

    code = "watch-unusable"
    default_advice = "see whether something else listens there, and whether the address is this machine's"


class ScheduleUnknown(UsageError):
    """Nothing of that name is built by a schedule."""

    code = "schedule-unknown"
    default_advice = "imagefactory schedule list names those that are; imagefactory schedule add RECIPE adds one"


class ScheduleMissing(UsageError):
    """A recipe does not say when it is built again."""

    code = "schedule-missing"
    default_advice = 'give the recipe the key schedule, such as schedule: {cron: "30 2 * * 1"}'


class SchedulePaused(Refused):
    """A schedule is paused: nothing of it runs."""

    code = "schedule-paused"
    default_advice = "imagefactory schedule resume NAME"
