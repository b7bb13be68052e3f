"""The clock of a host beside that of the database, which everybody shares. Pure."""

from datetime import datetime, timedelta

from imagefactory.errors.service import HostClockOff
from signing.certificates import CLOCK_SKEW


def agree(host: datetime, database: datetime) -> bool:
    """Whether two clocks that were read at the same moment are so close that everybody believes what is signed by
    either. Both are aware."""
    return abs(host - database) <= CLOCK_SKEW


def require_agreed(host: datetime, database: datetime) -> None:
    """Raises HostClockOff unless two clocks agree."""
    if not agree(host, database):
        apart = timedelta(seconds=round(abs(host - database).total_seconds()))
        where = "ahead of" if host > database else "behind"
        raise HostClockOff(f"the clock of this host is {apart} {where} that of the database")
