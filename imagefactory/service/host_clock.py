"""The wall clock of this host, as far as it can be trusted: held against what the database said last."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from imagefactory.model.clock import agree, require_agreed
from imagefactory.store.leases import since_start


def wall() -> datetime:
    """Now, as this host has it."""
    return datetime.now(UTC)


@dataclass
class HostClock:
    """Between two times that the database said, time is counted by a clock that nobody sets; so a jump is seen without
    asking. Whoever has heard nothing yet sees none. Threads may share it."""

    wall: Callable[[], datetime] = wall
    steady: Callable[[], float] = since_start
    _heard: tuple[datetime, float] | None = field(default=None, init=False)

    def hear(self, said: datetime, asked: float) -> None:
        """The database said this time, UTC, when it was asked at a time of `steady`: half of the way there and back is
        over since then."""
        self._heard = (said.replace(tzinfo=UTC), (asked + self.steady()) / 2)

    def ask(self, database: Callable[[], datetime]) -> None:
        """Ask the database for its time. Raises what that raises."""
        asked = self.steady()
        self.hear(database(), asked)

    @property
    def right(self) -> bool:
        """Whether it agrees with the database's, now."""
        return agree(*self._both())

    def require(self) -> None:
        """Raises HostClockOff when it does not."""
        require_agreed(*self._both())

    def _both(self) -> tuple[datetime, datetime]:
        host = self.wall()
        if self._heard is None:
            return host, host
        said, at = self._heard
        return host, said + timedelta(seconds=self.steady() - at)
