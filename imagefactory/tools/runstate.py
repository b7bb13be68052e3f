"""The one life of a virtual machine, and which steps in it are legal."""

from collections.abc import Mapping
from enum import Enum


class Runstate(Enum):
    """Where a machine is in its one life."""

    IDLE = "not started yet"
    RUNNING = "running"
    OFF = "stopped by its guest"
    DEAD = "ended"


_LEGAL: Mapping[Runstate, frozenset[Runstate]] = {
    Runstate.IDLE: frozenset({Runstate.RUNNING}),
    Runstate.RUNNING: frozenset({Runstate.OFF, Runstate.DEAD}),
    Runstate.OFF: frozenset({Runstate.DEAD}),
    Runstate.DEAD: frozenset(),
}


class WrongState(Exception):
    """A machine was asked for something that it cannot do where it is: a mistake in the caller."""


def changed(name: str, old: Runstate, new: Runstate) -> Runstate:
    """The new state of the machine `name`. Raises WrongState when that cannot follow the old one."""
    if new not in _LEGAL[old]:
        raise WrongState(f"{name} is {old.value} and cannot become {new.value}")
    return new
